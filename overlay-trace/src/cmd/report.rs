//! `report`: where the packets of a recording spent their time.

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Result, ensure};

use super::{output, pods, unprivileged};
use overlay_trace_analysis::breakdown::{Analysis, By, OverTime};
use overlay_trace_analysis::report::{self, Format, Sort, TextFormat};
use overlay_trace_format::PodFilter;

#[derive(clap::Args)]
pub struct Report {
    /// Recording to read
    file: PathBuf,
    /// Output format
    #[arg(long, short, value_enum, default_value_t)]
    format: Format,
    /// Print every row, where the text otherwise keeps to what fits a screen
    #[arg(long)]
    full: bool,
    /// What to group times by
    #[arg(long, value_enum, default_value_t)]
    by: By,
    /// Order of the rows; the text of stages is ordered by share unless it is --full
    #[arg(long, value_enum, default_value_t)]
    sort: Sort,
    /// Leave a stage out of a flame graph (folded, svg); can be given several times
    #[arg(long, value_name = "STAGE")]
    without: Vec<String>,
    /// With --format svg: a compact picture for documents, with layers instead of stages and a legend for narrow frames
    #[arg(long, conflicts_with = "without")]
    compact: bool,
    #[command(flatten)]
    pods: PodFilter,
    /// Write to this file instead of standard output
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Overwrite the output file if it exists
    #[arg(long, requires = "output")]
    force: bool,
}

impl Report {
    pub fn run(self) -> Result<ExitCode> {
        let format = if self.full { self.format.full()? } else { self.format };
        let [mut recording] = unprivileged::open([&self.file], self.output.as_ref())?;
        pods::select(&mut recording, &self.pods)?;
        let mut analysis = Analysis::of(&recording, self.by)?;
        if self.format == Format::Html {
            analysis.over_time = Some(OverTime::of(&recording)?);
        }
        self.leave_out(&mut analysis)?;
        let text = if self.compact {
            ensure!(
                self.format == Format::Svg && self.by == By::Stage,
                "--compact is for flame graphs of stages: add --format svg"
            );
            report::picture(&analysis)?
        } else {
            report::report(&mut analysis, format, self.sort)?
        };
        output::write(&text, &[&self.file], self.output.as_deref(), self.force)
    }

    fn leave_out(&self, analysis: &mut Analysis) -> Result<()> {
        if self.without.is_empty() {
            return Ok(());
        }
        let stacks = matches!(self.format, Format::Folded | Format::Svg) && self.by == By::Stage;
        ensure!(stacks, "--without applies to flame graphs by stage: add --format svg or --format folded");
        for stage in &self.without {
            let known = analysis.header.stages.iter().any(|row| row.name == *stage);
            ensure!(
                known,
                "there is no stage {stage} in the recording: `overlay-trace stages` lists the names"
            );
        }
        analysis.leave_out(&self.without);
        Ok(())
    }
}
