//! `cargo xtask bench requests`: how much later requests are answered while they are traced, at half of the rate at
//! which the machine can answer them.

use std::{
    ffi::OsString,
    fs,
    path::Path,
    process::{Command, ExitCode},
};

use anyhow::{Context, Result, ensure};
use clap::Args;

use super::{
    guest::{LAB, json, read, text},
    median,
};
use crate::{
    build_ebpf, host,
    vm::{self, VmOptions},
};

/// More requests per second than the guest can answer.
const TOO_MANY: &str = "rate=100000,connections=8,duration=500ms";
/// What each run sends, at a rate that is added.
const REQUESTS: &str = "connections=8,duration=6s,rate=";
/// The rate that the machine can answer is in `most.json`; half of it becomes `$rate`.
const HALF: &str = r#"rate=$(awk 'match($0, /"received":[0-9]+/) { received = substr($0, RSTART + 11, RLENGTH - 11) }
match($0, /"duration_ns":[0-9]+/) { ns = substr($0, RSTART + 14, RLENGTH - 14) }
END { printf "%.0f", received / ns * 5e8 }' most.json)
"#;
/// The kernel's thread for huge pages takes the one processor for some ms now and then, whether or not anything is traced.
const NO_HUGE_PAGES: &str = "echo never > /sys/kernel/mm/transparent_hugepage/enabled\n";
/// The untraced runs, first and last, may differ by this part; more means that the boot drifted.
const DRIFT: f64 = 0.03;
/// Seconds for the whole boot, and for each run.
const TIMEOUT: (u64, u64) = (300, 120);

