//! Joins the passages on disk, a part at a time.
//!
//! What is the same on both sides of a crossing is in one part, whenever it crossed. What is left, packets of which less is
//! known on one side and parts of packets, is joined in the order of time: those that can belong together are in the same
//! piece of time, or in neighbouring ones.

use std::{collections::VecDeque, path::Path};

use anyhow::Result;
use rustc_hash::FxHashSet;

use crate::{
    edge::Passage,
    join::{Counts, How, Joined, Recorded},
    search::{Fate, Search, State, fate},
    spill::{Passages, Spill},
};

/// The most pieces of time.
const PIECES_MAX: i128 = 256;

/// What is done with what was found.
pub trait Sink {
    /// An exit and an entry are the same packet, or one a part of the other, which crossed in so many ns.
    fn joined(&mut self, exit: &Passage, entry: &Passage, how: How, ns: u64);
    /// It left and did not come in on the other side, which was recorded.
    fn lost(&mut self, exit: &Passage, left_ns: i128);
}

/// Joins all passages of `spill` by the links, clocks and bounds of a sample of them. What is left over meanwhile goes to
/// files in `folder`.
///
/// # Errors
///
/// The disk is full, or cannot be read.
pub fn join_spilled(
    known: &Joined,
    recorded: &[Recorded],
    spill: &mut Spill,
    folder: &Path,
    sink: &mut dyn Sink,
) -> Result<Counts> {
    let mut joining = Joining { known, recorded, sink, counts: Counts::default() };
    let pieces = Pieces::of(known, recorded);
    let mut left = Spill::new(pieces.count, folder)?;
    for part in 0..spill.parts() {
        joining.exact(&spill.take(part)?, &pieces, &mut left)?;
    }
    joining.loose(&mut left)?;
    Ok(joining.counts)
}

/// Equal pieces of the time in which machines recorded, on the reference: what crosses is not on its way for longer.
struct Pieces {
    from_ns: i128,
    each_ns: i128,
    count: usize,
}

impl Pieces {
    fn of(known: &Joined, recorded: &[Recorded]) -> Pieces {
        let mapped = |(machine, ns): (usize, u64)| known.clocks.map(machine as u16, ns);
        let from_ns =
            recorded.iter().map(|one| one.from_ns).enumerate().filter_map(mapped).min().unwrap_or(0);
        let to_ns = recorded.iter().map(|one| one.to_ns).enumerate().filter_map(mapped).max().unwrap_or(0);
        let span = (to_ns - from_ns).max(0);
        let longest = known.bounds.longest.saturating_add(known.bounds.slack);
        let each_ns = longest.max(span / PIECES_MAX + 1).max(1);
        Pieces { from_ns, each_ns, count: (span / each_ns) as usize + 1 }
    }

    fn at(&self, ns: i128) -> usize {
        ((ns - self.from_ns) / self.each_ns).clamp(0, self.count as i128 - 1) as usize
    }
}

struct Joining<'a> {
    known: &'a Joined,
    recorded: &'a [Recorded],
    sink: &'a mut dyn Sink,
    counts: Counts,
}

/// Entries of a piece of time that are still open, and those of them that were ambiguous once.
#[derive(Default)]
struct Piece {
    exits: Vec<Passage>,
    entries: Vec<Passage>,
    ambiguous: FxHashSet<(u16, u32)>,
}

impl<'a> Joining<'a> {
    fn search<'s>(&self, exits: &'s [Passage], entries: &'s [Passage]) -> Search<'s>
    where
        'a: 's,
    {
        Search::new(&self.known.links, &self.known.clocks, exits, entries, self.known.bounds)
    }

    /// A part of all passages; what stays open goes to its piece of time.
    fn exact(&mut self, (exits, entries): &Passages, pieces: &Pieces, left: &mut Spill) -> Result<()> {
        let mut search = self.search(exits, entries);
        search.exact_rounds();
        for join in &search.joins {
            self.joined(&search, join.exit, join.entry, join.how);
        }
        add(&mut self.counts, &search.counts());
        for (number, exit) in exits.iter().enumerate() {
            match (search.exit_states[number], search.exit_ns[number]) {
                (State::Open, Some(ns)) => left.push(pieces.at(ns), exit, true)?,
                (State::Open, None) => self.counts.add_fate(Fate::Outside),
                _ => {}
            }
        }
        for (number, entry) in entries.iter().enumerate() {
            match (search.entry_states[number], search.entry_ns[number]) {
                (State::Open, Some(ns)) => left.push(pieces.at(ns), entry, false)?,
                (State::Open, None) => self.counts.foreign += 1,
                _ => {}
            }
        }
        Ok(())
    }

