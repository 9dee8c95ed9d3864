//! A machine and its recording.

use std::collections::BTreeMap;

use anyhow::Result;
use overlay_trace_format::Recording;

use crate::{edge::edge_of, error::MergeError, join::Recorded};

/// A machine and what it recorded.
pub struct Machine {
    /// The node's name; with a number where several have one name.
    pub name: String,
    pub recording: Recording,
    /// How many records there are.
    pub count: u32,
    /// The number of the first record of each chunk.
    pub chunks: Vec<u32>,
    /// Records that others name as their parent, by their number in the recording, in order.
    pub parents: Vec<(u64, u32)>,
}

impl Machine {
    /// The record that has this number in the recording, if others were made of it.
    pub fn parent(&self, id: u64) -> Option<u32> {
        let at = self.parents.binary_search_by_key(&id, |(id, _)| *id).ok()?;
        Some(self.parents[at].1)
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
            clocks: self.recording.clocks.clone(),
        }
    }
}

/// The machines of recordings.
pub(crate) fn of(recordings: Vec<Recording>) -> Result<Vec<Machine>> {
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
        machines.push(Machine { name, recording, count: 0, chunks: Vec::new(), parents: Vec::new() });
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
