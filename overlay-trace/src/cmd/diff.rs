use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Result;

use super::output;
use overlay_trace_analysis::breakdown::{Analysis, By, Diff as Difference, Per};
use overlay_trace_analysis::report::{self, DiffFormat};
use overlay_trace_format::Recording;

#[derive(clap::Args)]
pub struct Diff {
    /// The recording to compare with
    first: PathBuf,
    /// The recording whose additions are shown
    second: PathBuf,
    /// How to show them
    #[arg(long, short, value_enum, default_value_t)]
    format: DiffFormat,
    /// What times are divided by; JSON has both
    #[arg(long, value_enum, default_value_t, value_name = "WHAT")]
    per: Per,
    /// Write to this file instead of the standard output
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Overwrite an existing output file
    #[arg(long, requires = "output")]
    force: bool,
}

impl Diff {
    pub fn run(self) -> Result<ExitCode> {
        let difference = Difference::new(analyse(&self.first)?, analyse(&self.second)?, self.per);
        output::write(&report::diff(&difference, self.format)?, self.output.as_deref(), self.force)
    }
}

fn analyse(path: &Path) -> Result<Analysis> {
    Analysis::of(&Recording::open(path)?, By::Anywhere)
}
