use std::{path::PathBuf, process::ExitCode};

use anyhow::{Result, ensure};

use super::output;
use overlay_trace_analysis::breakdown::{Analysis, By};
use overlay_trace_analysis::report::{self, Format, Sort};
use overlay_trace_format::Recording;

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
    /// Leave a stage out of a flame graph (folded, svg), to give the others room
    #[arg(long, value_name = "STAGE")]
    without: Vec<String>,
    /// With --format svg: a picture for a page of text, with layers instead of stages and a key of what is narrow
    #[arg(long, conflicts_with = "without")]
    compact: bool,
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
        self.leave_out(&mut analysis)?;
        let text = if self.compact {
            ensure!(
                self.format == Format::Svg && self.by == By::Stage,
                "--compact is for flame graphs of stages: add --format svg"
            );
            report::picture(&analysis)?
        } else {
            report::report(&mut analysis, self.format, self.sort)?
        };
        output::write(&text, self.output.as_deref(), self.force)
    }

    fn leave_out(&self, analysis: &mut Analysis) -> Result<()> {
        if self.without.is_empty() {
            return Ok(());
        }
        let stacks = matches!(self.format, Format::Folded | Format::Svg) && self.by == By::Stage;
        ensure!(stacks, "--without is for flame graphs of stages: add --format svg or --format folded");
        for stage in &self.without {
            let known = analysis.header.stages.iter().any(|row| row.name == *stage);
            ensure!(
                known,
                "the recording's stage map has no stage {stage}: `overlay-trace stages` lists the names"
            );
        }
        analysis.leave_out(&self.without);
        Ok(())
    }
}
