use std::{fs, path::PathBuf, process::ExitCode};

use anyhow::{Context, Result};
use clap::ValueEnum;
use clap_complete::Shell;

/// What is generated from the definition of the command line.
#[derive(Clone, Copy, ValueEnum)]
enum What {
    /// A man page for each command
    Man,
    /// A completion script for each shell
    Completions,
}

#[derive(clap::Args)]
pub struct Generate {
    /// What to generate
    #[arg(value_enum)]
    what: What,
    /// The folder to write to; it is created if it is missing
    folder: PathBuf,
}

impl Generate {
    /// Writes man pages or completion scripts for this command line.
    ///
    /// # Errors
    ///
    /// The folder or a file in it cannot be written.
    pub fn run(self, command_line: clap::Command) -> Result<ExitCode> {
        let name = command_line.get_name().to_owned();
        let write = || {
            fs::create_dir_all(&self.folder)?;
            match self.what {
                What::Man => clap_mangen::generate_to(command_line, &self.folder),
                What::Completions => {
                    let mut command_line = command_line;
                    Shell::value_variants().iter().try_for_each(|shell| {
                        clap_complete::generate_to(*shell, &mut command_line, &name, &self.folder).map(drop)
                    })
                }
            }
        };
        write().with_context(|| format!("cannot write to {}", self.folder.display()))?;
        Ok(ExitCode::SUCCESS)
    }
}
