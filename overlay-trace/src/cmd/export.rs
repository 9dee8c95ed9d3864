//! `export`: recordings for other tools.

use std::{
    io::{BufWriter, IsTerminal, Write, stdout},
    path::PathBuf,
    process::ExitCode,
};

use anyhow::{Result, ensure};
use overlay_trace_export::{Exported, Format, export};
use overlay_trace_format::Recording;

use super::{
    output::{self, ensure_no_input},
    unprivileged,
};

#[derive(clap::Args)]
pub struct Export {
    /// Recording to read
    file: PathBuf,
    /// Output format
    #[arg(long, short, value_enum)]
    format: Format,
    /// Write to this file instead of standard output
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Overwrite the output file if it exists
    #[arg(long, requires = "output")]
    force: bool,
}

impl Export {
    pub fn run(self) -> Result<ExitCode> {
        let [recording] = unprivileged::open([&self.file], self.output.as_ref())?;
        let exported = match &self.output {
            Some(path) => {
                ensure_no_input(path, &[&self.file])?;
                output::to_file(path, self.force, |file| self.write(&recording, file))?
            }
            None => {
                ensure!(
                    !self.format.is_binary() || !stdout().is_terminal(),
                    "this format is not for a terminal: write it to a file with --output"
                );
                output::print_by(|out| self.write(&recording, out))?
            }
        };
        if exported.left_out > 0 {
            output::note(&format!(
                "left out {} packets whose headers could not be read: this format has no place for them",
                exported.left_out
            ));
        }
        Ok(ExitCode::SUCCESS)
    }

    fn write(&self, recording: &Recording, file: impl Write + Send) -> Result<Exported> {
        let mut out = BufWriter::with_capacity(1 << 20, file);
        let exported = export(recording, self.format, &mut out)?;
        out.flush()?;
        Ok(exported)
    }
}
