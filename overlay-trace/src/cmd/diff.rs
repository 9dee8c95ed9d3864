//! `diff`: what one recording adds to another.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Result;

use super::{output, unprivileged};
use overlay_trace_analysis::breakdown::{Analysis, By, Diff as Difference, Per};
use overlay_trace_analysis::report::{self, DiffFormat, TextFormat};

/// What is matched in two recordings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
enum Match {
    /// Stage, level and direction, for any two networks
    #[default]
    Stage,
    /// The same in each namespace and at each device, for two recordings of the same machines, or of labs
    Device,
}

impl From<Match> for By {
    fn from(by: Match) -> By {
        match by {
            Match::Stage => By::Anywhere,
            Match::Device => By::Stage,
        }
    }
}

#[derive(clap::Args)]
pub struct Diff {
    /// Recording to compare with (the baseline)
    first: PathBuf,
    /// Recording whose additional time is shown
    second: PathBuf,
    /// Output format
    #[arg(long, short, value_enum, default_value_t)]
    format: DiffFormat,
    /// What to match in both recordings
    #[arg(long, value_enum, default_value_t)]
    by: Match,
    /// What to normalize times by; JSON has both
    #[arg(long, value_enum, default_value_t, value_name = "WHAT")]
    per: Per,
    /// Print every row, where the text otherwise keeps to what fits a screen
    #[arg(long)]
    full: bool,
    /// Write to this file instead of standard output
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Overwrite the output file if it exists
    #[arg(long, requires = "output")]
    force: bool,
}

impl Diff {
    pub fn run(self) -> Result<ExitCode> {
        let format = if self.full { self.format.full()? } else { self.format };
        let recordings = unprivileged::open([&self.first, &self.second], self.output.as_ref())?;
        let [first, second] = recordings.map(|recording| Analysis::of(&recording, self.by.into()));
        let difference = Difference::new(first?, second?, self.per);
        output::write(
            &report::diff(&difference, format)?,
            &[&self.first, &self.second],
            self.output.as_deref(),
            self.force,
        )
    }
}
