//! How a recording ends: by each signal with a footer, and with an error where its file is not what was written.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use overlay_trace_format::Recording;
use overlay_trace_probe::ProbeSet;

use crate::interrupted::program;
use crate::results::{Outcome, Results, Verdict};

const SIGNALS: &str = "ends/signals";
const LOST: &str = "ends/file";
const CODES: &str = "ends/exit-codes";
const TOGETHER: &str = "ends/together";
const CALLED_OFF: &str = "ends/called-off";
const ATTACHING: Duration = Duration::from_secs(120);
const ENDING: Duration = Duration::from_secs(60);

/// A test: records with this set, into this folder.
pub type Test = fn(ProbeSet, &Path) -> Outcome;

/// Runs the tests.
pub fn run(set: ProbeSet, folder: &Path, results: &mut Results) {
    let tests: [(&str, Test); 5] =
        [(SIGNALS, signals), (LOST, lost), (CODES, codes), (TOGETHER, together), (CALLED_OFF, called_off)];
    for (name, test) in tests {
        if results.wants(name) {
            results.add(name, test(set, folder));
        }
    }
}

/// A recording in progress with a command of its own; both are ended when this is dropped.
struct InProgress {
    child: Child,
}

impl InProgress {
    /// Starts it, and waits until the file has more than its header.
    fn start(set: ProbeSet, file: &Path, command: &[&str]) -> Result<InProgress> {
        let mut recording = InProgress::spawn(set, file, command)?;
        recording.wait(|| Recording::open(file).is_ok_and(|recording| recording.last.duration_ns > 0))?;
        Ok(recording)
    }

    /// Starts it.
    fn spawn(set: ProbeSet, file: &Path, command: &[&str]) -> Result<InProgress> {
        // Whoever started the tests may have had signals ignored, as `nohup` does.
        let child = Command::new("env")
            .arg("--default-signal")
            .arg(program()?)
            .args(["record", "--force", "--probes", set.name(), "--output"])
            .arg(file)
            .arg("--")
            .args(command)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot start the recording")?;
        Ok(InProgress { child })
    }

