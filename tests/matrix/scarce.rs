//! Recording where something runs out or is not there: the disk, file descriptors, /proc.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Result, ensure};
use overlay_trace_format::Recording;
use overlay_trace_probe::ProbeSet;

use crate::ends::Test;
use crate::interrupted::program;
use crate::results::{Outcome, Results, Verdict};

const FULL: &str = "ends/full-disk";
const DESCRIPTORS: &str = "ends/descriptors";
const NO_PROC: &str = "ends/no-proc";

const CANNOT: &str = "the recording cannot be written any more";

/// Runs the tests.
pub fn run(set: ProbeSet, folder: &Path, results: &mut Results) {
    let tests: [(&str, Test); 3] = [(FULL, full), (DESCRIPTORS, descriptors), (NO_PROC, no_proc)];
    for (name, test) in tests {
        if results.wants(name) {
            results.add(name, test(set, folder));
        }
    }
}

/// The recording has no more room while COMMAND runs: that is said before COMMAND is ended, or runs on. What was written
/// can be reported.
fn full(set: ProbeSet, folder: &Path) -> Outcome {
    let [file, said, ended] = ["full.otr", "said", "ended"].map(|name| folder.join(name));
    let traffic = "for i in 1 2 3 4 5 6 7 8 9; do echo > /dev/udp/127.0.0.1/9; done 2> /dev/null";
    let until_it_is_said = format!(
        "until grep -q '{CANNOT}' {}; do {traffic}; done; echo > {}",
        said.display(),
        ended.display()
    );
    for (options, command, runs_on) in [
        (&[][..], format!("while :; do {traffic}; done; echo > {}", ended.display()), false),
        (&["--keep-going"], until_it_is_said, true),
    ] {
        [&file, &said, &ended].into_iter().for_each(|path| drop(fs::remove_file(path)));
        // A file may not grow further, as on a full disk: 256 KB.
        let script = "trap '' XFSZ; ulimit -f 256; exec \"$@\"";
        let status = Command::new("bash")
            .args(["-c", script, "bash"])
            .arg(program()?)
            .args(["record", "--probes", set.name(), "-o"])
            .arg(&file)
            .args(options)
            .args(["--", "bash", "-c", &command])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(&said)?)
            .status()?;
        let text = fs::read_to_string(&said)?;
        ensure!(status.code() == Some(1) && text.contains(CANNOT), "{options:?}: {status}: {text}");
        let last = text.lines().last().unwrap_or_default();
        ensure!(last.starts_with("overlay-trace: cannot write to the recording"), "{options:?}: {text}");
        ensure!(ended.exists() == runs_on, "{options:?}: the command came to its end: {}", ended.exists());
        let recording = Recording::open(&file)?;
        ensure!(!recording.complete, "{options:?}: the recording has a footer");
        recording.for_each_record(|_| ())?;
    }
    Ok(Verdict::Passed)
}

/// A shell's last words: the recording of a moment.
fn record(set: ProbeSet, file: &Path) -> Result<String> {
    let (program, file) = (program()?, file.display());
    Ok(format!("exec {} record --force --probes {} -o {file} -d 100ms", program.display(), set.name()))
}

/// What came of a recording in a shell: its exit code, and what was said.
fn in_shell(command: &mut Command, script: &str) -> Result<(Option<i32>, String)> {
    let output = command.args(["sh", "-c", script]).stdin(Stdio::null()).output()?;
    Ok((output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned()))
}

/// The soft limit of open files is raised. A hard one that is too low is named, where it cannot be raised.
fn descriptors(set: ProbeSet, folder: &Path) -> Outcome {
    let record = record(set, &folder.join("descriptors.otr"))?;
    for soft in [20, 64] {
        let (code, said) = in_shell(&mut Command::new("env"), &format!("ulimit -Sn {soft}; {record}"))?;
        ensure!(code == Some(0), "with `ulimit -Sn {soft}` it ended with {code:?}: {said}");
    }
    for hard in [20, 64, 140] {
        let mut limited = Command::new("setpriv");
        limited.args(["--inh-caps=-sys_resource", "--bounding-set=-sys_resource", "--"]);
        let (code, said) = in_shell(&mut limited, &format!("ulimit -n {hard}; {record}"))?;
        let named = format!("open files, and the limit is {hard}: raise it with `ulimit -Hn");
        ensure!(
            code == Some(1) && said.lines().count() == 1 && said.contains(&named),
            "with `ulimit -n {hard}` it ended with {code:?}: {said}"
        );
    }
    Ok(Verdict::Passed)
}

/// Without /proc that is said, and not that something else is missing.
fn no_proc(set: ProbeSet, folder: &Path) -> Outcome {
    let file = folder.join("no-proc.otr");
    let script = format!("mount -t tmpfs none /proc; {}", record(set, &file)?);
    let (code, said) = in_shell(Command::new("unshare").arg("--mount"), &script)?;
    ensure!(
        code == Some(1) && said.lines().count() == 1 && said.contains("/proc is not mounted"),
        "it ended with {code:?}: {said}"
    );
    ensure!(!file.exists(), "it left a file");
    Ok(Verdict::Passed)
}
