//! `overlay-trace book`: chapters of the book that follow from tables in the program. `cargo xtask docs` writes them
//! and checks them.

use std::{fmt::Write as _, process::ExitCode};

use anyhow::Result;
use clap::ValueEnum;

use super::output::line;
use overlay_trace_analysis::tail::{DropRow, Evidence, Known, Rule, Sign, drop_rows, rules};
use overlay_trace_lab::dataplanes;

/// Columns of the help texts.
const WIDTH: usize = 100;

/// A generated chapter.
#[derive(Clone, Copy, ValueEnum)]
enum Chapter {
    /// The causes that `tail` names, with evidence and remedies
    Causes,
    /// What each of the kernel's drop reasons means
    Drops,
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
            Chapter::Drops => drops(),
            Chapter::Commands => {
                let mut cli = command_line.term_width(WIDTH);
                cli.build();
                commands(&mut cli, "overlay-trace")
            }
            Chapter::Labs => labs(),
        };
        line(text.trim_end())?;
        Ok(ExitCode::SUCCESS)
    }
}

fn cause(rule: &Rule) -> String {
    let mut text = format!("### {}\n\n{}.\n\n", rule.id, capital(rule.what));
    let _ = writeln!(text, "Evidence: {}.\n", evidence(&rule.evidence));
    if !rule.check.is_empty() {
        let _ = writeln!(text, "Make sure: {}.\n", rule.check);
    }
    for advice in rule.advice {
        let _ = writeln!(text, "- {} (*{}*)", capital(advice.what), advice.source);
    }
    text + "\n"
}

fn evidence(evidence: &Evidence) -> String {
    match evidence {
        Evidence::Queue(stages) => format!(
            "slow packets spend more time in {stages}; or all packets do, and that is a large part of their time",
            stages = codes(stages, "or")
        ),
        Evidence::OtherDrops => {
            "packets were dropped that no other cause explains; [Drop reasons](drops.md) says what \
                                 the reason means, what it can come from and what helps"
                .into()
        }
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
        Evidence::RequestWait(stages) => format!(
            "slow requests spend more time in {}; or most requests spend a large part of their time there",
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
        Evidence::Drops { reasons, stages, functions, sign, intended } => {
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
            text += &signs(*sign);
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
        Evidence::Counted(counters) => format!(
            "the kernel's counter {} grew by {} or more during the recording, in a namespace of it",
            codes(counters.names, "or"),
            counters.least
        ),
        Evidence::Throttled => {
            "`cpu.stat` of a control group with a process in one of the recording's namespaces: `nr_throttled` grew, and \
             slow packets wait for the program there, or it was stopped for a notable part of the recording"
                .into()
        }
        Evidence::Stolen => "stolen time in /proc/stat grew by 2 % of the CPUs' time or more".into(),
        Evidence::Squeezed => {
            "`time_squeeze` of /proc/net/softnet_stat grew by 10 or more, and slow packets wait for softirqs".into()
        }
    }
}

/// What the flows must show besides.
fn signs(sign: Sign) -> String {
    let text = match sign {
        Sign::Any => "",
        Sign::Raced => "; while they were in flight, another packet of their flow was, and got through",
        Sign::OneDestination => {
            "; they are the first of several flows, nearly all to one address and port, and did not race"
        }
        Sign::StaleEntry => {
            "; their flows were tracked and got through before, and nothing of them does any more, while other flows to \
             the same address and port do"
        }
        Sign::TranslationLost => {
            "; they belong to TCP flows that got through before, and whose addresses differ between client and server"
        }
        Sign::Sometimes => {
            "; they are the first of their flows, while others to the same address and port get through"
        }
        Sign::Total => "; nothing gets through to the same addresses and ports after the first of them",
        Sign::Longest => "; each is longer than all packets of its flow that get through",
        Sign::Outer => "; this happened to the outer packet of a tunnel",
        Sign::NoReason => "; the kernel gives reasons for other drops, and none for these",
        Sign::Forwards => "; the namespace forwards other packets",
        Sign::Counted(names) => {
            return format!("; the kernel's counter {} grew in the namespace", codes(names, "or"));
        }
    };
    text.to_owned()
}

/// A section for each row of the table of drops.
fn drops() -> String {
    let mut text = String::new();
    for (known, heading) in [(Known::Reason, "By reason"), (Known::Function, "By function")] {
        let _ = writeln!(text, "## {heading}\n");
        for row in drop_rows().filter(|row| row.known == known) {
            text += &drop(row);
        }
    }
    text
}

fn drop(row: &DropRow) -> String {
    let mut text = format!("**{}**: {} ({}).\n\n", codes(row.names, "and"), row.means, row.effect.name());
    for cause in row.causes {
        let _ = writeln!(text, "- {}", capital(cause));
    }
    let seen = if row.is_brought_about() { "" } else { " Not brought about in a test." };
    let _ = writeln!(
        text,
        "\nMake sure: {}. What helps: {} (*{}*).{seen}\n",
        row.check, row.helps.what, row.helps.source
    );
    text
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
    if names.is_empty() || path == "overlay-trace" || !command.is_subcommand_required_set() {
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
            let has_remedy = text.contains("\n- ") || matches!(rule.evidence, Evidence::OtherDrops);
            assert!(text.contains("Evidence: ") && has_remedy, "{text}");
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
