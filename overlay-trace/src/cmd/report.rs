use std::process::ExitCode;

use anyhow::Result;

#[derive(clap::Args)]
pub struct Report {}

impl Report {
    pub fn run(self) -> Result<ExitCode> {
        anyhow::bail!("not built yet")
    }
}