/// What the table calls a case, what `lab run` needs to know of the recording (nothing if there is none), and the
/// ratio to untraced that its p99 may have at most.
type Case = (&'static str, &'static [&'static str], Option<f64>);

const IN_GUEST: &[Case] = &[
    ("untraced, before", &[], None),
    ("light", &["--probes", "light"], Some(1.06)),
    ("tail", &["--probes", "light", "--tail-above", "p99.9"], Some(1.06)),
    ("full", &["--probes", "full"], Some(1.15)),
    ("light, empty", &["--probes", "light", "--baseline", "empty"], None),
    ("light, clock", &["--probes", "light", "--baseline", "clock"], None),
    ("full, empty", &["--probes", "full", "--baseline", "empty"], None),
    ("full, clock", &["--probes", "full", "--baseline", "clock"], None),
    ("untraced, after", &[], None),
];

/// On this machine itself, whose kernel may allow no more than that set.
const HERE: &[Case] = &[
    ("untraced, before", &[], None),
    ("device", &["--probes", "device"], Some(1.15)),
    ("tail", &["--probes", "device", "--tail-above", "p99.9"], Some(1.15)),
    ("device, empty", &["--probes", "device", "--baseline", "empty"], None),
    ("device, clock", &["--probes", "device", "--baseline", "clock"], None),
    ("untraced, after", &[], None),
];

/// How much later requests are answered while they are traced.
#[derive(Args)]
pub struct Requests {
    /// Version of the kernel to measure under, or `own` for this machine itself, with its own clock
    #[arg(long, default_value = "6.12")]
    kernel: String,
    /// A machine with so many processors and an ordinary clock, instead of one whose clock counts its one processor's
    /// instructions
    #[arg(long)]
    cpus: Option<u32>,
    /// The requests: udp-rr or tcp-rr, with changes as in `tcp-rr:size=4KB`
    #[arg(long, default_value = "udp-rr")]
    requests: String,
    /// Runs of each case, of which the median is taken
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
}

/// Of a case: medians over its runs, in ns.
struct Figures {
    case: &'static Case,
    p50: f64,
    p99: f64,
}

impl Requests {
    /// Measures and prints; fails if a limit is exceeded.
    ///
    /// # Errors
    ///
    /// Something cannot be built or run, or a result cannot be read.
    pub fn run(&self) -> Result<ExitCode> {
        ensure!(
            !self.is_here() || self.cpus.is_none(),
            "this machine has the processors that it has: leave out --cpus, or name another --kernel than own"
        );
        build_ebpf::build()?;
        let program = host::build_release()?;
        let folder = host::target().join("bench");
        fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
        let script = self.script(&program, &folder)?;
        let status = if self.is_here() {
            host::watch(Command::new("sh").args(["-c", &script]))?.0
        } else {
            let runs = IN_GUEST.len() as u64 * u64::from(self.rounds);
            let options = VmOptions {
                icount: self.cpus.is_none(),
                cpus: self.cpus.unwrap_or(1),
                timeout: Some(TIMEOUT.0 + TIMEOUT.1 * runs),
                share: Some(folder.clone()),
                ..VmOptions::new(&self.kernel)
            };
            vm::run(&options, &["sh", "-c", &script].map(OsString::from))?.status
        };
        ensure!(status.success(), "a run failed ({status})");
        let figures = self.cases().iter().enumerate().map(|(at, case)| self.figures(at, case, &folder));
        let rate = read(&folder.join("rate"))?;
        print((&self.requests, rate.trim()), &figures.collect::<Result<Vec<_>>>()?, &self.how())
    }

    fn how(&self) -> String {
        match self.cpus {
            _ if self.is_here() => "this machine's own processors and clock".into(),
            Some(cpus) => format!("one boot with an ordinary clock, {cpus} processors"),
            None => "one boot whose clock counts instructions, one processor".into(),
        }
    }

    fn is_here(&self) -> bool {
        self.kernel == "own"
    }

    fn cases(&self) -> &'static [Case] {
        if self.is_here() { HERE } else { IN_GUEST }
    }

    fn script(&self, program: &Path, folder: &Path) -> Result<String> {
        let lab = shlex::try_join([text(program)?, "lab", "run", LAB, "--json", "--traffic"])?;
        let with = |changes: &str| -> Result<String> {
            let mark = if self.requests.contains(':') { ',' } else { ':' };
            Ok(shlex::try_quote(&format!("{}{mark}{changes}", self.requests))?.into_owned())
        };
        let (too_many, requests) = (with(TOO_MANY)?, with(REQUESTS)?);
        let quiet = if self.is_here() { "" } else { NO_HUGE_PAGES };
        let mut script =
            format!("set -e\n{quiet}cd {}\n{lab} {too_many} > most.json\n", shlex::try_quote(text(folder)?)?);
        script += HALF;
        script += "echo \"$rate\" > rate\n";
        for round in 0..self.rounds {
            for (at, (name, options, _)) in self.cases().iter().enumerate() {
                let record =
                    if options.is_empty() { "" } else { " --record /tmp/bench.otr --force " }.to_owned();
                let options = record + &shlex::try_join(options.iter().copied())?;
                script += &format!("echo '  round {}: {name}'\n", round + 1);
                script += &format!("{lab} {requests}$rate{options} > requests-{round}-{at}.json\n");
            }
        }
        Ok(script)
    }

    fn figures(&self, at: usize, case: &'static Case, folder: &Path) -> Result<Figures> {
        let runs = (0..self.rounds).map(|round| {
            let name = format!("requests-{round}-{at}.json");
            let report = json(&read(&folder.join(&name))?)?;
            let of = |pointer: &str| {
                report
                    .pointer(pointer)
                    .and_then(|value| value.as_f64())
                    .with_context(|| format!("no {pointer} in {name}"))
            };
            Ok((of("/latency/p50")?, of("/latency/p99")?))
        });
        let (p50, p99): (Vec<f64>, Vec<f64>) = runs.collect::<Result<Vec<_>>>()?.into_iter().unzip();
        Ok(Figures { case, p50: median(p50).unwrap_or_default(), p99: median(p99).unwrap_or_default() })
    }
}

fn print((requests, rate): (&str, &str), figures: &[Figures], how: &str) -> Result<ExitCode> {
    let [before, .., after] = figures else { anyhow::bail!("nothing was measured") };
    let untraced = |of: fn(&Figures) -> f64| (of(before) + of(after)) / 2.0;
    let (p50, p99) = (untraced(|row| row.p50), untraced(|row| row.p99));
    println!(
        "\nRequests ({requests}) from pod to pod over {LAB}, {rate} per second: half of what can be answered untraced\n"
    );
    println!(
        "{:<17} {:>8}  {:>10}  {:>8}  {:>10}  {:>6}",
        "", "p50 µs", "× untraced", "p99 µs", "× untraced", "limit"
    );
    let mut good = (before.p99 - after.p99).abs() <= DRIFT * p99;
    for row in figures {
        let (name, _, limit) = row.case;
        let is_above = limit.is_some_and(|limit| row.p99 > limit * p99);
        good &= !is_above;
        println!(
            "{name:<17} {:>8.1}  {:>10.3}  {:>8.1}  {:>10.3}  {:>6}{}",
            row.p50 / 1e3,
            row.p50 / p50,
            row.p99 / 1e3,
            row.p99 / p99,
            limit.map_or("–".to_owned(), |limit| format!("{limit:.2}")),
            if is_above { "  ABOVE ITS LIMIT" } else { "" }
        );
    }
    println!("\nHow: {how} for both ends, both nodes and the tool; the median of the rounds.");
    println!(
        "Instead of the recorder's programs: empty ones, which return at once, and such that only read the clock.\n"
    );
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
