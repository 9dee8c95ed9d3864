use std::process::ExitCode;

use anyhow::Result;

#[derive(clap::Args)]
pub struct Doctor {}

impl Doctor {
    pub fn run(self) -> Result<ExitCode> {
        anyhow::bail!("not built yet")
    }
}
