//! The first pass over the recordings: passages go to disk, and a sample of them stays in memory.

use std::{
    collections::BTreeMap,
    hash::{Hash, Hasher},
    path::Path,
};

use anyhow::Result;
use overlay_trace_common::flags::RecordFlags;
use rustc_hash::FxHasher;

use crate::{
    edge::{Device, Passage, passages},
    machine::Machine,
    search::across_nat,
    spill::Spill,
};

/// Parts of the passages on disk, by what is the same on both sides of a crossing.
pub const PARTS: usize = 64;
/// So many passages are kept in memory, of which links and clocks are found.
const SAMPLE_MAX: usize = 300_000;

/// What the first pass finds.
pub(crate) struct Scanned {
    /// All passages, in [`PARTS`] parts.
    pub spill: Spill,
    pub sample: Sample,
    /// Exits and entries, by device.
    pub counts: BTreeMap<Device, (u64, u64)>,
}

/// Reads all records once. Machines learn where their records are.
pub(crate) fn scan(machines: &mut [Machine], folder: &Path) -> Result<Scanned> {
    let mut scanned = Scanned {
        spill: Spill::new(PARTS, folder)?,
        sample: Sample::new(SAMPLE_MAX),
        counts: BTreeMap::new(),
    };
    for (number, machine) in machines.iter_mut().enumerate() {
        let mut records = 0;
        for chunk in 0..machine.recording.chunk_bytes().len() {
            machine.chunks.push(records);
            let mut outcome = Ok(());
            let (recording, parents) = (&machine.recording, &mut machine.parents);
            recording.for_each_record_of(chunk..chunk + 1, |record| {
                if record.header.flags.has(RecordFlags::PARENT) {
                    parents.push((record.header.id, records));
                }
                let spans: Vec<_> = record.spans().collect();
                let edge = |hop| recording.hops.get(&hop).and_then(crate::edge::edge_of);
                let (exit, entry) =
                    passages(number as u16, records, &record, &spans, &recording.header.stages, edge);
                for (passage, is_exit) in [(exit, true), (entry, false)] {
                    if let (Some(passage), Ok(())) = (passage, &outcome) {
                        outcome = scanned.add(&passage, is_exit);
                    }
                }
                records += 1;
            })?;
            outcome?;
        }
        machine.count = records;
        machine.parents.sort_unstable();
    }
    Ok(scanned)
}

impl Scanned {
    fn add(&mut self, passage: &Passage, is_exit: bool) -> Result<()> {
        let (exits, entries) = self.counts.entry(passage.device).or_default();
        *if is_exit { exits } else { entries } += 1;
        let hash = hash(passage);
        self.sample.add(hash, passage, is_exit);
        self.spill.push(part(hash), passage, is_exit)
    }
}

/// The part of a passage with this hash.
pub fn part(hash: u64) -> usize {
    (hash >> 32) as usize % PARTS
}

/// A number that is the same on both sides of a crossing, across address translation too.
pub fn hash(passage: &Passage) -> u64 {
    let mut hasher = FxHasher::default();
    across_nat(passage).hash(&mut hasher);
    // Each bit of the sum depends on each of the hash's.
    let hash = hasher.finish().wrapping_mul(0x9e37_79b9_7f4a_7c15);
    hash ^ hash >> 29
}

/// Passages of which some are kept: with a packet's exit also its entry.
pub struct Sample {
    most: usize,
    /// Those with smaller hashes are kept.
    below: u64,
    exits: Vec<(u64, Passage)>,
    entries: Vec<(u64, Passage)>,
}

impl Sample {
    /// Of so many at most.
    pub fn new(most: usize) -> Sample {
        Sample { most, below: u64::MAX, exits: Vec::new(), entries: Vec::new() }
    }

    /// Adds a passage with its hash.
    pub fn add(&mut self, hash: u64, passage: &Passage, is_exit: bool) {
        if hash > self.below {
            return;
        }
        if is_exit { &mut self.exits } else { &mut self.entries }.push((hash, *passage));
        while self.exits.len() + self.entries.len() > self.most && self.below > 1 {
            self.below /= 2;
            self.exits.retain(|(hash, _)| *hash <= self.below);
            self.entries.retain(|(hash, _)| *hash <= self.below);
        }
    }

    /// Exits and entries that were kept.
    pub fn passages(self) -> (Vec<Passage>, Vec<Passage>) {
        let only = |all: Vec<(u64, Passage)>| all.into_iter().map(|(_, passage)| passage).collect();
        (only(self.exits), only(self.entries))
    }
}