    fn joined(&mut self, search: &Search<'_>, exit: u32, entry: u32, how: How) {
        let ns = search.crossing(exit, entry).unwrap_or(0).max(0);
        let (exit, entry) = (&search.exits[exit as usize], &search.entries[entry as usize]);
        self.sink.joined(exit, entry, how, u64::try_from(ns).unwrap_or(u64::MAX));
    }

    /// What was left, by pieces of time: each with its neighbours.
    fn loose(&mut self, left: &mut Spill) -> Result<()> {
        // The piece before, the one that is decided, the one behind.
        let mut window: VecDeque<Piece> = VecDeque::from([Piece::default()]);
        for next in 0..=left.parts() {
            if next < left.parts() {
                let (exits, entries) = left.take(next)?;
                window.push_back(Piece { exits, entries, ..Piece::default() });
            }
            if next == 0 {
                continue;
            }
            self.decide(&mut window);
            if let Some(done) = window.pop_front() {
                self.count_open(&done);
            }
        }
        window.iter().for_each(|piece| self.count_open(piece));
        Ok(())
    }

    /// Joins the exits of the window's second piece.
    fn decide(&mut self, window: &mut VecDeque<Piece>) {
        let exits: Vec<Passage> = window.iter().flat_map(|piece| &piece.exits).copied().collect();
        let entries: Vec<Passage> = window.iter().flat_map(|piece| &piece.entries).copied().collect();
        let first = window[0].exits.len();
        let decided = first..first + window[1].exits.len();
        let mut search = self.search(&exits, &entries);
        search.loose_rounds();
        let mut joined_entries = FxHashSet::default();
        let (mut parts, mut joined_exits) = (0, FxHashSet::default());
        for join in search.joins.iter().filter(|join| decided.contains(&(join.exit as usize))) {
            self.joined(&search, join.exit, join.entry, join.how);
            joined_exits.insert(join.exit as usize);
            joined_entries.insert(place(&entries[join.entry as usize]));
            parts += u64::from(join.how == How::Part);
        }
        self.counts.parts += parts;
        self.counts.joined_exits += joined_exits.len() as u64;
        self.counts.joined_entries += joined_entries.len() as u64;
        self.counts.negative +=
            search.negative.iter().filter(|exit| decided.contains(&(**exit as usize))).count() as u64;
        let known = (&self.known.links, &self.known.clocks, self.known.bounds);
        for number in decided.filter(|number| !joined_exits.contains(number)) {
            match search.exit_states[number] {
                State::Ambiguous => self.counts.ambiguous += 1,
                _ => {
                    let (exit, left_ns) = (&exits[number], search.exit_ns[number]);
                    let fate = fate(exit, left_ns, known, self.recorded);
                    self.counts.add_fate(fate);
                    if let (Fate::Lost, Some(left_ns)) = (fate, left_ns) {
                        self.sink.lost(exit, left_ns);
                    }
                }
            }
        }
        let states = entries.iter().zip(&search.entry_states);
        let ambiguous: FxHashSet<_> =
            states.filter(|(_, state)| **state == State::Ambiguous).map(|(entry, _)| place(entry)).collect();
        for piece in window.iter_mut() {
            piece.ambiguous.extend(piece.entries.iter().map(place).filter(|place| ambiguous.contains(place)));
            piece.entries.retain(|entry| !joined_entries.contains(&place(entry)));
        }
        let number = |at: usize| first + at;
        let mut at = 0;
        window[1].exits.retain(|_| {
            at += 1;
            !joined_exits.contains(&number(at - 1))
        });
    }

    fn count_open(&mut self, piece: &Piece) {
        for entry in &piece.entries {
            let is_ambiguous = piece.ambiguous.contains(&place(entry));
            *if is_ambiguous { &mut self.counts.ambiguous_entries } else { &mut self.counts.foreign } += 1;
        }
    }
}

fn place(passage: &Passage) -> (u16, u32) {
    (passage.device.machine, passage.record)
}

fn add(sum: &mut Counts, one: &Counts) {
    sum.exits += one.exits;
    sum.entries += one.entries;
    sum.joined_exits += one.joined_exits;
    sum.joined_entries += one.joined_entries;
    sum.parts += one.parts;
    sum.across_nat += one.across_nat;
    sum.ambiguous += one.ambiguous;
    sum.ambiguous_entries += one.ambiguous_entries;
    sum.across_epoch += one.across_epoch;
    sum.negative += one.negative;
}
