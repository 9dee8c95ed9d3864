//! Two guests on taps of two hypervisors, which are namespaces of this machine with a VXLAN between them; in the guests
//! two pods with a VXLAN between them: a double overlay. Three kernels record it at once, `merge` joins the recordings,
//! and is compared with what the load generator has counted and with clocks that were read over shared memory.

mod checks;
mod guest;
mod hypervisors;
mod rendezvous;
mod streams;
mod true_clock;
mod vm;

use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use overlay_trace_format::Recording;
use overlay_trace_lab::traffic::{Stop, TrafficReport};
use overlay_trace_merge::{Options, Summary, merge};
use overlay_trace_probe::{FilterOptions, ProbeSet, Session, SessionOptions};
use tempfile::TempDir;

use self::rendezvous::Rendezvous;
use self::true_clock::{BYTES, Reading, Shared};
use self::vm::{Guest, Machine, pause};
use crate::own::Network;
use crate::results::{Outcome, Results};

pub use guest::run as run_guest;
pub use vm::Vms;

/// Until both guests have booted and record.
const BOOT: Duration = Duration::from_secs(240);
const TRAFFIC: Duration = Duration::from_secs(120);
const END: Duration = Duration::from_secs(120);
/// Between two readings of the guests' clocks.
const CLOCK_EVERY: Duration = Duration::from_millis(200);

/// Everything that is known of a run.
struct Run {
    all: Merged,
    /// The name of this machine, the hypervisors' kernel.
    host: String,
    traffic: Vec<TrafficReport>,
    /// By guest.
    clocks: [Vec<Reading>; 2],
    /// The guests' recordings merged without the hypervisors'.
    without_host: Merged,
    /// Guest 1's and the hypervisors', without guest 2's.
    without_guest2: Merged,
}

/// Recordings, merged.
struct Merged {
    summary: Summary,
    recording: Recording,
}

/// Runs the test: guests record with `set`, this machine with the set `device`.
pub fn run(set: ProbeSet, vms: Vms<'_>, (folder, stop): (&Path, &Stop), results: &mut Results) {
    let test = |check: &str| format!("two-guests/{}/{check}", set.name());
    loop {
        let begin = Instant::now();
        let run = match record(set, vms, folder, stop) {
            Ok(run) => run,
            Err(error) if results.may_doubt() => {
                println!("{} is recorded again: {error:#}", test(""));
                results.note_recorded_again(&test(""));
                continue;
            }
            Err(error) => return results.add(&test("record"), Err(error)),
        };
        eprintln!("two guests recorded and merged in {:.1} s", begin.elapsed().as_secs_f64());
        eprint!("{}", run.all.summary.text());
        let outcomes = checks::ALL.iter().map(|(name, check)| (*name, check(&run)));
        let outcomes: Vec<(&str, Outcome)> = outcomes.collect();
        let failed = outcomes.iter().find_map(|(name, outcome)| Some((name, outcome.as_ref().err()?)));
        if let Some((name, error)) = failed
            && results.may_doubt()
        {
            println!("{} is recorded again: {name}: {error:#}", test(""));
            results.note_recorded_again(&test(""));
            continue;
        }
        return outcomes.into_iter().for_each(|(name, outcome)| results.add(&test(name), outcome));
    }
}

fn record(set: ProbeSet, vms: Vms<'_>, folder: &Path, stop: &Stop) -> Result<Run> {
    let folder = folder.canonicalize()?.join("two-guests");
    // What an earlier run has said must not be heard.
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let mut setup = Setup::up(set, vms, &folder, stop)?;
    let file = folder.join("host.otr");
    let session = Session::start(SessionOptions {
        set: Some(ProbeSet::Device),
        filter: setup.filter(),
        output: file.clone(),
        force: true,
        ..SessionOptions::default()
    })?;
    let (traffic, clocks) = setup.drive()?;
    ensure!(!session.failed(), "the recording gave up before its end");
    session.stop().context("the recording could not be finished")?;
    setup.down()?;
    let merged = |names: &[&str], reference: &str| merged(&folder, names, reference);
    let host = Recording::open(&file)?.header.node;
    Ok(Run {
        all: merged(&["guest1", "guest2", "host"], &host)?,
        without_host: merged(&["guest1", "guest2"], "guest1")?,
        without_guest2: merged(&["guest1", "host"], &host)?,
        host,
        traffic,
        clocks,
    })
}

