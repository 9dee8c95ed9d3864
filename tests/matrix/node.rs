//! A node that changes while it is recorded: pods that come and go (`pods.rs`), devices that get other names,
//! modules, tunnels (`late_tunnel.rs`) and processors that come and go.

use std::collections::BTreeSet;
use std::fs;
use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use overlay_trace_common::flags::RecordFlags;
use overlay_trace_format::{RecordView, Recording};
use overlay_trace_lab::traffic::Stop;
use overlay_trace_probe::load::Sizes;
use overlay_trace_probe::{FilterOptions, ProbeSet, Session};

use crate::own::{self, Network, Plan, is_exact, no_losses, pair, places, send};
use crate::results::{Results, Verdict};
use crate::{cpus, late_tunnel, pods, privileges, reused_netns};

const RENAME: &str = "node/rename";
const MODULE: &str = "node/module-loaded-later";
const PROCESSOR: &str = "node/processor-unplugged";

/// Runs the tests of a changing node.
pub fn run(set: ProbeSet, (folder, stop): (&Path, &Stop), results: &mut Results) {
    let of = |name: &'static str, netns: &[String]| Plan {
        set,
        folder,
        name,
        filter: FilterOptions { netns: netns.to_vec(), ..FilterOptions::default() },
        sizes: Sizes::default(),
    };
    own::add(&[pods::NAMES, pods::RECORDS], results, |results| pods::run(&of, stop, results));
    own::add(&[reused_netns::NAME], results, |results| reused_netns::run(&of, results));
    own::add(&[privileges::NAME], results, |results| privileges::run(set, folder, results));
    own::add(&[RENAME], results, |results| rename(&of, results));
    own::add(&[MODULE], results, |results| module(&of, results));
    own::add(&[late_tunnel::NAME], results, |results| late_tunnel::run(&of, results));
    own::add(&[PROCESSOR], results, |results| processor(&of, results));
    own::add(&[cpus::WAYS], results, |results| cpus::ways(&of, results));
}

