//! The slowest samples, with their whole path.

use std::{cmp::Reverse, collections::BTreeMap};

use overlay_trace_common::record::RecordHeader;

use super::sample::{RowSpan, Sample};
use crate::breakdown::{Key, Rows};

/// A step of a packet's path.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// Since the start of the path, in ns.
    pub at_ns: u64,
    pub ns: u64,
    pub key: Key,
    /// The CPU that the packet was on, or that dequeued it; `None` where it is not known.
    pub cpu: Option<u16>,
}

/// A slow packet, or a slow request with its answer, with its path step by step.
#[derive(Clone, Debug)]
pub struct SlowPacket {
    /// The packet's, or the request's.
    pub header: RecordHeader,
    /// The start of its path, or of the path of the packet that it was made of, in ns of CLOCK_MONOTONIC.
    pub start_ns: u64,
    /// The whole time, in ns: the sum of its steps.
    pub ns: u64,
    pub steps: Vec<Step>,
}

/// A path, with its header and start.
struct Kept {
    header: RecordHeader,
    start_ns: u64,
    path: Box<[RowSpan]>,
}

/// Keeps the slowest of all samples that are added.
pub(super) struct Slowest {
    room: usize,
    /// By time, start and number: the slowest first, among equally slow ones the earliest first.
    kept: BTreeMap<(Reverse<u64>, u64, u64), Kept>,
}

impl Slowest {
    /// Keeps at most `room` samples.
    pub fn new(room: usize) -> Slowest {
        Slowest { room, kept: BTreeMap::new() }
    }

    /// Adds a sample.
    pub fn add(&mut self, sample: &Sample<'_>) {
        let rank = (Reverse(sample.ns), sample.start_ns, sample.header.id);
        let full = self.kept.len() >= self.room;
        if full && self.kept.last_key_value().is_none_or(|(last, _)| *last <= rank) {
            return;
        }
        let kept = Kept { header: *sample.header, start_ns: sample.start_ns, path: sample.path.into() };
        self.kept.insert(rank, kept);
        if self.kept.len() > self.room {
            self.kept.pop_last();
        }
    }

    /// The slowest first.
    pub fn finish(self, rows: &Rows) -> Vec<SlowPacket> {
        let packets = self.kept.into_iter().map(|((Reverse(ns), ..), kept)| SlowPacket {
            header: kept.header,
            start_ns: kept.start_ns,
            ns,
            steps: steps(&kept.path, rows),
        });
        packets.collect()
    }
}

/// Consecutive spans of one row on one CPU are one step.
fn steps(path: &[RowSpan], rows: &Rows) -> Vec<Step> {
    let mut at_ns = 0u64;
    let mut steps = Vec::new();
    for step in path.chunk_by(|one, next| (one.row, one.cpu) == (next.row, next.cpu)) {
        let ns = step.iter().fold(0, |sum: u64, part| sum.saturating_add(part.ns));
        steps.push(Step { at_ns, ns, key: rows.key(step[0].row), cpu: step[0].cpu });
        at_ns = at_ns.saturating_add(ns);
    }
    steps
}
