//! The commands `report` and `diff` as a user meets them.

#[path = "../../crates/analysis/tests/support/mod.rs"]
mod support;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use tempfile::TempDir;

fn overlay_trace(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_overlay-trace"));
    command.args(arguments);
    command
}

fn run(arguments: &[&str]) -> Output {
    overlay_trace(arguments).output().unwrap()
}

/// The error sentence of a run that must fail.
fn error(arguments: &[&str]) -> String {
    let output = run(arguments);
    assert!(!output.status.success() && output.stdout.is_empty(), "{arguments:?}");
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(text.lines().count(), 1, "{text}");
    text
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn recording(dir: &TempDir) -> PathBuf {
    let path = dir.path().join("a.otr");
    support::write(&path, true, true);
    path
}

#[test]
fn every_format_comes_out() {
    let dir = TempDir::new().unwrap();
    let file = recording(&dir);
    for (format, beginning) in [
        ("text", "400 packets took "),
        ("json", "{\n"),
        ("folded", "node worker-1;"),
        ("svg", "<?xml"),
        ("csv", "layer,stage,"),
    ] {
        let output = run(&["report", text(&file), "--format", format]);
        assert!(output.status.success());
        assert!(String::from_utf8(output.stdout).unwrap().starts_with(beginning), "{format}");
    }
    for (format, beginning) in
        [("text", "The second recording takes "), ("json", "{\n"), ("folded", "packet;"), ("svg", "<?xml")]
    {
        let output = run(&["diff", text(&file), text(&file), "--format", format]);
        assert!(output.status.success());
        assert!(String::from_utf8(output.stdout).unwrap().starts_with(beginning), "{format}");
    }
}

#[test]
fn bad_input_gets_one_sentence() {
    let dir = TempDir::new().unwrap();
    let file = recording(&dir);
    let foreign = dir.path().join("foreign");
    fs::write(&foreign, "hello").unwrap();
    assert!(error(&["report", text(&foreign)]).contains("is not a recording"));
    assert!(error(&["report", text(&dir.path().join("missing"))]).contains("cannot open the recording"));
    assert!(error(&["diff", text(&file), text(&foreign)]).contains("is not a recording"));
}

#[test]
fn a_stage_can_be_left_out_of_a_flame_graph() {
    let dir = TempDir::new().unwrap();
    let file = recording(&dir);
    let folded = |more: &[&str]| {
        let output = run(&[&["report", text(&file), "--format", "folded"], more].concat());
        String::from_utf8(output.stdout).unwrap()
    };
    let (all, without) = (folded(&[]), folded(&["--without", "socket-wait"]));
    assert!(all.contains(";socket-wait ") && !without.contains(";socket-wait "));
    assert_eq!(all.lines().count(), without.lines().count() + 2);
    let svg = run(&["report", text(&file), "--format", "svg", "--without", "socket-wait"]).stdout;
    assert!(String::from_utf8(svg).unwrap().contains("socket-wait, 14.5%, is left out"));
    assert!(error(&["report", text(&file), "--without", "socket-wait"]).contains("--format svg"));
    assert!(error(&["report", text(&file), "-f", "svg", "--without", "x"]).contains("no stage x"));
}

#[test]
fn an_existing_report_is_only_overwritten_by_force() {
    let dir = TempDir::new().unwrap();
    let file = recording(&dir);
    let out = dir.path().join("out.csv");
    assert!(run(&["report", text(&file), "--format", "csv", "-o", text(&out)]).status.success());
    let csv = fs::read(&out).unwrap();
    assert!(error(&["report", text(&file), "-o", text(&out)]).contains("--force"));
    assert_eq!(fs::read(&out).unwrap(), csv);
    assert!(run(&["report", text(&file), "-o", text(&out), "--force"]).status.success());
    assert_ne!(fs::read(&out).unwrap(), csv);
}
