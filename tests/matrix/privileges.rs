//! While it records, each thread of the recorder has only what its work needs, the command has what the caller has, and
//! the file is for its owner.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use overlay_trace_format::Recording;
use overlay_trace_probe::ProbeSet;
use overlay_trace_probe::sys::capabilities::{
    self, CAP_BPF, CAP_KILL, CAP_NET_ADMIN, CAP_PERFMON, CAP_SYS_ADMIN, CAP_SYS_NICE, CAP_SYS_PTRACE,
    CAP_SYS_RESOURCE, CAP_SYSLOG, Number,
};
use overlay_trace_probe::sys::privilege;

use crate::interrupted::program;
use crate::results::{Results, Verdict};

pub const NAME: &str = "node/privileges";

/// The threads of every recording; the first is the main one.
const THREADS: [&str; 3] = ["overlay-trace", "reader", "privileged"];

/// What each thread may keep besides what old kernels want for maps; all others nothing. Where the recorder may not raise
/// limits, CAP_SYS_NICE takes the place of one.
const KEPT: [(&str, &[Number]); 5] = [
    ("overlay-trace", &[CAP_KILL]),
    ("privileged", &PRIVILEGED),
    // The two that it starts.
    ("attach", &PRIVILEGED),
    ("look-up", &[CAP_SYS_ADMIN, CAP_SYS_PTRACE]),
    ("tc", &[CAP_BPF, CAP_NET_ADMIN, CAP_SYS_ADMIN, CAP_SYS_PTRACE]),
];
const PRIVILEGED: [Number; 5] = [CAP_BPF, CAP_PERFMON, CAP_SYSLOG, CAP_SYS_ADMIN, CAP_SYS_PTRACE];
const WITHOUT_LIMIT: &str = "reader";

/// The limits of a process that recording changes.
const LIMITS: &str = "Max open files|Max nice priority";

pub fn run(set: ProbeSet, folder: &Path, results: &mut Results) -> Result<()> {
    let file = folder.join("privileges.otr");
    let mut recorder = Command::new(program()?)
        .args(["record", "--force", "--probes", set.name(), "--output"])
        .arg(&file)
        .args(["--", "sh", "-c", &script(3)])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .context("cannot start the recording")?;
    let mut threads = BTreeMap::new();
    while recorder.try_wait()?.is_none() {
        let now: BTreeMap<_, _> = capabilities_of_threads(recorder.id()).into_iter().collect();
        // The reader is the last to start and among the last to end.
        if THREADS.iter().all(|name| now.contains_key(*name)) {
            threads = now;
        }
        thread::sleep(Duration::from_millis(50));
    }
    let output = recorder.wait_with_output()?;
    ensure!(output.status.success(), "the recording ended with {}", output.status);
    ensure!(!threads.is_empty(), "not all of the threads {THREADS:?} were seen");
    for (name, found) in threads {
        let allowed = allowed(&name);
        ensure!(found & !allowed == 0, "the thread {name} has the capabilities {found:x}, not {allowed:x}");
    }
    let caller = Command::new("sh").args(["-c", &script(0)]).output()?;
    let [said, expected] = [&output, &caller].map(|one| String::from_utf8_lossy(&one.stdout).into_owned());
    ensure!(said == expected, "the command has {said:?}, its caller {expected:?}");
    let mode = fs::metadata(&file)?.mode() & 0o777;
    ensure!(mode == 0o600, "the recording has the mode {mode:o}");
    let command = Recording::open(&file)?.header.command;
    ensure!(!command.contains("a-secret"), "the command line is in the header: {command}");
    results.add(NAME, Ok(Verdict::Passed));
    Ok(())
}

/// A command that says what it has, and then waits.
fn script(seconds: u32) -> String {
    format!("grep Cap /proc/self/status; grep -E '{LIMITS}' /proc/self/limits; sleep {seconds} # a-secret")
}

/// The capabilities, as bits, that a thread may have.
fn allowed(name: &str) -> u64 {
    let kept = KEPT.iter().find(|(thread, _)| *thread == name).map_or(&[][..], |(_, kept)| *kept);
    let limit = name == WITHOUT_LIMIT && !privilege::has(CAP_SYS_RESOURCE);
    let more = capabilities::for_maps().iter().chain(limit.then_some(&CAP_SYS_NICE));
    kept.iter().chain(more).fold(0u64, |bits, one| bits | 1 << one)
}

/// The permitted capabilities of each thread of a process, by name.
fn capabilities_of_threads(process: u32) -> Vec<(String, u64)> {
    let tasks = fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
    let of_thread = |task: fs::DirEntry| {
        let name = fs::read_to_string(task.path().join("comm")).ok()?;
        let status = fs::read_to_string(task.path().join("status")).ok()?;
        let bits = status.lines().find_map(|line| line.strip_prefix("CapPrm:"))?;
        Some((name.trim().to_owned(), u64::from_str_radix(bits.trim(), 16).ok()?))
    };
    tasks.filter_map(of_thread).collect()
}
