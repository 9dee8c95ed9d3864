//! The project's own commands: `cargo xtask COMMAND`.

mod build_ebpf;
mod host;
mod packages;
mod vm;

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
    /// Run a command, or a shell, under another kernel in a virtual machine
    Vm(vm::Vm),
}

impl Cli {
    fn run(self) -> Result<ExitCode> {
        match self.command {
            Command::BuildEbpf => build_ebpf::build().map(|_| ExitCode::SUCCESS),
            Command::Vm(vm) => vm.run(),
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
