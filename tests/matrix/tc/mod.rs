//! The probe set `tc`: what it sees is what was sent and what the devices count, by tcx and by clsact; and of its
//! programs nothing is left, and others' filters are as they were.

mod late;
mod left;
mod network;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use overlay_trace_common::flags::RecordFlags;
use overlay_trace_common::record::Outcome;
use overlay_trace_format::{ProbeKind, RecordView, Recording};
use overlay_trace_lab::traffic::Stop;
use overlay_trace_probe::{FilterOptions, ProbeSet, Session, SessionOptions};

use crate::own::{self, Network, is_exact, no_losses};
use crate::results::{Results, Verdict};
use network::{Counts, DATAGRAMS, PATH, PORT, PREFIX, REFUSED_PORT};

const PATHS: [&str; 2] = ["tc/paths", "tc/clsact/paths"];
const COUNTS: [&str; 2] = ["tc/counts", "tc/clsact/counts"];
const DEVICE_SET: [&str; 2] = ["tc/as-device", "tc/clsact/as-device"];
const DROPS: [&str; 2] = ["tc/drops", "tc/clsact/drops"];
const CHOSEN: [&str; 2] = ["tc/chosen-device", "tc/clsact/chosen-device"];
const LATE: [&str; 2] = ["tc/late-device", "tc/clsact/late-device"];
const LOCKED: &str = "tc/locked-down";

/// The kernel's switch for lockdown, which cannot be undone.
const LOCKDOWN: &str = "/sys/kernel/security/lockdown";
/// There in our virtual machines, and nowhere else.
const VIRTUAL: &str = "/run/overlay-trace-vm";

/// Runs the tests of the set.
pub fn run((folder, stop): (&Path, &Stop), results: &mut Results) {
    for (number, clsact) in [false, true].into_iter().enumerate() {
        let names =
            [PATHS[number], COUNTS[number], DROPS[number], DEVICE_SET[number], CHOSEN[number], LATE[number]];
        own::add(&names, results, |results| sees_everything(folder, clsact, names, results));
    }
    left::run((folder, stop), results);
    // The last of all: programs cannot read the kernel's memory afterwards.
    own::add(&[LOCKED], results, |results| locked_down(folder, results));
}

fn options(folder: &Path, name: &str, set: Option<ProbeSet>, clsact_only: bool) -> SessionOptions {
    SessionOptions {
        set,
        clsact_only,
        filter: FilterOptions { netns: names(), ..FilterOptions::default() },
        output: folder.join(format!("{name}.otr")),
        force: true,
        ..SessionOptions::default()
    }
}

fn names() -> Vec<String> {
    network::NAMESPACES.iter().map(|name| format!("{PREFIX}{name}")).collect()
}

fn sees_everything(
    folder: &Path,
    clsact: bool,
    [paths, counts, drops, device_set, chosen, late]: [&str; 6],
    results: &mut Results,
) -> Result<()> {
    let network = network::up()?;
    let tc = options(folder, "tc", Some(ProbeSet::Tc), clsact);
    let device = options(folder, "tc-device", Some(ProbeSet::Device), false);
    let (tc_file, device_file) = (tc.output.clone(), device.output.clone());
    let sessions = [Session::start(device)?, Session::start(tc)?];
    let before = network::counts(&network)?;
    network::datagrams(&network)?;
    let between = network::counts(&network)?;
    network::stream(&network)?;
    let after = network::counts(&network)?;
    network::refused(&network)?;
    let grown = [(17, growth(&before, &between)), (6, growth(&between, &after))];
    for session in sessions {
        session.stop()?;
    }
    let recording = Recording::open(&tc_file)?;
    is_exact(&recording)?;
    no_losses(&recording)?;
    says_what_was_attached(&recording)?;
    results.add(paths, paths_are_right(&recording));
    results.add(counts, counts_are_right(&recording, &grown));
    results.add(drops, drops_are_right(&recording));
    results.add(device_set, is_as(&recording, &Recording::open(&device_file)?));
    results.add(chosen, at_a_device(folder, clsact, &network));
    results.add(late, late::followed(folder, clsact, &network));
    Ok(())
}

fn growth(before: &Counts, after: &Counts) -> Counts {
    let grown = |(place, now): (&(String, String), &[u64; 2])| {
        let then = before.get(place).copied().unwrap_or_default();
        (place.clone(), [now[0] - then[0], now[1] - then[1]])
    };
    after.iter().map(grown).collect()
}

/// A place on a path: namespace (short), device, stage, level.
type Place = (String, String, String, u8);

fn places(recording: &Recording, record: &RecordView<'_>) -> Vec<Place> {
    let place = |span: overlay_trace_common::path::Span| {
        let hop = recording.hops.get(&span.hop)?;
        let netns = hop.netns.strip_prefix(PREFIX).unwrap_or(&hop.netns).to_owned();
        let stage = recording.header.stages.get(usize::from(span.stage))?.name.clone();
        Some((netns, hop.device.clone(), stage, span.level))
    };
    record.spans().filter_map(place).collect()
}

