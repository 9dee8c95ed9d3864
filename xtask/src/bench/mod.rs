//! `cargo xtask bench`: what tracing costs, in instructions per packet, under a clock that counts instructions.

mod analysis;
mod baseline;
mod guest;
mod lost;
mod merge;
mod requests;
mod table;

use std::{fs, path::PathBuf, process::ExitCode};

use anyhow::{Context, Result};
use clap::{Args, Subcommand};

use self::{
    baseline::Baseline,
    guest::{Plan, Sample, Wakes},
    lost::Lost,
};
use crate::{build_ebpf, host};

/// Runs of each case, of which the median is taken.
const ROUNDS: u32 = 2;

/// A way to run the traffic.
pub struct Case {
    /// What the table and the baseline call it.
    pub name: &'static str,
    /// What `lab run` needs to know of the recording; nothing if there is none.
    options: &'static [&'static str],
    /// The ratio to untraced that it may have at most.
    limit: Option<f64>,
}

impl Case {
    /// The limit under a kernel. Before 5.11 a module's functions can be probed by kprobes only, so that there is
    /// none but that of kprobes.
    fn limit_under(&self, kernel: &str) -> Option<f64> {
        let is_old = kernel.starts_with("5.10");
        self.limit.filter(|limit| !is_old || *limit >= KPROBES_LIMIT)
    }
}

const KPROBES_LIMIT: f64 = 2.0;

const fn case(name: &'static str, options: &'static [&'static str], limit: Option<f64>) -> Case {
    Case { name, options, limit }
}

/// Untraced runs come first and last, so that a drift shows.
pub const BEFORE: &str = "untraced, before";
/// See [`BEFORE`].
pub const AFTER: &str = "untraced, after";
/// In the order in which they run.
const CASES: &[Case] = &[
    case(BEFORE, &[], None),
    case("full, fentry", &["--probes", "full"], Some(1.5)),
    case("full, kprobes", &["--probes", "full", "--kprobes"], Some(KPROBES_LIMIT)),
    case("light", &["--probes", "light"], Some(1.15)),
    case("tail", &["--probes", "light", "--tail-above", "p99.9"], Some(1.2)),
    case("device", &["--probes", "device"], None),
    case("tc", &["--probes", "tc"], None),
    case(AFTER, &[], None),
];

/// `cargo xtask bench`
#[derive(Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Bench {
    #[command(subcommand)]
    part: Option<Part>,
    /// Version of the kernel to measure under
    #[arg(long, default_value = "6.12")]
    kernel: String,
    /// What the scheduler does when a packet wakes its reader, or ksoftirqd
    #[arg(long, value_enum, default_value_t = Wakes::Each)]
    wakes: Wakes,
    /// Compare with these results [default: those in xtask/bench/ for the kernel, if there are any]
    #[arg(long)]
    baseline: Option<PathBuf>,
    /// Write the results to this file, to be compared with later
    #[arg(long)]
    save: Option<PathBuf>,
    /// Measure this `overlay-trace` instead of this work tree's: that of another commit, to compare with
    #[arg(long)]
    program: Option<PathBuf>,
    /// Runs of each case, of which the median is taken
    #[arg(long, default_value_t = ROUNDS, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
}

/// What is measured other than tracing.
#[derive(Subcommand)]
enum Part {
    /// Measure how fast records are analysed, and in how much memory
    Analysis(analysis::Analysis),
    /// Measure how fast recordings of several machines are merged, and in how much memory
    Merge(merge::Merge),
    /// Measure how much later requests are answered while they are traced
    Requests(requests::Requests),
}

/// What was measured of a case: medians over its runs.
pub struct Figures {
    pub case: &'static Case,
    /// The ratio that the case may have at most under the measured kernel.
    pub limit: Option<f64>,
    /// Guest instructions per packet sent.
    pub instructions: f64,
    /// The same, over the mean of the untraced ones.
    pub ratio: f64,
    /// Probe hits per packet sent; none if nothing was traced.
    pub hits: Option<f64>,
    /// Bulk TCP's throughput over the mean of the untraced ones.
    pub tcp: f64,
    /// Records, probe hits and packets lost in all runs, as far as they are counted.
    pub lost: Lost,
    /// The kernel counts the probe hits that it skips.
    pub all_counted: bool,
}

impl Bench {
    /// Measures, prints and compares; fails if a limit or the baseline is exceeded.
    ///
    /// # Errors
    ///
    /// Something cannot be built or run, or a file cannot be read or written.
    pub fn run(&self) -> Result<ExitCode> {
        match &self.part {
            Some(Part::Analysis(analysis)) => analysis.run(),
            Some(Part::Merge(merge)) => merge.run(),
            Some(Part::Requests(requests)) => requests.run(),
            None => self.tracing(),
        }
    }

