//! `tail`: why the slow packets of a recording are slow.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Result;

use super::{output, pods, unprivileged};
use overlay_trace_analysis::report::{self, TailFormat, TextFormat};
use overlay_trace_analysis::tail::{Of, Tail as Comparison, Threshold};
use overlay_trace_format::PodFilter;

#[derive(clap::Args)]
pub struct Tail {
    /// Recording to read
    file: PathBuf,
    /// What to compare as slow and ordinary
    #[arg(long, value_enum, default_value_t)]
    of: Of,
    /// Threshold of the slow set: a percentile (p99, p99.9) or a time (500us, 2ms)
    #[arg(long, value_name = "PERCENTILE|TIME", default_value = "p99")]
    above: Threshold,
    /// Number of slowest packets to show step by step
    #[arg(long, value_name = "N", default_value_t = 1)]
    packets: usize,
    /// Output format
    #[arg(long, short, value_enum, default_value_t)]
    format: TailFormat,
    /// Print every row, where the text otherwise keeps to what fits a screen
    #[arg(long)]
    full: bool,
    #[command(flatten)]
    pods: PodFilter,
    /// Write to this file instead of standard output
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Overwrite the output file if it exists
    #[arg(long, requires = "output")]
    force: bool,
}

impl Tail {
    pub fn run(self) -> Result<ExitCode> {
        let format = if self.full { self.format.full()? } else { self.format };
        let [mut recording] = unprivileged::open([&self.file], self.output.as_ref())?;
        pods::select(&mut recording, &self.pods)?;
        let tail = Comparison::of(&recording, self.of, self.above, self.packets)?;
        output::write(&report::tail(&tail, format)?, &[&self.file], self.output.as_deref(), self.force)
    }
}
