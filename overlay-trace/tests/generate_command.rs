//! Man pages and shell completions: each command that the help lists has its own.

use std::{fs, path::Path, process::Command};

use clap::CommandFactory;
use overlay_trace::cli::Cli;
use tempfile::TempDir;

fn generate(what: &str, folder: &Path) {
    let status = Command::new(env!("CARGO_BIN_EXE_overlay-trace"))
        .args(["generate", what])
        .arg(folder)
        .status()
        .unwrap();
    assert!(status.success());
}

/// The visible commands and those below them, each as its words: `["lab", "run"]`.
fn commands() -> Vec<Vec<String>> {
    fn below(command: &clap::Command, words: &[String], found: &mut Vec<Vec<String>>) {
        for inner in command.get_subcommands().filter(|inner| !inner.is_hide_set()) {
            let words = [words, &[inner.get_name().to_owned()]].concat();
            below(inner, &words, found);
            found.push(words);
        }
    }
    let mut found = Vec::new();
    below(&Cli::command(), &[], &mut found);
    assert!(found.contains(&vec!["lab".to_owned(), "run".to_owned()]));
    found
}

#[test]
fn each_command_has_a_man_page() {
    let folder = TempDir::new().unwrap();
    // The folder is created.
    let folder = folder.path().join("man/man1");
    generate("man", &folder);
    let main = fs::read_to_string(folder.join("overlay-trace.1")).unwrap();
    assert!(main.contains(".SH SUBCOMMANDS"));
    for words in commands() {
        let name = format!("overlay-trace-{}", words.join("-"));
        let page = fs::read_to_string(folder.join(format!("{name}.1"))).unwrap();
        assert!(page.contains(&format!(".TH {name} 1")), "{page}");
        assert!(page.contains(".SH SYNOPSIS"), "{name}");
    }
    assert!(!folder.join("overlay-trace-generate.1").exists(), "a hidden command has no page");
}

#[test]
fn each_command_can_be_completed() {
    let folder = TempDir::new().unwrap();
    generate("completions", folder.path());
    for file in [
        "overlay-trace.bash",
        "_overlay-trace",
        "overlay-trace.fish",
        "overlay-trace.elv",
        "_overlay-trace.ps1",
    ] {
        let script = fs::read_to_string(folder.path().join(file)).unwrap();
        let script_words: Vec<&str> =
            script.split(|c: char| !c.is_alphanumeric() && c != '-' && c != '_').collect();
        for word in commands().into_iter().flatten() {
            assert!(script_words.contains(&word.as_str()), "{file} does not mention {word}");
        }
    }
}

#[test]
fn the_completions_are_valid_scripts() {
    let folder = TempDir::new().unwrap();
    generate("completions", folder.path());
    for (shell, file) in
        [("bash", "overlay-trace.bash"), ("zsh", "_overlay-trace"), ("fish", "overlay-trace.fish")]
    {
        match Command::new(shell).arg("-n").arg(folder.path().join(file)).output() {
            Ok(output) => {
                assert!(output.status.success(), "{file}: {}", String::from_utf8_lossy(&output.stderr));
            }
            Err(error) => eprintln!("skipped: {shell} cannot be run here ({error})"),
        }
    }
}

#[test]
fn a_folder_that_cannot_be_written_is_named() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_overlay-trace"))
        .args(["generate", "man"])
        .arg(&file)
        .output()
        .unwrap();
    assert!(!output.status.success());
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("cannot write to") && said.contains(&*file.to_string_lossy()), "{said}");
}
