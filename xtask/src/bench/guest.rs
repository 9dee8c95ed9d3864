//! The runs in the guest, and what they left behind.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::{CASES, Case, lost::Lost};
use crate::{
    host,
    vm::{self, VmOptions},
};

pub const LAB: &str = "flannel-vxlan";
/// More packets per second than the guest can send: its one processor is never idle.
const PACKETS: &str = "udp-stream:rate=1000000,size=100,duration=250ms";
const BULK: &str = "tcp-bulk:duration=250ms";
/// Seconds that a run may take; they take about ten where two processors are idle.
const TIMEOUT: u64 = 60;

/// What the scheduler does when a task is woken whose processor the sender has: a packet's reader, or ksoftirqd. Left
/// alone, 6.1 falls into one or the other: it leaves softirqs to ksoftirqd as long as that waits to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Wakes {
    /// It runs at once: each packet is worked off where it was sent, and read before the next
    Each,
    /// The sender goes on until its time is up: ksoftirqd then works off many packets at a time
    Batch,
}

impl Wakes {
    /// The lines of the guest's script that have the scheduler do so.
    fn script(self) -> &'static str {
        match self {
            // Since 6.6 there is no such setting, and a reader that has slept is always the next.
            Wakes::Each => {
                "for file in $debug/sched/wakeup_granularity_ns /proc/sys/kernel/sched_wakeup_granularity_ns\n\
                 do [ ! -e $file ] || echo 0 > $file; done\n"
            }
            Wakes::Batch => {
                "for file in $debug/sched/features $debug/sched_features\n\
                 do [ ! -e $file ] || echo NO_WAKEUP_PREEMPTION > $file; done\n"
            }
        }
    }
}

/// What is to be measured.
pub struct Plan<'a> {
    pub kernel: &'a str,
    pub wakes: Wakes,
    /// Runs of each case.
    pub rounds: u32,
    /// The `overlay-trace` program.
    pub program: &'a Path,
    /// Where the guest writes.
    pub folder: &'a Path,
}

/// One run of `overlay-trace lab run`.
struct Run {
    case: &'static Case,
    traffic: &'static str,
    /// What its files are called.
    name: String,
    about: String,
}

/// What one run showed; of a kind of traffic only its own figures.
pub struct Sample {
    pub case: &'static str,
    /// Guest instructions per packet sent.
    pub instructions: Option<f64>,
    /// Probe hits per packet sent.
    pub hits: Option<f64>,
    /// Bits per second of bulk TCP.
    pub tcp: Option<f64>,
    /// Records, probe hits and packets lost, as far as they are counted.
    pub lost: Lost,
    /// The kernel counts the probe hits that it skips.
    pub all_counted: bool,
}

/// What all runs of one boot showed.
pub struct Measured {
    /// What `uname -r` says in the guest.
    pub release: String,
    pub samples: Vec<Sample>,
}