    fn tracing(&self) -> Result<ExitCode> {
        let committed = host::workspace().join(format!("xtask/bench/{}.json", self.kernel));
        let is_comparable = self.wakes == Wakes::Each && committed.is_file();
        let baseline = match &self.baseline {
            Some(file) => Some(Baseline::read(file)?),
            None if is_comparable => Some(Baseline::read(&committed)?),
            None => None,
        };
        let program = match &self.program {
            Some(program) => fs::canonicalize(program)
                .with_context(|| format!("cannot find the program {}", program.display()))?,
            None => {
                build_ebpf::build()?;
                host::build_release()?
            }
        };
        let folder = host::target().join("bench");
        fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
        let plan = Plan {
            kernel: &self.kernel,
            wakes: self.wakes,
            rounds: self.rounds,
            program: &program,
            folder: &folder,
        };
        let measured = plan.run()?;
        let figures = figures(&measured.samples, &self.kernel);
        let failures = table::print(&measured.release, &figures, self.rounds, baseline.as_ref());
        if let Some(file) = &self.save {
            Baseline::of(&measured.release, &figures).write(file)?;
            host::progress(&format!("results written to {}", file.display()));
        }
        for failure in &failures {
            host::progress(&format!("FAILED: {failure}"));
        }
        Ok(if failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

/// The figures of each case, from the samples of all runs.
fn figures(samples: &[Sample], kernel: &str) -> Vec<Figures> {
    let of = |name: &str, value: fn(&Sample) -> Option<f64>| {
        median(samples.iter().filter(|sample| sample.case == name).filter_map(value).collect())
    };
    let instructions = |name: &str| of(name, |sample| sample.instructions).unwrap_or_default();
    let tcp = |name: &str| of(name, |sample| sample.tcp).unwrap_or_default();
    let untraced = (instructions(BEFORE) + instructions(AFTER)) / 2.0;
    let untraced_tcp = (tcp(BEFORE) + tcp(AFTER)) / 2.0;
    let lost = |name: &str| {
        let mut sum = Lost::default();
        samples.iter().filter(|sample| sample.case == name).for_each(|sample| sum.add(&sample.lost));
        sum
    };
    CASES
        .iter()
        .map(|case| Figures {
            case,
            limit: case.limit_under(kernel),
            instructions: instructions(case.name),
            ratio: instructions(case.name) / untraced,
            hits: of(case.name, |sample| sample.hits),
            tcp: tcp(case.name) / untraced_tcp,
            lost: lost(case.name),
            all_counted: samples.iter().all(|sample| sample.case != case.name || sample.all_counted),
        })
        .collect()
}

/// The stored results under these kernels as a table in Markdown, with the limits.
///
/// # Errors
///
/// A kernel has no stored results, or they cannot be read.
pub fn cost_table(kernels: &[&str]) -> Result<String> {
    let stored: Vec<Baseline> = kernels
        .iter()
        .map(|kernel| Baseline::read(&host::workspace().join(format!("xtask/bench/{kernel}.json"))))
        .collect::<Result<_>>()?;
    let mut lines = vec![
        format!("| probes | {} | limit |", kernels.join(" | ")),
        format!("|---|{}---|", "---|".repeat(kernels.len())),
    ];
    let is_measured = |case: &&Case| stored.iter().any(|baseline| baseline.ratio(case.name).is_some());
    for case in CASES.iter().filter(is_measured) {
        let ratio = |baseline: &Baseline| {
            baseline.ratio(case.name).map_or("–".into(), |ratio| format!("{ratio:.2}"))
        };
        let ratios: Vec<String> = stored.iter().map(ratio).collect();
        let limit = case.limit.map_or("–".into(), |limit| limit.to_string());
        lines.push(format!("| `{}` | {} | {limit} |", case.options.join(" "), ratios.join(" | ")));
    }
    Ok(lines.join("\n"))
}

/// The middle value, or the mean of the two.
fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let upper = *values.get(middle)?;
    Some(if values.len() % 2 == 1 { upper } else { (values[middle - 1] + upper) / 2.0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(case: &'static str, instructions: f64) -> Sample {
        let mut lost = Lost::default();
        lost.count("packets", 1);
        Sample { case, instructions: Some(instructions), hits: None, tcp: None, lost, all_counted: true }
    }

    #[test]
    fn ratios_are_to_the_mean_of_the_untraced_medians() {
        let samples: Vec<Sample> =
            [(BEFORE, 90.0), (BEFORE, 100.0), (BEFORE, 400.0), ("light", 330.0), (AFTER, 120.0)]
                .into_iter()
                .map(|(case, instructions)| sample(case, instructions))
                .collect();
        let figures = figures(&samples, "5.10");
        let light = figures.iter().find(|figures| figures.case.name == "light").map(|light| light.ratio);
        assert_eq!(light, Some(3.0));
        assert_eq!(figures[0].lost.sum(), 3);
        assert!(figures.iter().all(|figures| figures.limit.is_none_or(|limit| limit == KPROBES_LIMIT)));
    }

    #[test]
    fn the_median_of_an_even_number_lies_between_the_middle_two() {
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(median(vec![9.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(Vec::new()), None);
    }
}
