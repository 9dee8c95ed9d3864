//! Every command that a document shows can be run as it stands there: its options exist.

use std::path::Path;

use anyhow::Result;
use clap::{CommandFactory, Parser};

use super::{Document, markdown};
use crate::{Cli, host};

const PROGRAM: &str = "overlay-trace ";
const XTASK: &str = "cargo xtask ";

/// A sentence for each command that is none.
///
/// # Errors
///
/// The program cannot be started.
pub fn check(document: &Document, program: &Path) -> Result<Vec<String>> {
    let mut failures = Vec::new();
    for (number, command) in shown(&document.text) {
        let complaint = match words(&command) {
            None => Some("its quotes do not match".to_owned()),
            Some(words) if command.starts_with(XTASK) => of_own(&words[1..]),
            Some(words) => of_program(program, &words[1..])?,
        };
        let complaint = complaint.map(|why| format!("{}:{number}: `{command}`: {why}", document.path));
        failures.extend(complaint);
    }
    Ok(failures)
}

/// The commands in code blocks, with their lines' numbers.
fn shown(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut lines = markdown::lines(text).filter(|line| line.code.is_some());
    while let Some(line) = lines.next() {
        let command = line.text.trim_start();
        let command = command.strip_prefix("$ ").unwrap_or(command);
        let command = command.strip_prefix("sudo ").unwrap_or(command);
        // What the program prints may begin with its name too, and a help names a place for a command.
        let is_output = command.starts_with("overlay-trace: ") || command.ends_with(" <COMMAND>");
        if is_output || !(command.contains(PROGRAM) || command.contains(XTASK)) {
            continue;
        }
        let mut command = without_rest(command).to_owned();
        // A quotation goes on in the next lines.
        while !is_closed(&command) {
            let Some(next) = lines.next() else { break };
            command = format!("{command} {}", next.text.trim());
        }
        for part in parts(&command) {
            if part.starts_with(PROGRAM) || part.starts_with(XTASK) {
                found.push((line.number, part));
            }
        }
    }
    found
}

fn is_closed(command: &str) -> bool {
    command.matches('\'').count().is_multiple_of(2)
}

/// The commands between `&&`, where that is not quoted.
fn parts(command: &str) -> Vec<String> {
    let mut parts: Vec<String> = Vec::new();
    for piece in command.split("&&") {
        match parts.last_mut().filter(|part| !is_closed(part)) {
            Some(part) => *part = format!("{part}&&{piece}"),
            None => parts.push(piece.to_owned()),
        }
    }
    parts.into_iter().map(|part| part.trim().to_owned()).collect()
}

/// Without a comment, and without what its output goes to.
fn without_rest(command: &str) -> &str {
    let end = [" #", " | ", " > ", " 2>"].iter().filter_map(|mark| command.find(mark)).min();
    command[..end.unwrap_or(command.len())].trim_end()
}

fn words(command: &str) -> Option<Vec<String>> {
    shlex::split(command)
}

fn of_own(words: &[String]) -> Option<String> {
    let is_wrong = |error: &clap::Error| error.use_stderr();
    Cli::try_parse_from(words).err().filter(is_wrong).map(|error| first_line(&error.to_string()))
}

fn of_program(program: &Path, words: &[String]) -> Result<Option<String>> {
    let parsed = host::output(host::command(program).arg("--parse-only").args(words));
    Ok(parsed.err().map(|error| first_line(&format!("{error:#}"))))
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}

/// The help of every `cargo xtask` command.
pub fn of_xtask() -> String {
    let mut cli = Cli::command();
    cli.build();
    help(&mut cli)
}

fn help(command: &mut clap::Command) -> String {
    let mut text = command.render_long_help().to_string();
    for part in command.get_subcommands_mut() {
        text += &help(part);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_found_in_code_blocks_and_end_before_comments_and_pipes() {
        let text = "overlay-trace x\n\n    $ overlay-trace report a.otr | head # the table\n    cargo xtask build-ebpf && \
                    cargo build\n    overlay-trace: no such file\n    sudo overlay-trace doctor\n";
        let found: Vec<String> = shown(text).into_iter().map(|(_, command)| command).collect();
        assert_eq!(found, ["overlay-trace report a.otr", "cargo xtask build-ebpf", "overlay-trace doctor"]);
    }

    #[test]
    fn a_quoted_command_is_one_across_lines() {
        let text = "    cargo xtask vm 6.12 -- sh -c 'target/x &&\n        y' && overlay-trace stages\n";
        let found: Vec<String> = shown(text).into_iter().map(|(_, command)| command).collect();
        assert_eq!(found, ["cargo xtask vm 6.12 -- sh -c 'target/x && y'", "overlay-trace stages"]);
    }

    #[test]
    fn an_option_that_is_not_there_is_a_failure() {
        let of = |command: &str| of_own(&words(command).unwrap_or_default()[1..]);
        assert!(of("cargo xtask test --quick").is_none());
        assert!(of("cargo xtask test --help").is_none());
        assert!(of("cargo xtask test --quickly").is_some());
        assert!(of("cargo xtask dance").is_some());
    }

    #[test]
    fn the_help_of_subcommands_is_there() {
        assert!(of_xtask().contains("--tail-runs"));
    }
}
