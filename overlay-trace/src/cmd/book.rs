//! `overlay-trace book`: chapters of the book that follow from tables in the program. `cargo xtask docs` writes them
//! and checks them.

use std::{fmt::Write as _, process::ExitCode};

use anyhow::Result;
use clap::ValueEnum;

use super::output::line;
use overlay_trace_analysis::tail::{Evidence, Rule, rules};
use overlay_trace_lab::dataplanes;

/// Columns of the help texts.
const WIDTH: usize = 100;

/// A generated chapter.
#[derive(Clone, Copy, ValueEnum)]
enum Chapter {
    /// The causes that `tail` names, with evidence and remedies
    Causes,
    /// The help of every command
    Commands,
    /// The labs
    Labs,
}

#[derive(clap::Args)]
pub struct Book {
    /// Chapter to print
    #[arg(value_enum)]
    chapter: Chapter,
}

impl Book {
    /// Prints the chapter; `command_line` is what the commands' help is taken from.
    pub fn run(self, command_line: clap::Command) -> Result<ExitCode> {
        let text = match self.chapter {
            Chapter::Causes => rules().map(cause).collect(),
            Chapter::Commands => {
                let mut cli = command_line.term_width(WIDTH);
                cli.build();
                commands(&mut cli, "overlay-trace")
            }
            Chapter::Labs => labs(),
        };
        line(text.trim_end());
        Ok(ExitCode::SUCCESS)
    }
}

fn cause(rule: &Rule) -> String {
    let mut text = format!("### {}\n\n{}.\n\n", rule.id, capital(rule.what));
    let _ = writeln!(text, "Evidence: {}.\n", evidence(&rule.evidence));
    for advice in rule.advice {
        let _ = writeln!(text, "- {} (*{}*)", capital(advice.what), advice.source);
    }
    text + "\n"
}

fn evidence(evidence: &Evidence) -> String {
    match evidence {
        Evidence::Excess(stages) => format!("slow packets spend more time in {}", codes(stages, "or")),
        Evidence::ExcessLed([first, others @ ..]) => format!(
            "slow packets spend more time in {}; their excess in {} is added to it",
            codes(&[first], "or"),
            codes(others, "or")
        ),
        Evidence::ExcessLed([]) => String::new(),
        Evidence::ExcessSpread(stages) => {
            format!(
                "slow packets spend more time in several of {}, one after the other",
                codes(stages, "and")
            )
        }
        Evidence::ExcessOnOneCpu(stages) => format!(
            "slow packets of several flows spend more time in {}, and nearly all packets were on one CPU there \
             although the node has more",
            codes(stages, "or")
        ),
        Evidence::ExcessInProgram(stages) => {
            format!("slow packets spend more time in {}, where they wait for a program", codes(stages, "or"))
        }
        Evidence::TimeShare { layers, least } => format!(
            "at least {:.0} % of all packets' time is in the layers {}",
            least * 100.0,
            codes(layers, "and")
        ),
        Evidence::Copies { stages, least } => {
            format!("at least {:.0} % of the packets were copied in {}", least * 100.0, codes(stages, "or"))
        }
        Evidence::Drops { reasons, stages, functions, intended } => {
            let mut parts = Vec::new();
            if !reasons.is_empty() {
                parts.push(format!("for {}", codes(reasons, "or")));
            }
            if !stages.is_empty() {
                parts.push(format!("in the stage {}", codes(stages, "or")));
            }
            let mut text = format!("packets were dropped {}", parts.join(" "));
            if !functions.is_empty() {
                let by = codes(functions, "or");
                let alone = format!("packets were dropped by {by}");
                text = if parts.is_empty() { alone } else { format!("{text}; without a reason, by {by}") };
            }
            if *intended {
                text += "; the drop can be intended";
            }
            text
        }
        Evidence::Timeouts => {
            "TCP waited for its retransmission timeout (RTO), and no cause below explains the lost segments"
                .into()
        }
        Evidence::ZeroWindows => "a TCP receiver advertised a zero window".into(),
    }
}

/// `a`, `b` or `c`.
fn codes(names: &[&str], last: &str) -> String {
    let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    match names.as_slice() {
        [names @ .., end] if !names.is_empty() => format!("{} {last} {end}", names.join(", ")),
        _ => names.concat(),
    }
}

/// A clause as the beginning of a sentence; names of programs and settings stay as they are.
fn capital(clause: &str) -> String {
    let word = clause.split(' ').next().unwrap_or_default();
    if word.contains(['.', '_', '-']) {
        return clause.to_owned();
    }
    let mut letters = clause.chars();
    letters.next().map_or(String::new(), |first| first.to_uppercase().chain(letters).collect())
}

fn commands(command: &mut clap::Command, path: &str) -> String {
    let mut text = String::new();
    let names: Vec<String> = command
        .get_subcommands()
        .filter(|part| !part.is_hide_set() && part.get_name() != "help")
        .map(|part| part.get_name().to_owned())
        .collect();
    if names.is_empty() || path == "overlay-trace" {
        let help = command.render_long_help().to_string();
        let help: Vec<&str> = help.lines().map(str::trim_end).collect();
        let _ = writeln!(text, "## {path}\n\n```text\n{}\n```\n", help.join("\n").trim_end());
    }
    for name in names {
        if let Some(part) = command.find_subcommand_mut(&name) {
            text += &commands(part, &format!("{path} {name}"));
        }
    }
    text
}

fn labs() -> String {
    let mut text = String::from("| lab | what it is |\n|---|---|\n");
    for lab in dataplanes::all() {
        let _ = writeln!(text, "| {} | {} |", lab.name, lab.about);
    }
    text
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn every_cause_has_its_evidence_and_a_remedy() {
        for rule in rules() {
            let text = cause(rule);
            assert!(text.starts_with(&format!("### {}\n", rule.id)), "{text}");
            assert!(text.contains("Evidence: ") && text.contains("\n- "), "{text}");
            assert!(!text.contains("Evidence: ."), "{text}");
        }
    }

    #[test]
    fn a_list_ends_with_its_last_word() {
        assert_eq!(codes(&["a"], "or"), "`a`");
        assert_eq!(codes(&["a", "b", "c"], "or"), "`a`, `b` or `c`");
    }

    #[test]
    fn every_command_but_the_hidden_ones_has_its_help() {
        let mut cli = crate::cli::Cli::command();
        cli.build();
        let text = commands(&mut cli, "overlay-trace");
        assert!(text.contains("## overlay-trace lab run\n") && text.contains("--tail-above"), "{text}");
        assert!(!text.contains("overlay-trace book"), "{text}");
    }
}