/// Makes the plan of a recording of a name, of what passes through these namespaces.
pub type Of<'a> = &'a dyn Fn(&'static str, &[String]) -> Plan<'a>;

pub const COUNT: usize = 20;

/// Sends datagrams from `a` to an address of `b`, and sees to it that all are received.
pub fn send_all(network: &Network, to: &str, port: u16) -> Result<()> {
    let to = SocketAddr::new(to.parse()?, port);
    let socket = network.netns("b")?.run(|| UdpSocket::bind(to))??;
    network.netns("a")?.run(|| send(to, COUNT))??;
    socket.set_read_timeout(Some(Duration::from_secs(5)))?;
    for number in 0..COUNT {
        socket.recv(&mut [0; 200]).with_context(|| format!("only {number} of {COUNT} datagrams arrived"))?;
    }
    Ok(())
}

/// The records of datagrams to a port; there must be one for each.
pub fn for_each_of(recording: &Recording, port: u16, mut each: impl FnMut(&RecordView<'_>)) -> Result<()> {
    let mut count = 0;
    recording.for_each_record(|record| {
        let flow = record.header.flow;
        // Asking for a neighbour again takes a copy of the packet that waits for it.
        let is_copy = record.header.flags.has(RecordFlags::CHILD);
        if flow.protocol == 17 && flow.destination_port == port && !is_copy {
            count += 1;
            each(&record);
        }
    })?;
    ensure!(count == COUNT, "{COUNT} datagrams were sent to port {port}, {count} were recorded");
    Ok(())
}

const BEFORE: u16 = 7721;
const BETWEEN: u16 = 7722;
const AFTER: u16 = 7723;

/// What passes through a device while it has a name is recorded with that name.
fn rename(of: Of, results: &mut Results) -> Result<()> {
    let network = pair()?;
    let (recording, ()) = of("rename", &[network.name("a")]).record(|_| {
        send_all(&network, "10.98.0.2", BEFORE)?;
        network.ip_in("a", "link set eth0 down\nlink set eth0 name eth9\nlink set eth9 up")?;
        send_all(&network, "10.98.0.2", AFTER)
    })?;
    is_exact(&recording)?;
    no_losses(&recording)?;
    let own = network.name("a");
    for (port, expected) in [(BEFORE, "eth0"), (AFTER, "eth9")] {
        let mut names = BTreeSet::new();
        for_each_of(&recording, port, |record| {
            let places = places(&recording, record);
            names.extend(places.into_iter().filter(|(netns, device)| *netns == own && !device.is_empty()));
        })?;
        let names: Vec<&str> = names.into_iter().map(|(_, device)| device).collect();
        ensure!(
            names == [expected],
            "the device was called {expected}, and recorded as {}",
            names.join(", ")
        );
    }
    results.add(RENAME, Ok(Verdict::Passed));
    Ok(())
}

const LATE: &str = "geneve";
const LATE_STAGE: &str = "geneve-decap";
const ATTACHING: Duration = Duration::from_secs(300);

/// A module that is loaded during the recording: what is in it is seen from soon after on, and what came
/// before is exact.
fn module(of: Of, results: &mut Results) -> Result<()> {
    let plan = of("module", &["ot-pair-a".into()]);
    if let Some(lack) = cannot_load_later(plan.set)? {
        results.add(MODULE, Ok(Verdict::Skipped(lack)));
        return Ok(());
    }
    let network = pair()?;
    let (recording, ()) = plan.record(|session| {
        send_all(&network, "10.98.0.2", BEFORE)?;
        let (probes, _) = session.coverage();
        modprobe(&[LATE])?;
        for (name, number, other) in [("a", 1, 2), ("b", 2, 1)] {
            let tunnel = format!("link add gen0 type geneve id 7 remote 10.98.0.{other}");
            network
                .ip_in(name, &format!("{tunnel}\naddr add 10.97.0.{number}/24 dev gen0\nlink set gen0 up"))?;
        }
        send_all(&network, "10.97.0.2", BETWEEN)?;
        wait_for_probes(session, probes)?;
        send_all(&network, "10.97.0.2", AFTER)
    })?;
    is_exact(&recording)?;
    no_losses(&recording)?;
    let header = &recording.header;
    ensure!(
        header.unseen_stages.iter().all(|unseen| unseen.stage != LATE_STAGE),
        "{LATE_STAGE} is said to be unseen"
    );
    let later = header.seen_later.iter().find(|later| later.stage == LATE_STAGE);
    let since = later.with_context(|| format!("it is not said since when {LATE_STAGE} is seen"))?.since_ns;
    let number = header.stages.iter().position(|stage| stage.name == LATE_STAGE).context("no such stage")?;
    for (port, is_seen) in [(BETWEEN, None), (AFTER, Some(true)), (BEFORE, Some(false))] {
        let (mut seen, mut early, mut level) = (0, 0, 0);
        for_each_of(&recording, port, |record| {
            seen += usize::from(record.spans().any(|step| usize::from(step.stage) == number));
            early += usize::from(record.header.start_ns < since);
            level = level.max(record.spans().map(|step| step.level).max().unwrap_or(0));
        })?;
        let expected = is_seen.map(|is_seen| if is_seen { COUNT } else { 0 });
        ensure!(
            expected.is_none_or(|expected| seen == expected),
            "{seen} of {COUNT} packets to port {port} have {LATE_STAGE}"
        );
        ensure!(
            is_seen != Some(true) || early == 0,
            "{early} packets are older than the time since when it is seen"
        );
        ensure!(level == u8::from(port != BEFORE), "the packets to port {port} are at level {level}");
    }
    let seconds = since.saturating_sub(header.start_monotonic_ns) as f64 / 1e9;
    results.add(MODULE, Ok(Verdict::With(format!("{LATE_STAGE} from {seconds:.1} s on"))));
    Ok(())
}

/// Why the module cannot be loaded during a recording.
fn cannot_load_later(set: ProbeSet) -> Result<Option<String>> {
    if set == ProbeSet::Device {
        return Ok(Some("the device set probes no functions of modules".into()));
    }
    let is_there = || {
        fs::read_to_string("/proc/modules")
            .is_ok_and(|list| list.lines().any(|line| line.starts_with("geneve ")))
    };
    if is_there() && (modprobe(&["--remove", LATE]).is_err() || is_there()) {
        return Ok(Some(format!("the module {LATE} is in use")));
    }
    Ok(modprobe(&["--dry-run", LATE]).err().map(|error| format!("{error:#}")))
}

fn modprobe(arguments: &[&str]) -> Result<()> {
    let output = Command::new("modprobe").args(arguments).output().context("cannot run modprobe")?;
    ensure!(output.status.success(), "modprobe: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}

fn wait_for_probes(session: &Session, before: usize) -> Result<()> {
    let begin = Instant::now();
    while session.coverage().0 == before {
        if begin.elapsed() > ATTACHING {
            bail!("nothing was attached within {} s after the module had come", ATTACHING.as_secs());
        }
        thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// The switch of the second processor.
const SWITCH: &str = "/sys/devices/system/cpu/cpu1/online";
/// There in our virtual machines, and nowhere else: on a real machine others need the processor.
const VIRTUAL: &str = "/run/overlay-trace-vm";

/// A processor that goes and comes back: nothing is lost.
fn processor(of: Of, results: &mut Results) -> Result<()> {
    if !Path::new(VIRTUAL).exists() || !Path::new(SWITCH).exists() {
        results.add(PROCESSOR, Ok(Verdict::Skipped("needs a virtual machine with two processors".into())));
        return Ok(());
    }
    let network = pair()?;
    let outcome = of("processor", &[network.name("a")]).record(|_| {
        send_all(&network, "10.98.0.2", BEFORE)?;
        fs::write(SWITCH, "0")?;
        send_all(&network, "10.98.0.2", BETWEEN)?;
        fs::write(SWITCH, "1")?;
        send_all(&network, "10.98.0.2", AFTER)
    });
    fs::write(SWITCH, "1")?;
    let (recording, ()) = outcome?;
    is_exact(&recording)?;
    no_losses(&recording)?;
    for port in [BEFORE, BETWEEN, AFTER] {
        for_each_of(&recording, port, |_| ())?;
    }
    results.add(PROCESSOR, Ok(Verdict::Passed));
    Ok(())
}