impl Plan<'_> {
    /// Boots, runs every case, and reads the results.
    ///
    /// # Errors
    ///
    /// The guest does not start, or a run in it fails, or it left no usable result.
    pub fn run(&self) -> Result<Measured> {
        let runs = self.runs();
        let options = VmOptions {
            icount: true,
            timeout: Some(TIMEOUT * runs.len() as u64),
            share: Some(self.folder.to_path_buf()),
            ..VmOptions::new(self.kernel)
        };
        host::progress(&format!(
            "{} runs over {LAB}, in a virtual machine with Debian's kernel {}",
            runs.len(),
            self.kernel
        ));
        let command = ["sh", "-c", &self.script(&runs)?].map(OsString::from);
        let finished = vm::run(&options, &command)?;
        if !finished.status.success() {
            bail!("a run in the virtual machine failed ({})", finished.status);
        }
        let samples: Result<Vec<Sample>> = runs.iter().map(|run| self.sample(run)).collect();
        let release = read(&self.file("release"))?.trim().to_owned();
        Ok(Measured { release, samples: samples? })
    }

    /// All runs, in their order: the rounds of packets, then one of bulk TCP.
    fn runs(&self) -> Vec<Run> {
        let packets = (1..=self.rounds).map(|round| (PACKETS, format!("round {round} of {}", self.rounds)));
        let rounds = packets.chain([(BULK, "bulk TCP".to_owned())]).enumerate();
        rounds
            .flat_map(|(round, (traffic, what))| {
                CASES.iter().enumerate().map(move |(position, case)| Run {
                    case,
                    traffic,
                    name: format!("{round}-{position}"),
                    about: format!("{what}: {}", case.name),
                })
            })
            .collect()
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Recordings are first written to the guest's memory: the shared folder's cost is not the tool's.
    fn script(&self, runs: &[Run]) -> Result<String> {
        let folder = shlex::try_quote(text(self.folder)?)?;
        let mut script = format!("set -e\ncd {folder}\nuname -r > release\n");
        script += "debug=/sys/kernel/debug\n[ -e $debug/tracing ] || mount -t debugfs none $debug\n";
        script += self.wakes.script();
        for run in runs {
            let Run { name, about, .. } = run;
            script += &format!("echo '  {about}'\n{} > {name}.json 2> {name}.log || ", self.lab(run)?);
            script += &format!("{{ cat {name}.log >&2; exit 1; }}\n");
            if run.is_traced() {
                script += &format!("mv /tmp/bench.otr {name}.otr\n");
            }
        }
        Ok(script)
    }

    fn lab(&self, run: &Run) -> Result<String> {
        let mut words = vec![text(self.program)?, "lab", "run", LAB, "--json", "--traffic", run.traffic];
        if run.is_traced() {
            words.extend(["--record", "/tmp/bench.otr", "--force"]);
            words.extend(run.case.options);
        }
        Ok(shlex::try_join(words)?)
    }

    fn sample(&self, run: &Run) -> Result<Sample> {
        let traffic = json(&read(&self.file(&format!("{}.json", run.name)))?)?;
        let number = |value: &Value, pointer: &str| {
            value
                .pointer(pointer)
                .and_then(Value::as_f64)
                .with_context(|| format!("no {pointer} in {}", run.name))
        };
        let mut sample = Sample {
            case: run.case.name,
            instructions: None,
            hits: None,
            tcp: None,
            lost: Lost::default(),
            all_counted: true,
        };
        let recording = self.file(&format!("{}.otr", run.name));
        let report = if run.is_traced() { Some(self.report(&recording)?) } else { None };
        if let Some(report) = &report {
            sample.lost = Lost::of_report(report);
            sample.all_counted = report["losses"]["probe_misses_known"] != false;
        }
        if run.traffic == BULK {
            sample.tcp = Some(number(&traffic, "/throughput_bits_per_s")?);
            return Ok(sample);
        }
        let sent = number(&traffic, "/sent")?;
        sample.instructions = Some(number(&traffic, "/duration_ns")? / sent);
        sample.lost.count("packets", number(&traffic, "/lost")? as u64);
        if let Some(report) = &report {
            sample.hits = Some(number(report, "/capture/probe_hits")? / sent);
        }
        Ok(sample)
    }

    /// The report of a recording, which is of no more use then.
    fn report(&self, recording: &Path) -> Result<Value> {
        let mut report = Command::new(self.program);
        let report = json(&host::output(report.args(["report", "--format", "json"]).arg(recording))?)?;
        fs::remove_file(recording).with_context(|| format!("cannot remove {}", recording.display()))?;
        Ok(report)
    }
}

impl Run {
    fn is_traced(&self) -> bool {
        !self.case.options.is_empty()
    }
}

pub fn json(text: &str) -> Result<Value> {
    serde_json::from_str(text.trim()).context("overlay-trace printed something that is not JSON")
}

pub fn read(file: &Path) -> Result<String> {
    fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))
}

pub fn text(path: &Path) -> Result<&str> {
    path.to_str().context("the path of the workspace must be valid UTF-8")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_case_has_its_rounds_and_one_of_tcp() -> Result<()> {
        let (program, folder) = (Path::new("/a b/overlay-trace"), Path::new("/out"));
        let plan = Plan { kernel: "6.12", wakes: Wakes::Each, rounds: 2, program, folder };
        let runs = plan.runs();
        assert_eq!(runs.len(), 3 * CASES.len());
        assert_eq!(runs.iter().filter(|run| run.traffic == BULK).count(), CASES.len());
        let script = plan.script(&runs)?;
        assert!(script.contains("'/a b/overlay-trace' lab run flannel-vxlan"), "{script}");
        assert_eq!(script.matches("--kprobes").count(), 3);
        assert!(script.contains("echo 0 > $file") && !script.contains("NO_WAKEUP_PREEMPTION"), "{script}");
        let script = Plan { wakes: Wakes::Batch, ..plan }.script(&runs)?;
        assert!(script.contains("echo NO_WAKEUP_PREEMPTION > $file"), "{script}");
        Ok(())
    }
}
