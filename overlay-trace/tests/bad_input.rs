//! What a user gets for bad input: one clear sentence, an exit code that is not zero, and nothing lost.
//! None of these needs a kernel that can be traced: all is checked before the first probe is attached.

#[path = "../../crates/analysis/tests/support/mod.rs"]
mod support;

use std::{
    fs,
    path::Path,
    process::{Command, Output, Stdio},
};

use tempfile::TempDir;

const PROGRAM: &str = env!("CARGO_BIN_EXE_overlay-trace");

fn run(arguments: &[&str]) -> Output {
    Command::new(PROGRAM).args(arguments).output().unwrap()
}

/// The same as nobody in particular: without a single capability.
fn run_unprivileged(arguments: &[&str]) -> Output {
    if !nix::unistd::geteuid().is_root() {
        return run(arguments);
    }
    Command::new("setpriv")
        .args(["--bounding-set=-all", "--inh-caps=-all", "--", PROGRAM])
        .args(arguments)
        .output()
        .unwrap()
}

/// The one sentence of a run that has to fail.
fn sentence(output: Output) -> String {
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(text.starts_with("overlay-trace: "), "{text}");
    text
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn missing_capabilities_are_named() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("a.otr");
    let said = sentence(run_unprivileged(&["record", "-o", text(&file), "-d", "1s"]));
    for name in ["CAP_BPF", "CAP_PERFMON", "CAP_SYS_ADMIN", "run as root"] {
        assert!(said.contains(name), "{said}");
    }
    assert!(!file.exists());
    let doctor = run_unprivileged(&["doctor"]);
    assert_eq!(doctor.status.code(), Some(1));
    assert!(String::from_utf8(doctor.stdout).unwrap().contains("CAP_PERFMON is missing: it is needed"));
}

#[test]
fn an_output_that_cannot_be_written_is_refused_before_anything_is_attached() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("a.otr");
    fs::write(&file, "precious").unwrap();
    let record = |output: &Path, more: &[&str]| {
        sentence(run(&[&["record", "-d", "1s", "-o", text(output)], more].concat()))
    };
    assert!(record(&file, &[]).contains("--force"));
    assert_eq!(fs::read_to_string(&file).unwrap(), "precious");
    assert!(record(dir.path(), &["--force"]).contains("is a folder"));
    assert!(record(&dir.path().join("no/a.otr"), &[]).contains("does not exist"));
    let fifo = dir.path().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert!(record(&fifo, &["--force"]).contains("not a regular file"));
}

#[test]
fn a_command_that_cannot_be_started_costs_no_recording() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("a.otr");
    let record = |command: &str| sentence(run(&["record", "--force", "-o", text(&file), "--", command]));
    assert!(record("/nonexistent/program").contains("cannot start /nonexistent/program"));
    assert!(!file.exists());
    fs::write(&file, "precious").unwrap();
    assert!(record("no-such-program-anywhere").contains("no-such-program-anywhere"));
    // A file that may not be executed.
    assert!(record(text(&file)).contains("cannot start"));
    assert_eq!(fs::read_to_string(&file).unwrap(), "precious");
}

#[test]
fn wrong_options_are_refused_with_what_would_be_right() {
    for (option, value, help) in [
        ("--duration", "garbage", "30s"),
        ("--duration", "0s", "30s"),
        ("--protocol", "tpc", "tcp"),
        ("--probes", "some", "device"),
        ("--states", "1000", "power of two"),
        ("--address", "10.0.0", "invalid IP address syntax"),
    ] {
        let output = run(&["record", option, value]);
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{text}");
        let refusal = text.lines().next().unwrap_or_default();
        assert!(refusal.contains(&format!("'{value}' for '{option}")), "{text}");
        assert!(text.contains(help), "{text}");
    }
}

#[test]
fn a_report_that_cannot_be_written_is_an_error() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("a.otr");
    support::write(&file, true, true);
    assert!(
        sentence(run(&["report", text(&file), "-o", text(dir.path()), "--force"])).contains("cannot write")
    );
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output =
        Command::new(PROGRAM).args(["report", text(&file)]).stdout(full).stderr(Stdio::piped()).output();
    assert!(sentence(output.unwrap()).contains("cannot write the report"));
}

/// What a program says whose standard output nobody reads.
fn unread(arguments: &[&str]) -> Output {
    let (reader, writer) = std::io::pipe().unwrap();
    // Closed before the program starts: each of its writes fails.
    drop(reader);
    Command::new(PROGRAM).args(arguments).stdout(writer).stderr(Stdio::piped()).output().unwrap()
}

#[test]
fn a_reader_that_stops_early_ends_nothing_badly() {
    let output = unread(&["stages"]);
    assert!(output.status.success(), "{output:?}");
    assert!(output.stderr.is_empty(), "{output:?}");
    // Whether it succeeds depends on the kernel; if not, the reason is said in one sentence.
    let output = unread(&["doctor"]);
    let said = String::from_utf8(output.stderr.clone()).unwrap();
    match output.status.code() {
        Some(0) => assert!(said.is_empty(), "{said}"),
        Some(1) => {
            assert!(said.starts_with("overlay-trace: ") && said.lines().count() == 1, "{said}");
            assert!(!said.contains("Broken pipe"), "{said}");
        }
        other => panic!("it ended with {other:?}: {said}"),
    }
}
