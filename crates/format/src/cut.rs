//! A piece of a recording: some of its time, flows, namespaces, or its slowest packets.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap, HashSet},
    net::IpAddr,
    path::Path,
};

use anyhow::{Result, ensure};
use overlay_trace_common::{
    flags::RecordFlags,
    record::{Flow, Outcome, RecordHeader},
};

use super::{
    Checkpoint, HopName, RecordView, Recording, Writer, extract::write_records, flow_addresses, printable,
};

/// Which packets a piece has: those that all fields allow.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// From here on, in ns since the beginning of the recording: packets whose path ends before are left out.
    pub from_ns: Option<u64>,
    /// Until here, in ns since the beginning of the recording: packets whose path starts after it are left out.
    pub until_ns: Option<u64>,
    /// The innermost source or destination.
    pub address: Option<IpAddr>,
    /// The innermost source or destination port.
    pub port: Option<u16>,
    /// The IP protocol number.
    pub protocol: Option<u8>,
    /// The name of a network namespace on the path.
    pub netns: Option<String>,
    /// The name of a device on the path.
    pub device: Option<String>,
    /// Of the packets that the other fields allow, only so many: the slowest.
    pub slowest: Option<usize>,
}

/// What a piece has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// Records of the piece, and of the whole.
    pub records: u64,
    pub of: u64,
    /// Bytes of the file.
    pub bytes: u64,
}

/// Writes a piece of a recording. Packets that were made of each other (clones, segments, fragments) stay together. What
/// was counted for the whole machine is left out: counts of NICs, the kernel's counters, results of traffic.
///
/// # Errors
///
/// One sentence: the piece would be empty, a namespace or a device is not in the recording, or a file cannot be read or
/// written.
pub fn cut(recording: &Recording, selection: &Selection, path: &Path, force: bool) -> Result<Cut> {
    let matcher = Matcher::new(recording, selection)?;
    let chosen = Chosen::of(recording, selection.slowest, &matcher)?;
    ensure!(chosen.is_any, "no packet of the recording matches: nothing was written");
    let (from_ns, whole_ns) = (selection.from_ns.unwrap_or(0), recording.last.duration_ns);
    let mut header = recording.header.clone();
    header.start_monotonic_ns = header.start_monotonic_ns.saturating_add(from_ns);
    header.start_wall_ns = header.start_wall_ns.saturating_add(from_ns);
    let mut writer = Writer::create(path, force, &header)?;
    let is_wanted = |record: &RecordView<'_>| chosen.has(record, &matcher);
    let written = write_records(recording, is_wanted, &mut writer)?;
    let duration_ns = selection.until_ns.unwrap_or(u64::MAX).min(whole_ns).saturating_sub(from_ns);
    let counters = written.counters(recording);
    for clocks in &recording.clocks {
        writer.checkpoint(&Checkpoint { duration_ns, counters: counters.clone(), clocks: Some(*clocks) })?;
    }
    let bytes = writer.finish(&Checkpoint { duration_ns, counters, clocks: None })?;
    Ok(Cut { records: written.records, of: written.of, bytes })
}

/// Whether a record is what a selection asks for.
struct Matcher<'a> {
    selection: &'a Selection,
    /// In ns of the records' clock.
    from_ns: u64,
    until_ns: u64,
    /// The hops of the namespace and of the device, where one is asked for.
    netns: Option<HashSet<u16>>,
    device: Option<HashSet<u16>>,
}

