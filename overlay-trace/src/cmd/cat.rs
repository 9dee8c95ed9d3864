//! `cat`: recordings of one machine, one after the other, as one.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::Result;
use overlay_trace_format::join;

use super::{
    output::{self, ensure_no_input},
    unprivileged::{open_all, with_files},
};

#[derive(clap::Args)]
pub struct Cat {
    /// Recordings of one machine, in any order
    #[arg(required = true, num_args = 2.., value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Recording to write
    #[arg(long, short, value_name = "FILE")]
    output: PathBuf,
    /// Overwrite the output file if it exists
    #[arg(long)]
    force: bool,
}

impl Cat {
    pub fn run(self) -> Result<ExitCode> {
        let inputs: Vec<&Path> = self.files.iter().map(PathBuf::as_path).collect();
        let recordings = open_all(&inputs, Some(&self.output))?;
        ensure_no_input(&self.output, &inputs)?;
        let joined = with_files(|| join(recordings, &self.output, self.force))?;
        let gaps = match joined.gaps_ns {
            0 => String::new(),
            ns => format!(
                "; nothing was recorded in {} between them",
                humantime::format_duration(Duration::from_nanos(ns))
            ),
        };
        let (file, bytes) = (output::shown(&self.output), joined.bytes);
        output::line(&format!("{} records written to {file}, {bytes} bytes{gaps}", joined.records))?;
        Ok(ExitCode::SUCCESS)
    }
}
