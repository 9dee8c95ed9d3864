//! The slowest packets, kept whole.

use std::{cmp::Reverse, collections::BTreeMap};

use overlay_trace_common::record::RecordHeader;

use super::items::{Item, Stretch};
use crate::breakdown::{Key, Rows};

/// A stretch of a packet's way.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// Since the beginning of the packet's way, in ns.
    pub at_ns: u64,
    pub ns: u64,
    pub key: Key,
    /// The CPU that the packet was on, or that emptied the queue it waited in; `None` where that is not known.
    pub cpu: Option<u16>,
}

/// A packet, or a request with its answer, with its way step by step.
#[derive(Clone, Debug)]
pub struct SlowPacket {
    /// The packet's, or the request's.
    pub header: RecordHeader,
    /// The beginning of its way, or of the way of the packet that it was made of, in ns of CLOCK_MONOTONIC.
    pub start_ns: u64,
    /// How long it was under way, in ns: what its steps add up to.
    pub ns: u64,
    pub steps: Vec<Step>,
}

/// A packet's way, with its header and beginning.
struct Kept {
    header: RecordHeader,
    start_ns: u64,
    way: Box<[Stretch]>,
}

/// Keeps the slowest packets of all that it is shown.
pub(super) struct Slowest {
    room: usize,
    /// By time, beginning and number: the slowest first, of equally slow ones that which began first.
    kept: BTreeMap<(Reverse<u64>, u64, u64), Kept>,
}

impl Slowest {
    /// Keeps at most `room` packets.
    pub fn new(room: usize) -> Slowest {
        Slowest { room, kept: BTreeMap::new() }
    }

    /// Shows a packet, or a request with its answer.
    pub fn add(&mut self, item: &Item<'_>) {
        let rank = (Reverse(item.ns), item.start_ns, item.header.id);
        let full = self.kept.len() >= self.room;
        if full && self.kept.last_key_value().is_none_or(|(last, _)| *last <= rank) {
            return;
        }
        let kept = Kept { header: *item.header, start_ns: item.start_ns, way: item.way.into() };
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
            steps: steps(&kept.way, rows),
        });
        packets.collect()
    }
}

/// Segments that follow each other in one row on one CPU are one step.
fn steps(way: &[Stretch], rows: &Rows) -> Vec<Step> {
    let mut at_ns = 0u64;
    let mut steps = Vec::new();
    for step in way.chunk_by(|one, next| (one.row, one.cpu) == (next.row, next.cpu)) {
        let ns = step.iter().fold(0, |sum: u64, part| sum.saturating_add(part.ns));
        steps.push(Step { at_ns, ns, key: rows.key(step[0].row), cpu: step[0].cpu });
        at_ns = at_ns.saturating_add(ns);
    }
    steps
}
