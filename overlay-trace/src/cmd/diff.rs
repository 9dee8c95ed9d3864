//! `diff`: what one recording adds to another.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Result;

use super::{output, unprivileged};
use overlay_trace_analysis::breakdown::{Analysis, By, Diff as Difference, Per};
use overlay_trace_analysis::report::{self, DiffFormat};

#[derive(clap::Args)]
pub struct Diff {
    /// Recording to compare with (the baseline)
    first: PathBuf,
    /// Recording whose additional time is shown
    second: PathBuf,
    /// Output format
    #[arg(long, short, value_enum, default_value_t)]
    format: DiffFormat,
    /// What to normalize times by; JSON has both
    #[arg(long, value_enum, default_value_t, value_name = "WHAT")]
    per: Per,
    /// Write to this file instead of standard output
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Overwrite the output file if it exists
    #[arg(long, requires = "output")]
    force: bool,
}

impl Diff {
    pub fn run(self) -> Result<ExitCode> {
        let recordings = unprivileged::open([&self.first, &self.second], self.output.as_ref())?;
        let [first, second] = recordings.map(|recording| Analysis::of(&recording, By::Anywhere));
        let difference = Difference::new(first?, second?, self.per);
        output::write(
            &report::diff(&difference, self.format)?,
            &[&self.first, &self.second],
            self.output.as_deref(),
            self.force,
        )
    }
}
