use std::{path::PathBuf, process::ExitCode};

use anyhow::Result;

use super::output;
use crate::{
    analysis::{Analysis, By},
    report::{self, Format, Sort},
    trace::Recording,
};

#[derive(clap::Args)]
pub struct Report {
    /// The recording to read
    file: PathBuf,
    /// How to show it
    #[arg(long, short, value_enum, default_value_t)]
    format: Format,
    /// How finely to tell times apart
    #[arg(long, value_enum, default_value_t)]
    by: By,
    /// The order of the rows
    #[arg(long, value_enum, default_value_t)]
    sort: Sort,
    /// Write to this file instead of the standard output
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Overwrite an existing output file
    #[arg(long, requires = "output")]
    force: bool,
}

impl Report {
    pub fn run(self) -> Result<ExitCode> {
        let recording = Recording::open(&self.file)?;
        let mut analysis = Analysis::of(&recording, self.by)?;
        output::write(
            &report::report(&mut analysis, self.format, self.sort)?,
            self.output.as_deref(),
            self.force,
        )
    }
}
