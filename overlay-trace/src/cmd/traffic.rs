use std::process::ExitCode;

use anyhow::Result;

#[derive(clap::Args)]
pub struct Traffic {}

impl Traffic {
    pub fn run(self) -> Result<ExitCode> {
        anyhow::bail!("not built yet")
    }
}
