//! What a user gets for bad input: one clear sentence, an exit code that is not zero, and nothing lost.
//! None of these needs a kernel that can be traced: all is checked before the first probe is attached.

#[path = "../../crates/analysis/tests/support/mod.rs"]
mod support;

use std::{
    fs,
    path::Path,
    process::{Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
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
        ("--duration", "500000000000years", "at most a year"),
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
}

#[test]
fn a_report_does_not_replace_its_recording() {
    let dir = TempDir::new().unwrap();
    let [first, second, link] = ["a.otr", "b.otr", "link"].map(|name| dir.path().join(name));
    support::write(&first, true, true);
    fs::copy(&first, &second).unwrap();
    std::os::unix::fs::symlink(&first, &link).unwrap();
    let before = fs::read(&first).unwrap();
    let [a, b, l] = [&first, &second, &link].map(|path| text(path));
    for (arguments, output) in [
        (&["report", a][..], a),
        (&["report", a], l),
        (&["report", l], a),
        (&["diff", a, b], a),
        (&["diff", b, a], a),
        (&["tail", a], a),
        (&["what-if", a], a),
    ] {
        let said = sentence(run(&[arguments, &["-o", output, "--force"]].concat()));
        assert!(said.contains("is the recording itself"), "{said}");
        assert_eq!(fs::read(&first).unwrap(), before, "{arguments:?}");
    }
}

/// A recording that comes through a pipe, from which the reader gets nothing before `end`.
fn reading_from_a_pipe(dir: &TempDir, options: &[&str]) -> (std::process::Child, fs::File) {
    let (file, pipe) = (dir.path().join("a.otr"), dir.path().join("pipe"));
    support::write(&file, true, true);
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let mut command = Command::new(PROGRAM);
    command.args(["report", text(&pipe)]).args(options);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // Returns when the other end is open.
    let writer = fs::OpenOptions::new().write(true).open(&pipe).unwrap();
    (child, writer)
}

#[test]
fn a_command_that_only_reads_drops_its_privileges() {
    let dir = TempDir::new().unwrap();
    let (child, mut writer) = reading_from_a_pipe(&dir, &[]);
    privileges_become(&child, 0);
    std::io::Write::write_all(&mut writer, &fs::read(dir.path().join("a.otr")).unwrap()).unwrap();
    drop(writer);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success() && output.stdout.starts_with(b"400 packets took "), "{output:?}");

    // Root may still create a file anywhere, and give it away: CAP_CHOWN and CAP_DAC_OVERRIDE.
    let (dir, permitted) = (TempDir::new().unwrap(), if nix::unistd::geteuid().is_root() { 0b11 } else { 0 });
    let output = dir.path().join("report.txt");
    let (child, mut writer) = reading_from_a_pipe(&dir, &["-o", text(&output)]);
    privileges_become(&child, permitted);
    std::io::Write::write_all(&mut writer, &fs::read(dir.path().join("a.otr")).unwrap()).unwrap();
    drop(writer);
    assert!(child.wait_with_output().unwrap().status.success());
    assert!(fs::read_to_string(&output).unwrap().starts_with("400 packets took "));
}

/// Waits until a process has only these capabilities, and none of them in effect.
fn privileges_become(process: &std::process::Child, permitted: u64) {
    let begin = Instant::now();
    loop {
        let status = fs::read_to_string(format!("/proc/{}/status", process.id())).unwrap();
        let bits = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            u64::from_str_radix(line.trim(), 16).unwrap()
        };
        let found = ["CapEff:", "CapPrm:", "CapInh:", "NoNewPrivs:"].map(bits);
        if found[1] & !permitted == 0 && [found[0], found[2], found[3]] == [0, 0, 1] {
            return;
        }
        assert!(begin.elapsed() < Duration::from_secs(30), "{found:x?}");
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn under_sudo_files_are_those_of_the_caller() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: only root can act for another user");
        return;
    }
    const CALLER: u32 = 12345;
    let dir = TempDir::new().unwrap();
    let (file, output) = (dir.path().join("a.otr"), dir.path().join("report.txt"));
    support::write(&file, true, true);
    for path in [dir.path(), &file] {
        chown(path, Some(CALLER), Some(CALLER)).unwrap();
    }
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o700)).unwrap();
    let report = |output: &Path| {
        let mut command = Command::new(PROGRAM);
        command.env("SUDO_UID", "12345").env("SUDO_GID", "12345");
        command.args(["report", text(&file), "--force", "-o", text(output)]).output().unwrap()
    };
    assert!(report(&output).status.success());
    let made = fs::metadata(&output).unwrap();
    assert_eq!((made.uid(), made.gid()), (CALLER, CALLER));
    assert!(sentence(report(&file)).contains("is the recording itself"));
}

#[test]
fn a_report_without_room_leaves_no_file() {
    let dir = TempDir::new().unwrap();
    let (file, output) = (dir.path().join("a.otr"), dir.path().join("report.txt"));
    support::write(&file, true, true);
    // A file may not grow, as on a full disk.
    let script =
        format!("trap '' XFSZ; ulimit -f 0; exec {PROGRAM} report {} -o {}", text(&file), text(&output));
    assert!(sentence(Command::new("sh").args(["-c", &script]).output().unwrap()).contains("cannot write"));
    assert!(!output.exists());
}

#[test]
fn arguments_of_a_command_can_be_any_bytes_and_others_are_refused_with_a_sentence() {
    use std::{ffi::OsStr, os::unix::ffi::OsStrExt};
    let bytes = OsStr::from_bytes(b"/nonexistent/\xff");
    let dir = TempDir::new().unwrap();
    let record = || {
        let mut command = Command::new(PROGRAM);
        command.arg("record").arg("-o").arg(dir.path().join("a.otr"));
        command
    };
    let said = sentence(record().arg("--").arg(bytes).output().unwrap());
    assert!(said.contains("cannot start /nonexistent/\u{fffd}: no such program"), "{said}");
    for option in ["--device", "--netns", "--duration"] {
        assert!(sentence(record().arg(option).arg(bytes).output().unwrap()).contains("no UTF-8"));
    }
}

#[test]
fn a_file_name_can_be_any_bytes() {
    use std::os::unix::ffi::OsStrExt;
    let dir = TempDir::new().unwrap();
    let file = dir.path().join(std::ffi::OsStr::from_bytes(b"a\xff\x1b[31m.otr"));
    support::write(&file, true, true);
    let diff = Command::new(PROGRAM).arg("diff").arg(&file).arg(&file).output().unwrap();
    let shown = String::from_utf8(diff.stdout).unwrap();
    assert!(shown.contains("\nfirst     a\u{fffd}\\x1b[31m.otr: "), "{shown}");
    fs::write(&file, "no recording").unwrap();
    let said = sentence(Command::new(PROGRAM).arg("report").arg(&file).output().unwrap());
    assert!(said.contains("a\u{fffd}\\x1b[31m.otr"), "{said:?}");
}
