//! The command line: one variant per command, each of them a file of [`cmd`].

use std::process::ExitCode;

use anyhow::Result;
use clap::{CommandFactory, Parser, Subcommand};

use crate::cmd;

/// Measures, packet by packet, where a container network spends its time.
#[derive(Parser)]
#[command(name = "overlay-trace", version, max_term_width = 100)]
pub struct Cli {
    /// Parse the command line and do nothing: the book's examples are checked by it
    #[arg(long, hide = true)]
    parse_only: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Show what this kernel allows, which stages can be probed, and what is missing
    Doctor(cmd::doctor::Doctor),
    /// Trace packets and write a recording
    Record(cmd::record::Record),
    /// Show where the packets of a recording spent their time
    Report(cmd::report::Report),
    /// Compare two recordings, stage by stage
    Diff(cmd::diff::Diff),
    /// Explain why the slow packets of a recording are slow
    Tail(cmd::tail::Tail),
    /// Predict packet times without a part of the network
    WhatIf(cmd::what_if::WhatIf),
    /// Build the dataplanes of well-known container networks on this machine
    Lab(cmd::lab::Lab),
    /// Generate or answer test traffic
    Traffic(cmd::traffic::Traffic),
    /// Print the stage map
    Stages(cmd::stages::Stages),
    /// Write man pages or shell completions to a folder
    #[command(hide = true)]
    Generate(cmd::generate::Generate),
    /// Print a generated chapter of the book
    #[command(hide = true)]
    Book(cmd::book::Book),
}

impl Cli {
    /// Runs the chosen command.
    ///
    /// # Errors
    ///
    /// One sentence: what is wrong and what to do.
    pub fn run(self) -> Result<ExitCode> {
        if self.parse_only {
            return Ok(ExitCode::SUCCESS);
        }
        match self.command {
            Command::Doctor(command) => command.run(),
            Command::Record(command) => command.run(),
            Command::Report(command) => command.run(),
            Command::Diff(command) => command.run(),
            Command::Tail(command) => command.run(),
            Command::WhatIf(command) => command.run(),
            Command::Lab(command) => command.run(),
            Command::Traffic(command) => command.run(),
            Command::Stages(command) => command.run(),
            Command::Generate(command) => command.run(Cli::command()),
            Command::Book(command) => command.run(Cli::command()),
        }
    }
}
