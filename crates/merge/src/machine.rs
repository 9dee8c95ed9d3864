//! A machine's recording in memory.

use std::collections::BTreeMap;

use anyhow::Result;
use overlay_trace_common::{
    path::{Span, spans},
    record::RecordHeader,
};
use overlay_trace_format::{RecordView, Recording};

use crate::{
    edge::{Passage, edge_of, passages as passages_of},
    error::MergeError,
    join::Recorded,
};

/// A record, and where its path lies in [`Machine::words`].
pub struct Stored {
    pub header: RecordHeader,
    from: usize,
    to: usize,
}

/// A machine and what it recorded.
pub struct Machine {
    /// The node's name; with a number where several have one name.
    pub name: String,
    pub recording: Recording,
    pub records: Vec<Stored>,
    words: Vec<u32>,
}

impl Machine {
    /// The spans of a record's path.
    pub fn spans(&self, record: &Stored) -> Vec<Span> {
        spans(&self.words[record.from..record.to]).collect()
    }

    /// Whether a hop is an edge of the machine, and whether it is a tap.
    pub fn edge(&self, hop: u16) -> Option<bool> {
        self.recording.hops.get(&hop).and_then(edge_of)
    }

    /// When the machine recorded.
    pub fn recorded(&self) -> Recorded {
        let Recording { header, last, .. } = &self.recording;
        Recorded {
            from_ns: header.start_monotonic_ns,
            to_ns: header.start_monotonic_ns.saturating_add(last.duration_ns),
            has_losses: last.counters.losses().iter().any(|(count, _)| *count > 0)
                || !self.recording.has_counters,
            has_filter: !header.filter.is_empty(),
        }
    }
}

/// Reads recordings of different machines.
pub(crate) fn load(recordings: Vec<Recording>) -> Result<Vec<Machine>> {
    if recordings.len() < 2 {
        return Err(MergeError::TooFew.into());
    }
    check(&recordings)?;
    let mut names: BTreeMap<String, usize> = BTreeMap::new();
    let mut machines = Vec::new();
    for recording in recordings {
        let node = match recording.header.node.as_str() {
            "" => "node",
            named => named,
        };
        let count = names.entry(node.to_owned()).or_default();
        *count += 1;
        let name = if *count == 1 { node.to_owned() } else { format!("{node}#{count}") };
        let (mut records, mut words) = (Vec::new(), Vec::new());
        recording.for_each_record(|RecordView { header, path }| {
            let from = words.len();
            words.extend_from_slice(path);
            records.push(Stored { header, from, to: words.len() });
        })?;
        machines.push(Machine { name, recording, records, words });
    }
    // The order of the files does not matter.
    machines.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(machines)
}

fn check(recordings: &[Recording]) -> Result<()> {
    let mut boots: BTreeMap<&str, String> = BTreeMap::new();
    for recording in recordings {
        let file = recording.path().display().to_string();
        if recording.header.sampling.is_some() {
            return Err(MergeError::Sampled { file }.into());
        }
        let boot = recording.header.machine.as_ref().map_or("", |machine| machine.boot_id.as_str());
        if !boot.is_empty()
            && let Some(first) = boots.insert(boot, file.clone())
        {
            return Err(MergeError::SameBoot { first, second: file }.into());
        }
    }
    Ok(())
}

/// The number of the machine of this name.
pub(crate) fn named(machines: &[Machine], name: &str) -> Result<u16> {
    match machines.iter().position(|machine| machine.name == name) {
        Some(number) => Ok(number as u16),
        None => {
            let known: Vec<&str> = machines.iter().map(|machine| machine.name.as_str()).collect();
            Err(MergeError::NoNode { name: name.to_owned(), known: known.join(", ") }.into())
        }
    }
}

/// The exits and the entries of all machines.
pub(crate) fn passages(machines: &[Machine]) -> (Vec<Passage>, Vec<Passage>) {
    let (mut exits, mut entries) = (Vec::new(), Vec::new());
    for (machine, one) in machines.iter().enumerate() {
        for (number, record) in one.records.iter().enumerate() {
            let view = RecordView { header: record.header, path: &one.words[record.from..record.to] };
            let stages = &one.recording.header.stages;
            let edge = |hop| one.edge(hop);
            let (exit, entry) =
                passages_of(machine as u16, number as u32, &view, &one.spans(record), stages, edge);
            exits.extend(exit);
            entries.extend(entry);
        }
    }
    (exits, entries)
}

/// The edges of the machines, for people.
pub(crate) fn describe_edges(machines: &[Machine]) -> String {
    let of_machine = |machine: &Machine| {
        let hops = &machine.recording.hops;
        let mut devices: Vec<&str> =
            hops.values().filter(|hop| edge_of(hop).is_some()).map(|hop| hop.device.as_str()).collect();
        devices.sort_unstable();
        devices.dedup();
        let devices = if devices.is_empty() { "none".to_owned() } else { devices.join(", ") };
        format!("{}: {devices}", machine.name)
    };
    machines.iter().map(of_machine).collect::<Vec<_>>().join("; ")
}
