//! The help of every command, to the letter. After an intended change: `BLESS=1 cargo test --test help`, then read the
//! difference before it is committed.

use std::process::{Command, Stdio};

use clap::CommandFactory;
use overlay_trace::cli::Cli;
use overlay_trace_test_support::golden;

const PROGRAM: &str = env!("CARGO_BIN_EXE_overlay-trace");

/// The commands' names with those of their parents, the program itself first.
fn commands() -> Vec<Vec<String>> {
    fn add(command: &clap::Command, parents: &[String], all: &mut Vec<Vec<String>>) {
        all.push(parents.to_vec());
        for child in command.get_subcommands().filter(|child| !child.is_hide_set()) {
            add(child, &[parents, &[child.get_name().to_owned()]].concat(), all);
        }
    }
    let mut all = Vec::new();
    add(&Cli::command(), &[], &mut all);
    all
}

/// A command's help; without a terminal its width is fixed.
fn help(command: &[String]) -> String {
    let output = Command::new(PROGRAM)
        .args(command)
        .arg("--help")
        .env_remove("COLUMNS")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(output.status.success(), "{command:?}: {output:?}");
    assert!(output.stderr.is_empty(), "{command:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_help_of_every_command_is_the_known_one() {
    let commands = commands();
    for command in ["record", "report", "diff", "tail", "what-if", "doctor", "stages"] {
        assert!(commands.iter().any(|names| names == &[command]), "{command} is missing");
    }
    for command in commands {
        let name = [&["overlay-trace".to_owned()], &command[..]].concat().join("-");
        golden::check(&format!("help/{name}.txt"), help(&command).as_bytes());
    }
}
