//! `kill -9` of a recording: the kernel is left as it was, and what was written can be reported.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill as kill_process};
use nix::unistd::Pid;
use overlay_trace_format::Recording;
use overlay_trace_lab::dataplanes::{self, Knobs, Running, drive};
use overlay_trace_lab::traffic::{Kind, Protocol, Stop};
use overlay_trace_probe::ProbeSet;

use crate::machine;
use crate::networks::moderate;
use crate::results::{Outcome, Results, Verdict};

const LAB: &str = "host";
/// The kernel frees what a process held a moment after its end.
const PATIENCE: Duration = Duration::from_secs(30);
const ATTACHING: Duration = Duration::from_secs(120);

const KERNEL: &str = "killed/kernel-objects";
const NETWORK: &str = "killed/network";
const REPORT: &str = "killed/report";

/// Runs the three tests of a recording that is killed.
pub fn run(set: ProbeSet, place: (&Path, &Stop), results: &mut Results) {
    let names = [KERNEL, NETWORK, REPORT];
    if !names.iter().any(|name| results.wants(name)) {
        return;
    }
    if let Err(error) = kill(set, place, results) {
        results.add(KERNEL, Err(error));
    }
}

fn kill(set: ProbeSet, (folder, stop): (&Path, &Stop), results: &mut Results) -> Result<()> {
    let lab = dataplanes::find(LAB).context("the lab is missing")?;
    let running = Running::up(lab, Knobs::default(), stop)?;
    let network = || -> Result<_> { Ok((machine::queues(&running)?, machine::links()?, machine::pinned())) };
    let before = network()?;
    let file = folder.join("killed.otr");
    // One of an earlier run, in a folder that is kept, would be mistaken for the new one.
    if file.exists() {
        fs::remove_file(&file)?;
    }
    let mut child = Recorder::start(set, &file, &[])?;
    let held = child.is_recording(&running, &file, stop).and_then(|()| Objects::of_process(child.0.id()));
    child.kill()?;
    let held = held?;
    results.add(KERNEL, held.are_freed());
    results.add(
        NETWORK,
        network().and_then(|after| {
            ensure!(before == after, "queues, devices or pinned objects were {before:?}, and are {after:?}");
            Ok(Verdict::Passed)
        }),
    );
    results.add(REPORT, report(&file));
    running.down()
}

/// A recording in a process of its own, killed when dropped.
pub struct Recorder(Child);

impl Recorder {
    pub fn start(set: ProbeSet, file: &Path, options: &[&str]) -> Result<Recorder> {
        let child = Command::new(program()?)
            .args(["record", "--force", "--duration", "10m", "--probes", set.name()])
            .args(options)
            .arg("--output")
            .arg(file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot start the recording")?;
        Ok(Recorder(child))
    }

    /// Sends traffic until the file says that packets were recorded.
    fn is_recording(&mut self, running: &Running, file: &Path, stop: &Stop) -> Result<()> {
        let begin = Instant::now();
        while begin.elapsed() < ATTACHING {
            stop.check()?;
            if let Some(status) = self.0.try_wait()? {
                bail!("the recording ended by itself: {status}");
            }
            if Recording::open(file).is_ok_and(|recording| recording.last.counters.finished > 100) {
                return Ok(());
            }
            if file.exists() {
                drive(running, &[moderate(Kind::Rr, Protocol::Udp)], stop)?;
            }
            thread::sleep(Duration::from_millis(100));
        }
        bail!("no packet was recorded within {} s", ATTACHING.as_secs())
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        Ok(kill_process(Pid::from_raw(self.0.id() as i32), signal)?)
    }

    /// Waits until it has finished the recording.
    pub fn finish(mut self) -> Result<()> {
        self.signal(Signal::SIGINT)?;
        let status = self.0.wait()?;
        ensure!(status.success(), "the recording ended with {status}");
        Ok(())
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> Result<bool> {
        Ok(self.0.try_wait()?.is_none())
    }

    /// SIGKILL.
    fn kill(&mut self) -> Result<()> {
        self.0.kill()?;
        self.0.wait()?;
        Ok(())
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        // It has ended, or it cannot be helped.
        let _ = self.kill();
    }
}

/// The program `overlay-trace`, which is built into the same folder.
pub fn program() -> Result<PathBuf> {
    let program = std::env::current_exe()?.with_file_name("overlay-trace");
    ensure!(program.is_file(), "{} is missing: build the whole workspace", program.display());
    Ok(program)
}

/// Numbers of the kernel's BPF objects.
struct Objects {
    programs: BTreeSet<u32>,
    maps: BTreeSet<u32>,
    links: BTreeSet<u32>,
}

impl Objects {
    /// What a process holds, from its descriptors.
    fn of_process(process: u32) -> Result<Objects> {
        let mut objects =
            Objects { programs: BTreeSet::new(), maps: BTreeSet::new(), links: BTreeSet::new() };
        for entry in fs::read_dir(format!("/proc/{process}/fdinfo"))?.flatten() {
            let text = fs::read_to_string(entry.path()).unwrap_or_default();
            let number = |name: &str| {
                text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')?.trim().parse().ok())
            };
            match (number("link_id"), number("map_id"), number("prog_id")) {
                (Some(link), ..) => objects.links.insert(link),
                (_, Some(map), _) => objects.maps.insert(map),
                (.., Some(program)) => objects.programs.insert(program),
                _ => false,
            };
        }
        let Objects { programs, maps, links } = &objects;
        ensure!(
            programs.len() >= 10 && maps.len() >= 3 && links.len() >= 5,
            "the recording held only {} programs, {} maps and {} links",
            programs.len(),
            maps.len(),
            links.len()
        );
        Ok(objects)
    }

    /// Those that still exist.
    fn left(&self) -> Result<Vec<String>> {
        let mut left = Vec::new();
        for program in aya::programs::loaded_programs() {
            let id = program?.id();
            left.extend(self.programs.contains(&id).then(|| format!("program {id}")));
        }
        for map in aya::maps::loaded_maps() {
            let id = map?.id();
            left.extend(self.maps.contains(&id).then(|| format!("map {id}")));
        }
        for link in aya::programs::loaded_links() {
            let id = link?.id();
            left.extend(self.links.contains(&id).then(|| format!("link {id}")));
        }
        Ok(left)
    }

    fn are_freed(&self) -> Outcome {
        let begin = Instant::now();
        loop {
            let left = self.left()?;
            if left.is_empty() {
                let (programs, maps, links) = (self.programs.len(), self.maps.len(), self.links.len());
                return Ok(Verdict::With(format!(
                    "{programs} programs, {maps} maps, {links} links are gone"
                )));
            }
            ensure!(begin.elapsed() < PATIENCE, "left after the kill: {}", left.join(", "));
            thread::sleep(Duration::from_millis(200));
        }
    }
}

/// The file that the killed recording left can be reported, and the report says what it is.
fn report(file: &Path) -> Outcome {
    let output = Command::new(program()?).arg("report").arg(file).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "the report failed: {}", String::from_utf8_lossy(&output.stderr));
    ensure!(text.contains("ended abruptly"), "the report does not say that the recording ended abruptly");
    let recording = Recording::open(file)?;
    let mut records = 0;
    recording.for_each_record(|_| records += 1)?;
    ensure!(!recording.complete && records > 0, "{records} records, complete: {}", recording.complete);
    Ok(Verdict::With(format!("{records} records")))
}
