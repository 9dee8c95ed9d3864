//! The project's own commands: `cargo xtask COMMAND`.

mod bench;
mod book;
mod build_ebpf;
mod by_kernel;
mod confusion;
mod coverage;
mod demo;
mod dist;
mod docs;
mod drivers;
mod host;
mod kernel_fixtures;
mod labs;
mod nics;
mod packages;
mod pieces;
mod remembered;
mod tally;
mod test;
mod tool;
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
    /// Count what tracing costs, in instructions per packet
    Bench(bench::Bench),
    /// Build the kernel programs that the overlay-trace binary embeds
    BuildEbpf(build_ebpf::BuildEbpf),
    /// Show what the tool does: trace traffic with and without a VXLAN overlay, and compare
    Demo(demo::Demo),
    /// Make the release artefacts in target/dist
    Dist(dist::Dist),
    /// Write the generated parts of README.md and the book, check them, build the book
    Docs(docs::Docs),
    /// Write anew what unit tests know of the kernels of the matrix
    #[command(hide = true)]
    KernelFixtures(kernel_fixtures::KernelFixtures),
    /// Test everything: format, lints, unit and golden tests, and the matrix of kernels
    Test(test::Test),
    /// Run a command, or a shell, under another kernel in a virtual machine
    Vm(vm::Vm),
}

impl Cli {
    fn run(self) -> Result<ExitCode> {
        match self.command {
            Command::Bench(bench) => bench.run(),
            Command::BuildEbpf(options) => options.run().map(|_| ExitCode::SUCCESS),
            Command::Demo(demo) => demo.run().map(|()| ExitCode::SUCCESS),
            Command::Dist(dist) => dist.run().map(|()| ExitCode::SUCCESS),
            Command::Docs(docs) => docs.run().map(|()| ExitCode::SUCCESS),
            Command::KernelFixtures(fixtures) => fixtures.run().map(|()| ExitCode::SUCCESS),
            Command::Test(test) => Ok(if test.run() { ExitCode::SUCCESS } else { ExitCode::FAILURE }),
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