    /// Waits until something is so.
    fn wait(&mut self, is_so: impl Fn() -> bool) -> Result<()> {
        let begin = Instant::now();
        while !is_so() {
            if let Some(status) = self.child.try_wait()? {
                bail!("the recording ended by itself: {status}");
            }
            ensure!(begin.elapsed() < ATTACHING, "it does not begin to record");
            thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// Sends it a signal, and gives its exit code and what it said.
    fn end(mut self, signal: Signal) -> Result<(Option<i32>, String)> {
        kill(Pid::from_raw(self.child.id() as i32), signal)?;
        let begin = Instant::now();
        while self.child.try_wait()?.is_none() {
            ensure!(begin.elapsed() < ENDING, "{signal} does not end the recording");
            thread::sleep(Duration::from_millis(20));
        }
        let mut said = String::new();
        let mut stderr = self.child.stderr.take().context("no standard error")?;
        std::io::Read::read_to_string(&mut stderr, &mut said)?;
        Ok((self.child.wait()?.code(), said))
    }
}

impl Drop for InProgress {
    fn drop(&mut self) {
        // It has ended, or it cannot be helped.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Each signal that asks a program to end leaves a whole recording, no command behind, and the command's exit code.
fn signals(set: ProbeSet, folder: &Path) -> Outcome {
    let (file, pid) = (folder.join("signals.otr"), folder.join("pid"));
    let script = format!("echo $$ > {}; exec sleep 600", pid.display());
    for signal in [Signal::SIGHUP, Signal::SIGQUIT, Signal::SIGTERM, Signal::SIGINT] {
        let _ = fs::remove_file(&file);
        let (code, said) = InProgress::start(set, &file, &["sh", "-c", &script])?.end(signal)?;
        ensure!(code == Some(128 + signal as i32), "{signal}: it ended with {code:?}: {said}");
        ensure!(Recording::open(&file)?.complete, "{signal}: the recording has no footer");
        let command: i32 = fs::read_to_string(&pid)?.trim().parse()?;
        ensure!(kill(Pid::from_raw(command), None).is_err(), "{signal}: the command still runs");
    }
    Ok(Verdict::Passed)
}

/// What somebody does to a recording while it is written.
type Meddle = fn(&Path) -> std::io::Result<()>;

/// A file that somebody has meddled with, and one that another recorder has.
fn lost(set: ProbeSet, folder: &Path) -> Outcome {
    let file = folder.join("lost.otr");
    let meddle: [(&str, Meddle); 4] = [
        ("deleted or moved", |file| fs::remove_file(file)),
        ("was replaced", |file| fs::remove_file(file).and_then(|()| fs::write(file, "else"))),
        ("changed by another program", |file| fs::File::create(file).map(drop)),
        ("changed by another program", |file| {
            use std::io::Write;
            fs::File::options().append(true).open(file)?.write_all(b"more")
        }),
    ];
    for (sentence, meddle) in meddle {
        let _ = fs::remove_file(&file);
        let recording = InProgress::start(set, &file, &["sleep", "600"])?;
        meddle(&file)?;
        let (code, said) = recording.end(Signal::SIGINT)?;
        ensure!(code == Some(1) && said.contains(sentence), "{sentence}: it ended with {code:?}: {said}");
    }
    let _ = fs::remove_file(&file);
    let first = InProgress::start(set, &file, &["sleep", "600"])?;
    let second =
        Command::new(program()?).args(["record", "--force", "-d", "1s", "-o"]).arg(&file).output()?;
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    ensure!(
        second.status.code() == Some(1) && said.contains("another recording is being written"),
        "the second recorder ended with {}: {said}",
        second.status
    );
    let copy = folder.join("copy.otr");
    fs::copy(&file, &copy)?;
    let report =
        Command::new(program()?).arg("report").arg(&copy).args(["--force", "-o"]).arg(&file).output()?;
    ensure!(report.status.code() == Some(1), "a report took the place of a recording in progress");
    let (code, said) = first.end(Signal::SIGINT)?;
    ensure!(code == Some(130) && Recording::open(&file)?.complete, "the first ended with {code:?}: {said}");
    Ok(Verdict::Passed)
}

/// Two recorders with one file: the first has it from before it attaches its probes. What comes where nothing stood is not
/// replaced by who has attached meanwhile.
fn together(set: ProbeSet, folder: &Path) -> Outcome {
    let file = folder.join("together.otr");
    let _ = fs::remove_file(&file);
    fs::write(&file, "old")?;
    let lock = format!(":{} ", fs::metadata(&file)?.ino());
    let is_old = || fs::read(&file).is_ok_and(|content| content == b"old");
    let mut first = InProgress::spawn(set, &file, &["sleep", "600"])?;
    first.wait(|| fs::read_to_string("/proc/locks").is_ok_and(|locks| locks.contains(&lock)) || !is_old())?;
    ensure!(is_old(), "the file was not locked while probes were attached");
    let mut second = Command::new(program()?);
    second.args(["record", "--force", "-d", "1s", "--probes", set.name(), "-o"]).arg(&file);
    let output = second.output()?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(
        output.status.code() == Some(1) && said.contains("another recording is being written"),
        "the second recorder ended with {}: {said}",
        output.status
    );
    first.wait(|| Recording::open(&file).is_ok_and(|recording| recording.last.duration_ns > 0))?;
    let (code, said) = first.end(Signal::SIGINT)?;
    ensure!(code == Some(130) && Recording::open(&file)?.complete, "the first ended with {code:?}: {said}");

    fs::remove_file(&file)?;
    let [first, second] = [(); 2].map(|()| -> Result<_> {
        let mut record = Command::new(program()?);
        record.args(["record", "--force", "-d", "1s", "--probes", set.name(), "-o"]).arg(&file);
        Ok(record.stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?)
    });
    let ended = [first?.wait_with_output()?, second?.wait_with_output()?];
    let codes = ended.each_ref().map(|output| output.status.code());
    let said = ended.each_ref().map(|output| String::from_utf8_lossy(&output.stderr).into_owned());
    ensure!(
        codes.contains(&Some(0)) && codes.contains(&Some(1)) && Recording::open(&file)?.complete,
        "of two that were started together without a file, one is refused; they ended with {codes:?}: {said:?}"
    );
    Ok(Verdict::Passed)
}

/// A signal in the moment in which the file is created: there is a whole recording, or none.
fn called_off(set: ProbeSet, folder: &Path) -> Outcome {
    let file = folder.join("called-off.otr");
    let _ = fs::remove_file(&file);
    let mut recording = InProgress::spawn(set, &file, &["sleep", "600"])?;
    recording.wait(|| file.exists())?;
    let (code, said) = recording.end(Signal::SIGINT)?;
    if said.contains("nothing was recorded") {
        ensure!(code == Some(1) && !file.exists(), "it ended with {code:?} and left a file: {said}");
        return Ok(Verdict::With("nothing recorded, no file".to_owned()));
    }
    ensure!(code == Some(130) && Recording::open(&file)?.complete, "it ended with {code:?}: {said}");
    Ok(Verdict::With("recorded".to_owned()))
}

/// The command's own end decides the exit code, also where a signal has ended it with the lab.
fn codes(set: ProbeSet, folder: &Path) -> Outcome {
    let file = folder.join("codes.otr");
    for (script, expected) in [("exit 0", 0), ("exit 7", 7), ("kill -KILL $$", 137), ("kill -SEGV $$", 139)] {
        let mut record = Command::new(program()?);
        record.args(["record", "--force", "--probes", set.name(), "-o"]).arg(&file);
        let mut lab = Command::new(program()?);
        lab.args(["lab", "run", "host"]);
        for (name, command) in [("record", &mut record), ("lab run", &mut lab)] {
            let output = command.args(["--", "sh", "-c", script]).output()?;
            ensure!(
                output.status.code() == Some(expected),
                "`{name} -- {script}` ended with {}: {}",
                output.status,
                String::from_utf8_lossy(&output.stderr)
            );
        }
    }
    let begun = folder.join("begun");
    for signal in [Signal::SIGTERM, Signal::SIGQUIT] {
        let _ = fs::remove_file(&begun);
        let script = format!("echo > {}; exec sleep 600", begun.display());
        let child = Command::new("env")
            .arg("--default-signal")
            .arg(program()?)
            .args(["lab", "run", "host", "--", "sh", "-c", &script])
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        let mut lab = InProgress { child };
        let begin = Instant::now();
        while !begun.exists() {
            ensure!(lab.child.try_wait()?.is_none() && begin.elapsed() < ATTACHING, "the lab does not begin");
            thread::sleep(Duration::from_millis(50));
        }
        let (code, said) = lab.end(signal)?;
        ensure!(code == Some(128 + signal as i32), "`lab run`, {signal}: it ended with {code:?}: {said}");
    }
    Ok(Verdict::Passed)
}
