//! The commands `cut`, `cat`, `anonymise` and `export` as a user meets them.

#[path = "../../crates/analysis/tests/support/mod.rs"]
mod support;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use tempfile::TempDir;

fn run(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_overlay-trace")).args(arguments).output().unwrap()
}

fn printed(arguments: &[&str]) -> String {
    let output = run(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The error sentence of a run that must fail.
fn error(arguments: &[&str]) -> String {
    let output = run(arguments);
    assert!(output.status.code() == Some(1) && output.stdout.is_empty(), "{arguments:?}");
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(text.lines().count(), 1, "{text}");
    text
}

/// A folder with a recording, whose path comes with it.
fn recording() -> (TempDir, PathBuf) {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("a.otr");
    support::write(&path, true, true);
    (dir, path)
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn a_piece_is_a_recording_and_is_not_written_over_what_is_there() {
    let (dir, file) = recording();
    let piece = dir.path().join("b.otr");
    let cut = ["cut", text(&file), "-o", text(&piece), "--slowest", "3"];
    assert!(printed(&cut).contains(" records written to "));
    assert!(printed(&["report", text(&piece)]).contains("\ncapture "));
    assert!(error(&cut).contains("--force"));
    assert!(printed(&[&cut[..], &["--force"]].concat()).contains("written to"));
    let before = fs::read(&piece).unwrap();
    for (arguments, said) in [
        (&["--port", "9"][..], "no packet of the recording matches"),
        (&["--netns", "nowhere"], "no network namespace nowhere in the recording"),
        (&["--from", "2s", "--to", "1s"], "--from"),
    ] {
        let arguments = [&["cut", text(&file), "-o", text(&piece), "--force"], arguments].concat();
        assert!(error(&arguments).contains(said));
        assert_eq!(fs::read(&piece).unwrap(), before, "what was there is kept");
    }
    let itself = error(&["cut", text(&file), "-o", text(&file), "--force"]);
    assert!(itself.contains("is one of the recordings that are read"));
    assert!(
        error(&["cat", text(&file), text(&file), "-o", text(&dir.path().join("c.otr"))])
            .contains("overlap in time")
    );
}

#[test]
fn several_recordings_are_anonymised_into_a_folder() {
    let (dir, file) = recording();
    let (other, folder) = (dir.path().join("b.otr"), dir.path().join("shared"));
    fs::copy(&file, &other).unwrap();
    let arguments = ["anonymise", text(&file), text(&other), "-o", text(&folder)];
    assert!(error(&arguments).contains("several recordings need a folder"));
    fs::create_dir(&folder).unwrap();
    assert_eq!(printed(&arguments).lines().count(), 2);
    let report = printed(&["report", text(&folder.join("a.otr"))]);
    assert!(report.contains("node node-1") && !report.contains("worker-1"));
    let times = |path: &Path| {
        let report: serde_json::Value =
            serde_json::from_str(&printed(&["report", text(path), "--format", "json"])).unwrap();
        report["end_to_end_ns"].clone()
    };
    assert_eq!(times(&folder.join("b.otr")), times(&other));
}

#[test]
fn every_format_is_written_to_a_file_and_to_standard_output() {
    let (dir, file) = recording();
    for format in ["perfetto", "speedscope", "pprof", "folded", "pcapng", "parquet", "jsonl"] {
        let path = dir.path().join(format);
        let export = ["export", text(&file), "--format", format];
        assert_eq!(printed(&[&export[..], &["-o", text(&path)]].concat()), "");
        assert_eq!(run(&export).stdout, fs::read(&path).unwrap(), "{format}");
        assert!(error(&[&export[..], &["-o", text(&path)]].concat()).contains("--force"));
    }
    let itself = error(&["export", text(&file), "--format", "jsonl", "-o", text(&file), "--force"]);
    assert!(itself.contains("is one of the recordings that are read"));
}
