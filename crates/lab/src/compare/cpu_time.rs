//! CPU time of this program and of the whole machine.

use std::fs;

use anyhow::{Context, Result};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use nix::unistd::{SysconfVar, sysconf};

use super::result::Cpu;

/// CPU time since the start of the machine, and of this program.
pub fn now() -> Result<Cpu> {
    let text = fs::read_to_string("/proc/stat").context("cannot read /proc/stat")?;
    let ticks_per_s = sysconf(SysconfVar::CLK_TCK)?.unwrap_or(100).max(1) as u64;
    let machine = parse(&text, ticks_per_s).context("cannot parse /proc/stat")?;
    let usage = getrusage(UsageWho::RUSAGE_SELF)?;
    let own = usage.user_time() + usage.system_time();
    let kernel_ns = kernel_threads() * (1_000_000_000 / ticks_per_s);
    Ok(Cpu { own_ns: own.num_microseconds() as u64 * 1000, kernel_ns, ..machine })
}

/// Ticks of all kernel threads except ksoftirqd, whose ticks are already counted as softirqs.
fn kernel_threads() -> u64 {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let is_process = |entry: &fs::DirEntry| entry.file_name().as_encoded_bytes()[0].is_ascii_digit();
    let stats = processes.filter(is_process).filter_map(|entry| fs::read(entry.path().join("stat")).ok());
    stats.filter_map(|stat| of_kernel_thread(&String::from_utf8_lossy(&stat))).sum()
}

/// The ticks in a line of /proc/PID/stat if it is such a thread. Flags, user and system time follow the name.
fn of_kernel_thread(stat: &str) -> Option<u64> {
    const PF_KTHREAD: u64 = 0x0020_0000;
    let (name, rest) = stat.rsplit_once(") ")?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
    let is_kernel_thread = number(6)? & PF_KTHREAD != 0 && !name.contains("(ksoftirqd/");
    is_kernel_thread.then_some(number(11)? + number(12)?)
}

/// The total of all CPUs in /proc/stat: user, nice, system, idle, iowait, irq, softirq, in ticks.
fn parse(stat: &str, ticks_per_s: u64) -> Option<Cpu> {
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let ticks: Vec<u64> = line.split_whitespace().map_while(|number| number.parse().ok()).collect();
    let [user, nice, system, _idle, _iowait, irq, softirq, ..] = ticks[..] else { return None };
    let ns = |ticks: u64| ticks * (1_000_000_000 / ticks_per_s);
    Some(Cpu {
        busy_ns: ns(user + nice + system + irq + softirq),
        interrupts_ns: ns(irq + softirq),
        kernel_ns: 0,
        own_ns: 0,
    })
}

impl Cpu {
    /// The CPU time of the traffic: this program, kernel threads and interrupts. With tick-based accounting,
    /// interrupts are counted in the interrupted program's time too, so the machine's busy time is an upper bound. The
    /// program's own time, which is exact, is a lower bound: a virtual machine may miss ticks.
    pub fn used_ns(self) -> u64 {
        self.busy_ns.min(self.own_ns + self.interrupts_ns + self.kernel_ns).max(self.own_ns)
    }

    /// The CPU time since `before`.
    pub fn since(self, before: Cpu) -> Cpu {
        Cpu {
            busy_ns: self.busy_ns.saturating_sub(before.busy_ns),
            interrupts_ns: self.interrupts_ns.saturating_sub(before.interrupts_ns),
            kernel_ns: self.kernel_ns.saturating_sub(before.kernel_ns),
            own_ns: self.own_ns.saturating_sub(before.own_ns),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_total_line_is_parsed() {
        let stat = "cpu  10 1 20 5000 7 2 3 0 0 0\ncpu0 5 0 10 2500 3 1 1 0 0 0\nintr 1\n";
        let cpu = parse(stat, 100).unwrap();
        assert_eq!((cpu.busy_ns, cpu.interrupts_ns), (360_000_000, 50_000_000));
        assert!(parse("cpu  1 2\n", 100).is_none() && parse("", 100).is_none());
    }

    #[test]
    fn kernel_threads_are_distinguished_from_programs() {
        let line =
            |name: &str, flags: u64| format!("7 ({name}) S 2 0 0 0 -1 {flags} 0 0 0 0 30 12 0 0 20 0 1 0");
        assert_eq!(of_kernel_thread(&line("kworker/0:1 (x) y", 0x0420_8060)), Some(42));
        assert_eq!(of_kernel_thread(&line("ksoftirqd/1", 0x0420_8040)), None);
        assert_eq!(of_kernel_thread(&line("bash", 0x0040_0100)), None);
    }

    #[test]
    fn used_time_is_between_own_and_busy_time() {
        let cpu = |busy_ns, own_ns| Cpu { busy_ns, own_ns, interrupts_ns: 20, kernel_ns: 5 }.used_ns();
        assert_eq!((cpu(1000, 50), cpu(60, 50), cpu(30, 50)), (75, 60, 50));
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
