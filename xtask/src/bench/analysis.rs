//! `cargo xtask bench analysis`: how fast records are analysed, and that it takes no more memory for more.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Result;
use clap::Args;

use crate::{build_ebpf, host};

/// How fast records are analysed, and in how much memory.
#[derive(Args)]
pub struct Analysis {
    /// How many records to analyse; they are made on the fly
    #[arg(long, default_value_t = 2_000_000)]
    records: u64,
    /// How many threads analyse records
    #[arg(long, default_value_t = 2)]
    threads: u64,
    /// Of a thousand packets, so many are interrupted, each at another place
    #[arg(long, default_value_t = 100)]
    interrupted: u64,
    /// Write the records to this file first, and report that (some 800 bytes for each record)
    #[arg(long, value_name = "FILE")]
    through: Option<PathBuf>,
}

impl Analysis {
    /// Builds the benchmark and runs it.
    ///
    /// # Errors
    ///
    /// It cannot be built, or its sums were wrong, or its memory grew.
    pub fn run(&self) -> Result<ExitCode> {
        build_ebpf::build()?;
        let mut bench = host::command("cargo");
        bench.args(["bench", "--package", "overlay-trace-analysis", "--bench", "analysis", "--"]);
        let numbers =
            [("--records", self.records), ("--threads", self.threads), ("--interrupted", self.interrupted)];
        for (option, number) in numbers {
            bench.args([option, &number.to_string()]);
        }
        if let Some(file) = &self.through {
            bench.arg("--through").arg(std::path::absolute(file)?);
        }
        host::run(bench.current_dir(host::workspace()))?;
        Ok(ExitCode::SUCCESS)
    }
}