/// Merges recordings of the folder.
fn merged(folder: &Path, names: &[&str], reference: &str) -> Result<Merged> {
    let open = |name: &&str| Recording::open(folder.join(format!("{name}.otr")));
    let recordings = names.iter().map(open).collect::<Result<Vec<_>, _>>()?;
    let file = folder.join(format!("{}.merged.otr", names.join("-")));
    let begin = Instant::now();
    let summary = merge(recordings, &Options { reference: Some(reference.to_owned()) }, &file, true)?;
    eprintln!("{} merged in {:.1} s", names.join(", "), begin.elapsed().as_secs_f64());
    Ok(Merged { summary, recording: Recording::open(&file)? })
}

/// The hypervisors and the guests.
struct Setup<'a> {
    /// They end first.
    guests: Vec<Guest>,
    stop: &'a Stop,
    meeting: Rendezvous,
    network: Network,
    /// What guests share with this machine by memory, and their monitors.
    memory: TempDir,
}

impl Setup<'_> {
    /// Brings them up, and waits until the guests record.
    fn up<'a>(set: ProbeSet, vms: Vms<'_>, folder: &Path, stop: &'a Stop) -> Result<Setup<'a>> {
        let network = hypervisors::up()?;
        let memory = tempfile::tempdir_in("/dev/shm").context("cannot share memory with guests")?;
        let mut guests = Vec::new();
        for (number, hypervisor) in (1u8..).zip(hypervisors::NAMES) {
            let memory = memory.path();
            fs::File::create(memory.join(format!("guest{number}"))).and_then(|file| file.set_len(BYTES))?;
            let machine = Machine { number, netns: network.name(hypervisor), folder, memory };
            guests.push(machine.start(set, vms)?);
        }
        let mut setup = Setup { stop, meeting: Rendezvous::at(folder), network, memory, guests };
        for number in [1, 2] {
            setup.wait(&format!("guest{number}.ready"), BOOT)?;
        }
        Ok(setup)
    }

    /// Only what the hypervisors have to do with: this machine has other packets.
    fn filter(&self) -> FilterOptions {
        let netns = hypervisors::NAMES.iter().map(|name| self.network.name(name)).collect();
        FilterOptions { netns, ..FilterOptions::default() }
    }

    /// Lets the guests send, with a pause of guest 2, and reads their clocks meanwhile.
    fn drive(&mut self) -> Result<(Vec<TrafficReport>, [Vec<Reading>; 2])> {
        let shared = |number: u8| Shared::of_file(&self.memory.path().join(format!("guest{number}")));
        let (shared, mut clocks) = ([shared(1)?, shared(2)?], [Vec::new(), Vec::new()]);
        let mut traffic = Vec::new();
        for part in ["1", "2"] {
            self.meeting.tell(&format!("go{part}"), "")?;
            let meeting = self.meeting.clone();
            let reports = meeting.wait(&format!("traffic{part}"), TRAFFIC, || {
                read_clocks(&shared, &mut clocks);
                self.check()
            })?;
            let reports: Vec<TrafficReport> =
                serde_json::from_str(&reports).context("the load generator's report cannot be read")?;
            traffic.extend(reports);
            if part == "1" {
                pause(&self.memory.path().join("monitor2"))?;
            }
        }
        Ok((traffic, clocks))
    }

    /// Ends the recordings and the guests.
    fn down(mut self) -> Result<()> {
        self.meeting.tell("stop", "")?;
        for number in [1, 2] {
            self.wait(&format!("guest{number}.done"), END)?;
        }
        self.guests.into_iter().try_for_each(Guest::end)
    }

    fn wait(&mut self, what: &str, limit: Duration) -> Result<String> {
        self.meeting.clone().wait(what, limit, || self.check())
    }

    /// Whether all are well.
    fn check(&mut self) -> Result<()> {
        self.stop.check()?;
        if let Ok(why) = fs::read_to_string(self.meeting.file("failed")) {
            bail!("{why}");
        }
        self.guests.iter_mut().try_for_each(Guest::check)
    }
}

/// Reads the guests' clocks, and waits a moment.
fn read_clocks(shared: &[Shared; 2], clocks: &mut [Vec<Reading>; 2]) {
    for (shared, readings) in shared.iter().zip(clocks) {
        readings.extend(shared.ask());
    }
    thread::sleep(CLOCK_EVERY);
}
