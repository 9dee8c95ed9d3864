//! `anonymise`: recordings that can be given to strangers.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Result, ensure};
use overlay_trace_format::Anonymiser;

use super::{
    output::{self, ensure_no_input},
    unprivileged::{open_all, with_files},
};

#[derive(clap::Args)]
pub struct Anonymise {
    /// Recordings to read; what is equal in several of them stays equal
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Recording to write; for several FILEs the folder for recordings of the same names
    #[arg(long, short, value_name = "FILE|FOLDER")]
    output: PathBuf,
    /// Overwrite output files that exist
    #[arg(long)]
    force: bool,
}

impl Anonymise {
    pub fn run(self) -> Result<ExitCode> {
        let inputs: Vec<&Path> = self.files.iter().map(PathBuf::as_path).collect();
        let outputs = self.outputs()?;
        let recordings = open_all(&inputs, Some(&self.output))?;
        for output in &outputs {
            ensure_no_input(output, &inputs)?;
        }
        let mut anonymiser = Anonymiser::new();
        for (recording, output) in recordings.iter().zip(&outputs) {
            let bytes = with_files(|| anonymiser.write(recording, output, self.force))?;
            output::line(&format!("written to {}, {bytes} bytes", output::shown(output)))?;
        }
        Ok(ExitCode::SUCCESS)
    }

    fn outputs(&self) -> Result<Vec<PathBuf>> {
        if !with_files(|| self.output.is_dir()) {
            ensure!(
                self.files.len() == 1,
                "several recordings need a folder: make one, and name it with --output"
            );
            return Ok(vec![self.output.clone()]);
        }
        let name = |file: &PathBuf| {
            let name = file.file_name().with_context(|| format!("{} is not a file", output::shown(file)))?;
            Ok(self.output.join(name))
        };
        self.files.iter().map(name).collect()
    }
}
