//! Which exit and which entry are the same packet. Never a guess: a join is made where exactly one candidate is left on
//! each side; all else is counted.

use overlay_trace_format::ClockReading;
use serde::Serialize;

use crate::{
    edge::Passage,
    links::{Clocks, Links, Pair, unique_pairs},
    search::{Bounds, Fate, Search},
};

/// How two records were found to be the same packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    Same,
    /// Of different addresses.
    AcrossNat,
    /// One of them is a part of the other: segmentation before the exit was put off, or packets were merged before
    /// they were seen.
    Part,
}

/// An exit and an entry of one packet, by their numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Join {
    pub exit: u32,
    pub entry: u32,
    pub how: How,
}

/// What became of exits and entries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    pub exits: u64,
    pub entries: u64,
    /// Exits and entries that are joined.
    pub joined_exits: u64,
    pub joined_entries: u64,
    /// Joins of parts of packets.
    pub parts: u64,
    pub across_nat: u64,
    /// Exits and entries that had more than one candidate.
    pub ambiguous: u64,
    pub ambiguous_entries: u64,
    /// Exits whose other side was recorded without losses.
    pub lost_between: u64,
    /// Exits whose other side was recorded with losses.
    pub perhaps_lost: u64,
    /// Exits whose other side was not recorded, or not then.
    pub out_of_recording: u64,
    /// Entries whose other side was not recorded, or not then.
    pub foreign: u64,
    /// Exits whose clock had begun a new epoch since the packet's path began.
    pub across_epoch: u64,
    /// Joins that were undone: the crossing would have taken less than no time.
    pub negative: u64,
}

impl Counts {
    /// Counts an exit without an entry.
    pub(crate) fn add_fate(&mut self, fate: Fate) {
        match fate {
            Fate::Lost => self.lost_between += 1,
            Fate::PerhapsLost => self.perhaps_lost += 1,
            Fate::Outside => self.out_of_recording += 1,
        }
    }
}

/// When a machine recorded, on its own clock, and whether it lost anything.
#[derive(Clone, Debug, Default)]
pub struct Recorded {
    pub from_ns: u64,
    pub to_ns: u64,
    pub has_losses: bool,
    pub has_filter: bool,
    /// All of the machine's clocks, now and then.
    pub clocks: Vec<ClockReading>,
}

/// What is known of the packets between machines.
#[derive(Clone, Debug, Default)]
pub struct Joined {
    pub links: Links,
    pub clocks: Clocks,
    pub bounds: Bounds,
    pub joins: Vec<Join>,
    pub counts: Counts,
    /// Exits that did not come in anywhere, though their other side was recorded.
    pub lost: Vec<u32>,
}

/// Joins exits to entries, all in memory. Where that is a sample of all packets its links, clocks and bounds hold for the
/// others.
pub fn join(recorded: &[Recorded], exits: &[Passage], entries: &[Passage], reference: Option<u16>) -> Joined {
    let unique = unique_pairs(recorded.len(), exits, entries);
    let links = Links::new(exits, entries, &unique);
    let reference = reference.unwrap_or_else(|| links.center(recorded.len()));
    let clocks_of = |pairs: &[Pair]| Clocks::new(recorded, reference, &links, (exits, entries), pairs);
    // What is found with clocks that unique packets bound, across address translation too, bounds them more narrowly.
    let rough = clocks_of(&unique);
    let bounds = Bounds::of(&links, &rough, exits, entries, &unique);
    let mut search = Search::new(&links, &rough, exits, entries, bounds.with_slack());
    search.exact_rounds();
    search.loose_rounds();
    let mut pairs: Vec<Pair> = search.wholes().chain(unique.iter().copied()).collect();
    pairs.sort_unstable();
    pairs.dedup();
    let clocks = clocks_of(&pairs);
    let bounds = Bounds::of(&links, &clocks, exits, entries, &pairs);
    let mut search = Search::new(&links, &clocks, exits, entries, bounds);
    search.exact_rounds();
    search.loose_rounds();
    search.finish(recorded)
}