fn is_datagram(record: &RecordView<'_>) -> bool {
    record.header.flow.protocol == 17 && record.header.flow.destination_port == PORT
}

/// Calls `each` for every datagram that was sent, of which there is one record each.
fn for_each_datagram(recording: &Recording, mut each: impl FnMut(&RecordView<'_>)) -> Result<()> {
    let mut lengths = BTreeSet::new();
    let mut count = 0;
    recording.for_each_record(|record| {
        if is_datagram(&record) {
            count += 1;
            lengths.insert(record.header.bytes as usize);
            each(&record);
        }
    })?;
    let expected: BTreeSet<usize> = (0..DATAGRAMS).map(|number| 28 + 100 + number).collect();
    ensure!(count == DATAGRAMS, "{DATAGRAMS} datagrams were sent, {count} were recorded");
    ensure!(lengths == expected, "the recorded lengths are {lengths:?}");
    Ok(())
}

/// Each datagram was seen by each hook on its way, in that order and at the right level.
fn paths_are_right(recording: &Recording) -> crate::results::Outcome {
    let expected: Vec<Place> = PATH
        .iter()
        .map(|&(netns, device, stage, level)| (netns.into(), device.into(), stage.into(), level))
        .collect();
    let mut wrong = None;
    for_each_datagram(recording, |record| {
        let found = places(recording, record);
        let is_new = record.header.flags.is_empty() && record.header.segments == 1;
        if found != expected || !is_new {
            wrong = Some((found, record.header.flags, record.header.segments));
        }
    })?;
    ensure!(wrong.is_none(), "a datagram was seen at {wrong:?}, not at {expected:?}");
    Ok(Verdict::With(format!("{DATAGRAMS} datagrams at {} hooks each", expected.len())))
}

/// Each hook saw as many packets of a protocol as its device counted when these were sent. A tunnel counts what it has
/// decapsulated, of which GRO may make fewer before the hook.
fn counts_are_right(recording: &Recording, grown: &[(u8, Counts); 2]) -> crate::results::Outcome {
    let mut total = 0;
    for (protocol, counted) in grown {
        let mut seen = Counts::new();
        recording.for_each_record(|record| {
            // The datagrams that were refused came later.
            let is_counted =
                record.header.flow.protocol == *protocol && (*protocol != 17 || is_datagram(&record));
            if !is_counted {
                return;
            }
            for (netns, device, stage, _) in places(recording, &record) {
                let side = usize::from(stage == "tc-egress");
                seen.entry((netns, device)).or_default()[side] += 1;
            }
        })?;
        for (place, [came_in, went_out]) in counted {
            let at = seen.get(place).copied().unwrap_or_default();
            let is_merging = *protocol == 6 && place.1 == "flannel.1" && at[0] > 0;
            let is_right = at[1] == *went_out && (at[0] == *came_in || is_merging && at[0] < *came_in);
            ensure!(is_right, "protocol {protocol}: devices counted {counted:?}, the hooks saw {seen:?}");
            total += came_in + went_out;
        }
    }
    ensure!(total > (PATH.len() * DATAGRAMS) as u64, "nothing was sent: {grown:?}");
    Ok(Verdict::With(format!("{total} packets at {} devices", grown[0].1.len())))
}

/// The header names the kinds of the probes, and what they cost.
fn says_what_was_attached(recording: &Recording) -> Result<()> {
    let header = &recording.header;
    let expected = [
        ("tc-ingress", ProbeKind::Tc),
        ("tc-egress", ProbeKind::Tc),
        ("end-taken-up", ProbeKind::TpBtf),
        ("end-consumed", ProbeKind::TpBtf),
        ("end-dropped", ProbeKind::TpBtf),
    ];
    let probed = header.stages.iter().filter_map(|row| Some((row.name.as_str(), row.probe?)));
    let probed: Vec<_> = probed.collect();
    ensure!(probed == expected, "the header says {probed:?}");
    ensure!(header.unseen_stages.is_empty(), "unseen: {:?}", header.unseen_stages);
    ensure!(header.probe_cost_ns.tc.is_some_and(|ns| ns > 0.0), "the cost of a hook was not measured");
    Ok(())
}

/// Datagrams to a port where nobody listens are dropped where they arrive, by a place in the kernel.
fn drops_are_right(recording: &Recording) -> crate::results::Outcome {
    let (mut count, mut wrong) = (0, None);
    recording.for_each_record(|record| {
        let header = record.header;
        if header.flow.protocol != 17 || header.flow.destination_port != REFUSED_PORT {
            return;
        }
        count += 1;
        let is_dropped = header.outcome == Outcome::Dropped as u8 && header.drop_location != 0;
        let last = places(recording, &record).pop();
        let is_there = last.as_ref().is_some_and(|(netns, device, stage, level)| {
            (netns.as_str(), device.as_str(), stage.as_str(), *level) == PATH[PATH.len() - 1]
        });
        if !is_dropped || !is_there {
            wrong = Some((header.outcome, last));
        }
    })?;
    ensure!(count == DATAGRAMS, "{DATAGRAMS} datagrams were refused, {count} were recorded");
    ensure!(wrong.is_none(), "a datagram that was refused ended as {wrong:?}");
    Ok(Verdict::Passed)
}

/// What identifies a datagram: its flow, its number and its length.
type Identity = ([u8; 16], [u8; 16], u16, u16, u16, u32);

/// Namespaces, devices and levels.
type Devices = BTreeSet<(String, String, u8)>;

fn identity(record: &RecordView<'_>) -> Identity {
    let flow = record.header.flow;
    let ports = (flow.source_port, flow.destination_port);
    (flow.source, flow.destination, ports.0, ports.1, flow.ip_id, record.header.bytes)
}

/// The set `device` saw the same packets, and each of them at all places where this set saw it.
fn is_as(recording: &Recording, other: &Recording) -> crate::results::Outcome {
    let of = |recording: &Recording| -> Result<BTreeMap<Identity, Devices>> {
        let mut found = BTreeMap::new();
        for_each_datagram(recording, |record| {
            let places = places(recording, record).into_iter();
            found.insert(
                identity(record),
                places.map(|(netns, device, _, level)| (netns, device, level)).collect(),
            );
        })?;
        Ok(found)
    };
    let (own, other) = (of(recording)?, of(other)?);
    ensure!(own.keys().eq(other.keys()), "identities are {:?}, and {:?} by device", own.keys(), other.keys());
    for (packet, places) in &own {
        let missing: Vec<_> = places.difference(&other[packet]).collect();
        ensure!(missing.is_empty(), "{packet:?} was not at {missing:?}, says the set device");
    }
    Ok(Verdict::With(format!("{} packets", own.len())))
}

/// With a device chosen, packets are seen there and at edges, of which there are none here.
fn at_a_device(folder: &Path, clsact: bool, network: &Network) -> crate::results::Outcome {
    let mut options = options(folder, "tc-chosen", Some(ProbeSet::Tc), clsact);
    options.filter.device = Some("flannel.1".to_owned());
    let file = options.output.clone();
    let session = Session::start(options)?;
    network::datagrams(network)?;
    session.stop()?;
    let recording = Recording::open(&file)?;
    is_exact(&recording)?;
    no_losses(&recording)?;
    let expected = [("node1", "tc-egress"), ("node2", "tc-ingress")]
        .map(|(netns, stage)| (netns.to_owned(), "flannel.1".to_owned(), stage.to_owned(), 0));
    let mut wrong = None;
    for_each_datagram(&recording, |record| {
        let found = places(&recording, record);
        if found != expected || record.header.flags.has(RecordFlags::UNKNOWN_START) {
            wrong = Some(found);
        }
    })?;
    ensure!(wrong.is_none(), "a datagram was seen at {wrong:?}");
    Ok(Verdict::Passed)
}

/// Where programs may not read kernel memory, this set is chosen by itself, and sees the same.
fn locked_down(folder: &Path, results: &mut Results) -> Result<()> {
    if !Path::new(VIRTUAL).exists() {
        let lack = "needs a virtual machine: a lockdown cannot be undone";
        results.add(LOCKED, Ok(Verdict::Skipped(lack.into())));
        return Ok(());
    }
    if !Path::new(LOCKDOWN).exists() {
        // Not mounted by a minimal system.
        crate::machine::run("mount -t securityfs securityfs /sys/kernel/security")?;
    }
    std::fs::write(LOCKDOWN, "confidentiality").context("the kernel cannot be locked down")?;
    let network = network::up()?;
    // Only programs that read nothing are allowed, and these see no packet's path begin.
    let refused = Session::start(options(folder, "tc-locked-device", Some(ProbeSet::Device), false)).err();
    let said = refused.context("a recording without a packet was started")?.to_string();
    ensure!(said.contains("paths begin"), "{said}");
    let options = options(folder, "tc-locked", None, false);
    let file = options.output.clone();
    let session = Session::start(options)?;
    let (set, _) = session.set();
    ensure!(set == ProbeSet::Tc, "the set {} was chosen", set.name());
    network::datagrams(&network)?;
    session.stop()?;
    let recording = Recording::open(&file)?;
    is_exact(&recording)?;
    no_losses(&recording)?;
    results.add(LOCKED, paths_are_right(&recording));
    Ok(())
}
