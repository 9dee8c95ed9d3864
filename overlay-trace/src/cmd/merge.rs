//! `merge`: one path per packet through the machines that recorded at once.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use serde_json::json;

use super::{
    output,
    unprivileged::{open_all, with_files},
};
use overlay_trace_analysis::breakdown::{Analysis, By, OverTime};
use overlay_trace_analysis::report::{self, Format, Sort};
use overlay_trace_format::{Recording, check_output};
use overlay_trace_merge::{Options, Summary, merge};

/// Formats of the report on merged recordings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum MergeFormat {
    /// A summary for people, and the table of a report
    #[default]
    Text,
    /// Machines, clocks, joins and crossings, and the JSON of a report
    Json,
    /// A flame graph of the merged paths, by machine
    Svg,
    /// The flame graph's folded stacks in ns
    Folded,
    /// A self-contained page: the summary, the flame graph and the tables of a report
    Html,
}

#[derive(clap::Args)]
pub struct Merge {
    /// Recordings of different machines, in any order
    #[arg(required = true, num_args = 2.., value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Write a recording of the merged paths to this file, for report, tail, diff and what-if, and print the summary alone
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Overwrite the output file if it exists
    #[arg(long, requires = "output")]
    force: bool,
    /// Express all times by the clock of this node [default: the one with most neighbours]
    #[arg(long, value_name = "NODE")]
    reference: Option<String>,
    /// Output format
    #[arg(long, short, value_enum, default_value_t)]
    format: MergeFormat,
    /// Print every row of the text's tables
    #[arg(long)]
    full: bool,
}

impl Merge {
    pub fn run(self) -> Result<ExitCode> {
        ensure!(
            !self.full || self.format == MergeFormat::Text && self.output.is_none(),
            "--full is for the text of a report: leave --format and --output out"
        );
        let options = Options { reference: self.reference.clone() };
        let inputs: Vec<_> = self.files.iter().map(PathBuf::as_path).collect();
        if let Some(output) = &self.output {
            let summary_only =
                "of the merged recording `overlay-trace report` draws flame graphs: leave --format out";
            ensure!(matches!(self.format, MergeFormat::Text | MergeFormat::Json), summary_only);
            let summary = merge_to(&inputs, &options, output, self.force)?;
            let text = match self.format {
                MergeFormat::Json => serde_json::to_vec_pretty(&summary)?,
                _ => summary.text().into_bytes(),
            };
            output::print(&text)?;
            return Ok(ExitCode::SUCCESS);
        }
        let recordings = open_all(&inputs, None)?;
        let folder =
            tempfile::tempdir().context("cannot create a temporary folder for the merged recording")?;
        let file = folder.path().join("merged.otr");
        let summary = merge(recordings, &options, &file, false)?;
        let merged = Recording::open(&file)?;
        let mut analysis = Analysis::of(&merged, By::Stage)?;
        if self.format == MergeFormat::Html {
            analysis.over_time = Some(OverTime::of(&merged)?);
        }
        let mut report = |format| report::report(&mut analysis, format, Sort::default());
        let text = match self.format {
            MergeFormat::Text => {
                let format = if self.full { Format::FullText } else { Format::Text };
                [summary.text().as_bytes(), b"\n", &report(format)?].concat()
            }
            MergeFormat::Json => {
                let report: serde_json::Value = serde_json::from_slice(&report(Format::Json)?)?;
                serde_json::to_vec_pretty(&json!({ "merge": summary, "report": report }))?
            }
            MergeFormat::Svg => report(Format::Svg)?,
            MergeFormat::Folded => report(Format::Folded)?,
            MergeFormat::Html => {
                let preface: Vec<String> = summary.text().lines().map(str::to_owned).collect();
                report::page_with(&analysis, &preface).into_bytes()
            }
        };
        output::print(&text)?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Merges the recordings in files to one at `output`.
///
/// # Errors
///
/// One of them cannot be opened, or is the output; those of [`merge`].
pub(super) fn merge_to(
    inputs: &[&Path],
    options: &Options,
    output: &PathBuf,
    force: bool,
) -> Result<Summary> {
    let recordings = open_all(inputs, Some(output))?;
    ensure!(
        !with_files(|| output::is_input(output, inputs)),
        "{} is one of the recordings: choose another name",
        output.display()
    );
    with_files(|| {
        check_output(output, force)?;
        merge(recordings, options, output, force)
    })
}
