use std::process::ExitCode;

use anyhow::Result;

#[derive(clap::Args)]
pub struct Stages {}

impl Stages {
    pub fn run(self) -> Result<ExitCode> {
        anyhow::bail!("not built yet")
    }
}
