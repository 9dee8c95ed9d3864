//! `cargo xtask bench merge`: how fast recordings of several machines are merged, and in how much memory.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;

use crate::host;

/// How fast recordings of several machines are merged, and in how much memory.
#[derive(Args)]
pub struct Merge {
    /// How many records to merge, of three machines; they are written to a temporary folder first
    #[arg(long, default_value_t = 3_000_000)]
    records: u64,
}

impl Merge {
    /// Builds the benchmark and runs it.
    ///
    /// # Errors
    ///
    /// It cannot be built, or something was not joined, or it took too much memory.
    pub fn run(&self) -> Result<ExitCode> {
        let mut bench = host::command("cargo");
        bench.args(["bench", "--package", "overlay-trace-merge", "--bench", "merge", "--"]);
        bench.args(["--records", &self.records.to_string()]);
        host::run(bench.current_dir(host::workspace()))?;
        Ok(ExitCode::SUCCESS)
    }
}
