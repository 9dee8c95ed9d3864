//! The command `tail` as a user meets it.

#[path = "../../crates/analysis/tests/support/mod.rs"]
mod support;

use std::process::Command;

use tempfile::TempDir;

#[test]
fn every_format_of_the_command_comes_out() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("a.otr");
    support::write(&path, true, true);
    let run = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_overlay-trace"));
        command.arg("tail").arg(&path).args(arguments).output().unwrap()
    };
    for (format, beginning) in [
        ("text", "Cause: a firewall rule or a network policy drops packets"),
        ("json", "{\n"),
        ("folded", "node worker-1;"),
        ("svg", "<?xml"),
        ("html", "<!DOCTYPE html>"),
    ] {
        let output = run(&["--format", format]);
        assert!(output.status.success());
        assert!(String::from_utf8(output.stdout).unwrap().starts_with(beginning), "{format}");
    }
    let timelines = |number: &str| {
        let output = run(&["--packets", number, "--above", "p90"]);
        String::from_utf8(output.stdout).unwrap().matches("\nslow packet ").count()
    };
    assert_eq!((timelines("0"), timelines("3")), (0, 3));
    let output = run(&["--above", "fast"]);
    assert!(!output.status.success() && output.stdout.is_empty());
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains("neither a percentile (p99, p99.9) nor a time"), "{error}");
    let output = run(&["--above", "1h", "--format", "svg"]);
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && error.lines().count() == 1, "{error}");
}