impl<'a> Matcher<'a> {
    fn new(recording: &Recording, selection: &'a Selection) -> Result<Matcher<'a>> {
        let start_ns = recording.header.start_monotonic_ns;
        let from_ns = start_ns.saturating_add(selection.from_ns.unwrap_or(0));
        let until_ns = selection.until_ns.map_or(u64::MAX, |until| start_ns.saturating_add(until));
        ensure!(from_ns < until_ns, "the piece would end before it begins: give --from a time before --to");
        let hops = |kind: &str, wanted: &Option<String>, name_of: fn(&HopName) -> &String| -> Result<_> {
            let Some(name) = wanted else { return Ok(None) };
            let hops = recording.hops.iter().filter(|(_, hop)| name_of(hop) == name);
            let hops: HashSet<u16> = hops.map(|(number, _)| *number).collect();
            ensure!(
                !hops.is_empty(),
                "there is no {kind} {} in the recording: `overlay-trace report --by device` lists them",
                printable(name)
            );
            Ok(Some(hops))
        };
        let netns = hops("network namespace", &selection.netns, |hop| &hop.netns)?;
        let device = hops("device", &selection.device, |hop| &hop.device)?;
        Ok(Matcher { selection, from_ns, until_ns, netns, device })
    }

    fn matches(&self, record: &RecordView<'_>) -> bool {
        let passes = |hops: &Option<HashSet<u16>>| {
            hops.as_ref().is_none_or(|hops| record.spans().any(|span| hops.contains(&span.hop)))
        };
        record.header.end_ns >= self.from_ns
            && record.header.start_ns <= self.until_ns
            && self.is_flow(&record.header.flow)
            && passes(&self.netns)
            && passes(&self.device)
    }

    fn is_flow(&self, flow: &Flow) -> bool {
        let Selection { address, port, protocol, .. } = self.selection;
        protocol.is_none_or(|protocol| flow.protocol == protocol)
            && port.is_none_or(|port| [flow.source_port, flow.destination_port].contains(&port))
            && address.is_none_or(|address| flow_addresses(flow).is_some_and(|ends| ends.contains(&address)))
    }
}

/// The chosen packets.
struct Chosen {
    lineages: HashMap<u64, Ancestor>,
    /// The first packets of the chosen lineages, and of chosen packets without one if there is a `limit`.
    roots: HashSet<u64>,
    limit: bool,
    is_any: bool,
}

/// What is known of a packet with a lineage: the packet that it was made of, or 0.
struct Ancestor {
    parent: u64,
    start_ns: u64,
}

/// So many generations are followed: in a damaged recording they may go in circles.
const GENERATIONS_MAX: usize = 16;

fn has_lineage(header: &RecordHeader) -> bool {
    header.flags.has(RecordFlags::CHILD | RecordFlags::PARENT) || header.outcome == Outcome::Split as u8
}

impl Chosen {
    /// Reads the recording once. Memory grows with the packets that have a lineage, and with `slowest`.
    fn of(recording: &Recording, slowest: Option<usize>, matcher: &Matcher<'_>) -> Result<Chosen> {
        let (lineages, roots) = (HashMap::new(), HashSet::new());
        let mut chosen = Chosen { lineages, roots, limit: slowest.is_some(), is_any: false };
        let mut heap = Slowest { most: slowest.unwrap_or(0), heap: BinaryHeap::new() };
        let mut matching = Vec::new();
        recording.for_each_record(|record| {
            let header = &record.header;
            let has_lineage = has_lineage(header);
            if has_lineage {
                let parent = if header.flags.has(RecordFlags::CHILD) { header.parent } else { 0 };
                chosen.lineages.insert(header.id, Ancestor { parent, start_ns: header.start_ns });
            }
            if (has_lineage || chosen.limit || !chosen.is_any) && matcher.matches(&record) {
                chosen.is_any = true;
                if has_lineage {
                    matching.push((header.id, header.end_ns));
                } else if chosen.limit {
                    heap.add(header.end_ns.saturating_sub(header.start_ns), header.id);
                }
            }
        })?;
        for (id, end_ns) in matching {
            let root = chosen.root(id);
            if chosen.limit {
                let start_ns = chosen.lineages.get(&root).map_or(end_ns, |first| first.start_ns);
                heap.add(end_ns.saturating_sub(start_ns), root);
            } else {
                chosen.roots.insert(root);
            }
        }
        chosen.roots.extend(heap.heap.into_iter().map(|Reverse((_, id))| id));
        Ok(chosen)
    }

    /// The first packet of a packet's lineage that the recording has; the packet itself without one.
    fn root(&self, id: u64) -> u64 {
        let mut at = id;
        for _ in 0..GENERATIONS_MAX {
            match self.lineages.get(&at) {
                Some(ancestor) if self.lineages.contains_key(&ancestor.parent) => at = ancestor.parent,
                _ => break,
            }
        }
        at
    }

    fn has(&self, record: &RecordView<'_>, matcher: &Matcher<'_>) -> bool {
        if self.limit || has_lineage(&record.header) {
            self.roots.contains(&self.root(record.header.id))
        } else {
            matcher.matches(record)
        }
    }
}

/// The slowest packets so far, the fastest of them on top.
struct Slowest {
    most: usize,
    heap: BinaryHeap<Reverse<(u64, u64)>>,
}

impl Slowest {
    fn add(&mut self, ns: u64, id: u64) {
        self.heap.push(Reverse((ns, id)));
        if self.heap.len() > self.most {
            self.heap.pop();
        }
    }
}
