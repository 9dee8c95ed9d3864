use std::{path::PathBuf, process::ExitCode};

use anyhow::Result;

use super::output;
use overlay_trace_analysis::report::{self, DiffFormat};
use overlay_trace_analysis::tail::{Of, Tail as SlowOnes, Threshold};
use overlay_trace_format::Recording;

#[derive(clap::Args)]
pub struct Tail {
    /// The recording to read
    file: PathBuf,
    /// What is told into slow and ordinary
    #[arg(long, value_enum, default_value_t)]
    of: Of,
    /// What is slow: above a percentile (p99, p99.9), or above a time (500us, 2ms)
    #[arg(long, value_name = "PERCENTILE|TIME", default_value = "p99")]
    above: Threshold,
    /// Show so many of the slowest packets step by step
    #[arg(long, value_name = "N", default_value_t = 1)]
    packets: usize,
    /// How to show it
    #[arg(long, short, value_enum, default_value_t)]
    format: DiffFormat,
    /// Write to this file instead of the standard output
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Overwrite an existing output file
    #[arg(long, requires = "output")]
    force: bool,
}

impl Tail {
    pub fn run(self) -> Result<ExitCode> {
        let tail = SlowOnes::of(&Recording::open(&self.file)?, self.of, self.above, self.packets)?;
        output::write(&report::tail(&tail, self.format)?, self.output.as_deref(), self.force)
    }
}
