//! The command line: one variant per command, each of them a file of [`cmd`].

use std::io::{Write, stdout};
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::{
    CommandFactory, Parser, Subcommand,
    error::{ContextKind, ContextValue, ErrorKind},
};

use crate::cmd::{self, unprivileged};

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
    /// Follow the running system: metrics for Prometheus, and the last packets kept
    Monitor(cmd::monitor::Monitor),
    /// Show where packets spend their time now, in the terminal
    Top(cmd::top::Top),
    /// Join recordings of several machines to one path per packet
    Merge(cmd::merge::Merge),
    /// Write a recording in the format of another tool
    Export(cmd::export::Export),
    /// Write a piece of a recording: a time, a flow, a namespace, the slowest packets
    Cut(cmd::cut::Cut),
    /// Join recordings of one machine, one after the other
    Cat(cmd::cat::Cat),
    /// Replace addresses, names and command lines in recordings, to share them
    Anonymise(cmd::anonymise::Anonymise),
    /// Predict packet times without a part of the network
    WhatIf(cmd::what_if::WhatIf),
    /// Build the dataplanes of well-known container networks on this machine
    Lab(cmd::lab::Lab),
    /// Generate or answer test traffic
    Traffic(cmd::traffic::Traffic),
    /// Print the JSON schema of an output
    Schema(cmd::schema::Schema),
    /// Print the stage map
    Stages(cmd::stages::Stages),
    /// Write man pages or shell completions to a folder
    #[command(hide = true)]
    Generate(cmd::generate::Generate),
    /// Print a generated chapter of the book
    #[command(hide = true)]
    Book(cmd::book::Book),
}

impl Command {
    /// Whether the command needs no privilege: it reads what others have written.
    fn only_reads(&self) -> bool {
        use Command::*;
        let reads =
            matches!(self, Report(_) | Diff(_) | Tail(_) | Merge(_) | WhatIf(_) | Stages(_) | Book(_));
        reads || matches!(self, Schema(_) | Export(_) | Cut(_) | Cat(_) | Anonymise(_))
    }
}

impl Cli {
    /// Parses the arguments of this process, and runs the command that they choose.
    ///
    /// # Errors
    ///
    /// As for [`Cli::run`]; and help that cannot be printed.
    pub fn run_arguments() -> Result<ExitCode> {
        match Cli::try_parse() {
            Ok(cli) => cli.run(),
            Err(message) if message.kind() == ErrorKind::InvalidUtf8 => {
                bail!(
                    "an argument is no UTF-8: only a COMMAND, its arguments and names of files may hold other bytes"
                )
            }
            Err(message) if message.use_stderr() => {
                let message = with_tip(message);
                // Nobody may read it any more; the exit code tells.
                let _ = message.print();
                Ok(ExitCode::from(message.exit_code() as u8))
            }
            Err(help) => {
                cmd::output::printed(help.print().and_then(|()| stdout().flush()))?;
                Ok(ExitCode::SUCCESS)
            }
        }
    }

    /// Runs the chosen command.
    ///
    /// # Errors
    ///
    /// One sentence: what is wrong and what to do.
    pub fn run(self) -> Result<ExitCode> {
        if self.parse_only {
            return Ok(ExitCode::SUCCESS);
        }
        if self.command.only_reads() {
            unprivileged::begin()?;
        }
        match self.command {
            Command::Doctor(command) => command.run(),
            Command::Record(command) => command.run(),
            Command::Report(command) => command.run(),
            Command::Diff(command) => command.run(),
            Command::Tail(command) => command.run(),
            Command::Monitor(command) => command.run(),
            Command::Top(command) => command.run(),
            Command::Merge(command) => command.run(),
            Command::Export(command) => command.run(),
            Command::Cut(command) => command.run(),
            Command::Cat(command) => command.run(),
            Command::Anonymise(command) => command.run(),
            Command::WhatIf(command) => command.run(),
            Command::Lab(command) => command.run(),
            Command::Traffic(command) => command.run(),
            Command::Schema(command) => command.run(),
            Command::Stages(command) => command.run(),
            Command::Generate(command) => command.run(Cli::command()),
            Command::Book(command) => command.run(Cli::command()),
        }
    }
}

/// Adds to the message on an unexpected word that commands are set off by `--`, where one could be meant.
fn with_tip(mut message: clap::Error) -> clap::Error {
    let text = |kind| message.get(kind).map(ToString::to_string).unwrap_or_default();
    let (word, usage) = (text(ContextKind::InvalidArg), text(ContextKind::Usage));
    let takes_command = message.kind() == ErrorKind::UnknownArgument && usage.contains("[-- <COMMAND>...]");
    if takes_command && !word.starts_with('-') {
        let tip = format!("to run a command, put -- before it: -- {word} …");
        message.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip.into()]));
    }
    message
}
