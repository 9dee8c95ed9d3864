//! The project's own commands: `cargo xtask COMMAND`.

mod build_ebpf;
mod host;
mod packages;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// Builds, tests and shows overlay-trace.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Build the kernel programs that the overlay-trace binary embeds
    BuildEbpf,
}

impl Cli {
    fn run(self) -> Result<ExitCode> {
        match self.command {
            Command::BuildEbpf => build_ebpf::build().map(|_| ExitCode::SUCCESS),
        }
    }
}

fn main() -> ExitCode {
    match Cli::parse().run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
