//! CPU time, of this program and of the whole machine.

use std::fs;

use anyhow::{Context, Result};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use nix::unistd::{SysconfVar, sysconf};

use super::Cpu;

/// CPU time since the machine's, and this program's, beginning.
pub fn now() -> Result<Cpu> {
    let text = fs::read_to_string("/proc/stat").context("cannot read /proc/stat")?;
    let ticks_per_s = sysconf(SysconfVar::CLK_TCK)?.unwrap_or(100).max(1) as u64;
    let machine = parse(&text, ticks_per_s).context("/proc/stat is not as expected")?;
    let usage = getrusage(UsageWho::RUSAGE_SELF)?;
    let own = usage.user_time() + usage.system_time();
    Ok(Cpu { own_ns: own.num_microseconds() as u64 * 1000, ..machine })
}

/// The line of all CPUs: user, nice, system, idle, iowait, irq, softirq, in ticks.
fn parse(stat: &str, ticks_per_s: u64) -> Option<Cpu> {
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let ticks: Vec<u64> = line.split_whitespace().map_while(|number| number.parse().ok()).collect();
    let [user, nice, system, _idle, _iowait, irq, softirq, ..] = ticks[..] else { return None };
    let ns = |ticks: u64| ticks * (1_000_000_000 / ticks_per_s);
    Some(Cpu {
        busy_ns: ns(user + nice + system + irq + softirq),
        interrupts_ns: ns(irq + softirq),
        own_ns: 0,
    })
}

impl Cpu {
    /// What was used since `before`.
    pub fn since(self, before: Cpu) -> Cpu {
        Cpu {
            busy_ns: self.busy_ns.saturating_sub(before.busy_ns),
            interrupts_ns: self.interrupts_ns.saturating_sub(before.interrupts_ns),
            own_ns: self.own_ns.saturating_sub(before.own_ns),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machines_line_is_read() {
        let stat = "cpu  10 1 20 5000 7 2 3 0 0 0\ncpu0 5 0 10 2500 3 1 1 0 0 0\nintr 1\n";
        let cpu = parse(stat, 100).unwrap();
        assert_eq!((cpu.busy_ns, cpu.interrupts_ns), (360_000_000, 50_000_000));
        assert!(parse("cpu  1 2\n", 100).is_none() && parse("", 100).is_none());
    }

    #[test]
    fn work_is_counted() {
        let before = now().unwrap();
        let mut number = 0u64;
        while now().unwrap().since(before).own_ns == 0 && number < 1 << 30 {
            number = std::hint::black_box(number + 1);
        }
        assert!(now().unwrap().since(before).own_ns > 0);
    }
}
