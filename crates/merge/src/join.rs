//! Which exit and which entry are the same packet. Never a guess: a join is made where exactly one candidate is left on
//! each side; all else is counted.

use std::hash::Hash;

use overlay_trace_common::{headers::IPPROTO_TCP, record::Flow};
use rustc_hash::FxHashMap;
use serde::Serialize;

use crate::{
    edge::Passage,
    links::{Clocks, Identity, Links, Pair, unique_pairs},
    ranges,
};

/// The longest crossing that is looked for, in ns, if crossings are not known to be longer.
const WINDOW_NS: i128 = 1_000_000_000;

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

/// When a machine recorded, on its own clock, and whether it lost anything.
#[derive(Clone, Copy, Debug, Default)]
pub struct Recorded {
    pub from_ns: u64,
    pub to_ns: u64,
    pub has_losses: bool,
    pub has_filter: bool,
}

/// What is known of the packets between machines.
#[derive(Clone, Debug, Default)]
pub struct Joined {
    pub links: Links,
    pub clocks: Clocks,
    pub joins: Vec<Join>,
    pub counts: Counts,
    /// Exits that did not come in anywhere, though their other side was recorded.
    pub lost: Vec<u32>,
}

/// Joins exits to entries. `starts` says when an exit's path began, on its machine's clock.
pub fn join(
    recorded: &[Recorded],
    exits: &[Passage],
    entries: &[Passage],
    starts: &dyn Fn(&Passage) -> u64,
    reference: Option<u16>,
) -> Joined {
    let unique = unique_pairs(recorded.len(), exits, entries);
    let links = Links::new(exits, entries, &unique);
    let reference = reference.unwrap_or_else(|| links.center(recorded.len()));
    let clocks_of = |pairs: &[Pair]| Clocks::new(recorded.len(), reference, &links, (exits, entries), pairs);
    // What is found with clocks that unique packets bound, across address translation too, bounds them more narrowly.
    let rough = clocks_of(&unique);
    let mut search = Search::new(&links, &rough, exits, entries, &unique);
    search.least = -search.slack;
    search.rounds(starts);
    let mut pairs: Vec<Pair> = search.wholes().chain(unique.iter().copied()).collect();
    pairs.sort_unstable();
    pairs.dedup();
    let clocks = clocks_of(&pairs);
    let mut search = Search::new(&links, &clocks, exits, entries, &pairs);
    search.rounds(starts);
    search.finish(recorded)
}

/// What is the same of a packet on two machines even if a part of it could not be read on one of them.
fn like(passage: &Passage) -> (Flow, u32) {
    (Flow { ip_id: 0, ..passage.flow }, passage.bytes)
}

/// Whether what is known of both packets agrees.
pub(crate) fn are_alike(one: &Passage, other: &Passage) -> bool {
    let agree = |one: u64, other: u64| one == other || one == 0 || other == 0;
    agree(one.flow.ip_id.into(), other.flow.ip_id.into()) && agree(one.witness, other.witness)
}

/// What translation of addresses leaves.
fn across_nat(passage: &Passage) -> Option<(u8, u8, u16, u32, u64, u32)> {
    let Flow { protocol, version, ip_id, sequence, .. } = passage.flow;
    let is_telling = passage.witness != 0 || sequence != 0 || ip_id != 0;
    is_telling.then_some((protocol, version, ip_id, sequence, passage.witness, passage.bytes))
}

/// State of an exit or an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Open,
    Joined,
    /// Several candidates: no later round may choose among them.
    Ambiguous,
    AcrossEpoch,
}

/// The search for pairs.
pub(crate) struct Search<'a> {
    links: &'a Links,
    clocks: &'a Clocks,
    pub exits: &'a [Passage],
    pub entries: &'a [Passage],
    /// On the reference, in ns; `None` where the clock is not known.
    exit_ns: Vec<Option<i128>>,
    entry_ns: Vec<Option<i128>>,
    pub exit_states: Vec<State>,
    pub entry_states: Vec<State>,
    /// Crossings take from `-slack` to `longest`, in ns.
    slack: i128,
    longest: i128,
    /// Joins whose crossing takes less are undone.
    least: i128,
    pub joins: Vec<Join>,
    negative: u64,
}

impl<'a> Search<'a> {
    fn new(
        links: &'a Links,
        clocks: &'a Clocks,
        exits: &'a [Passage],
        entries: &'a [Passage],
        pairs: &[Pair],
    ) -> Search<'a> {
        let mapped = |passages: &[Passage]| -> Vec<Option<i128>> {
            passages.iter().map(|passage| clocks.map(passage.device.machine, passage.ns)).collect()
        };
        let widest = |passages: &[Passage]| {
            let widths = passages.iter().step_by(passages.len() / 1000 + 1);
            let widths = widths.map(|passage| clocks.uncertainty(passage.device.machine, passage.ns));
            widths.map(|(late, early)| late.max(early)).max().unwrap_or(0)
        };
        let (exit_ns, entry_ns) = (mapped(exits), mapped(entries));
        let slack = i128::from(widest(exits).saturating_add(widest(entries)));
        let longest = longest(links, exits, entries, pairs, &exit_ns, &entry_ns);
        Search {
            links,
            clocks,
            exits,
            entries,
            exit_states: vec![State::Open; exits.len()],
            entry_states: vec![State::Open; entries.len()],
            exit_ns,
            entry_ns,
            slack,
            longest,
            least: 0,
            joins: Vec::new(),
            negative: 0,
        }
    }

    /// Joins what can be joined.
    fn rounds(&mut self, starts: &dyn Fn(&Passage) -> u64) {
        self.drop_across_epochs(starts);
        self.round(Identity::of, |_, _| true, How::Same);
        self.round(like, are_alike, How::Same);
        ranges::join(self);
        self.round(across_nat, |_, _| true, How::AcrossNat);
    }

    /// The joins of whole packets: the parts of others say less of the clocks.
    fn wholes(&self) -> impl Iterator<Item = Pair> {
        self.joins.iter().filter(|join| join.how != How::Part).map(|join| (join.exit, join.entry))
    }

    /// Paths during which a clock began a new epoch are not joined.
    fn drop_across_epochs(&mut self, starts: &dyn Fn(&Passage) -> u64) {
        for (exit, state) in self.exits.iter().zip(&mut self.exit_states) {
            let Some(clock) = &self.clocks.clocks[usize::from(exit.device.machine)] else { continue };
            if clock.epochs.len() > 1 && clock.epoch_of(starts(exit)) != clock.epoch_of(exit.ns) {
                *state = State::AcrossEpoch;
            }
        }
    }

    /// How long the crossing took, if this can be one.
    pub fn crossing(&self, exit: u32, entry: u32) -> Option<i128> {
        let (from, to) = (&self.exits[exit as usize], &self.entries[entry as usize]);
        let ns = self.entry_ns[entry as usize]? - self.exit_ns[exit as usize]?;
        let is_possible = (-self.slack..=self.longest).contains(&ns);
        (is_possible && self.links.has(from.device, to.device)).then_some(ns)
    }

    /// Joins the open exits and entries with the same key that are each other's only candidate.
    fn round<K: Hash + Eq>(
        &mut self,
        key: impl Fn(&Passage) -> K,
        agree: impl Fn(&Passage, &Passage) -> bool,
        how: How,
    ) {
        let mut groups: FxHashMap<K, (Vec<u32>, Vec<u32>)> = FxHashMap::default();
        for (number, exit) in self.exits.iter().enumerate() {
            if self.exit_states[number] == State::Open && self.exit_ns[number].is_some() {
                groups.entry(key(exit)).or_default().0.push(number as u32);
            }
        }
        for (number, entry) in self.entries.iter().enumerate() {
            if self.entry_states[number] == State::Open
                && self.entry_ns[number].is_some()
                && let Some(group) = groups.get_mut(&key(entry))
            {
                group.1.push(number as u32);
            }
        }
        let mut groups: Vec<_> = groups.into_values().filter(|(_, entries)| !entries.is_empty()).collect();
        groups.sort_unstable_by_key(|(exits, _)| exits.first().copied());
        for (exits, entries) in groups {
            self.join_group(exits, entries, &agree, how);
        }
    }

    fn join_group(
        &mut self,
        mut exits: Vec<u32>,
        mut entries: Vec<u32>,
        agree: &impl Fn(&Passage, &Passage) -> bool,
        how: How,
    ) {
        exits.sort_by_key(|&exit| self.exit_ns[exit as usize]);
        entries.sort_by_key(|&entry| self.entry_ns[entry as usize]);
        let can_be = |exit: u32, entry: u32| {
            self.crossing(exit, entry).is_some()
                && agree(&self.exits[exit as usize], &self.entries[entry as usize])
        };
        // For each the only candidate; `Err` where there are several.
        let of_exits: Vec<Result<Option<u32>, ()>> = exits
            .iter()
            .map(|&exit| {
                let at = self.exit_ns[exit as usize].unwrap_or_default();
                only(within(&entries, &self.entry_ns, at - self.slack, at + self.longest), |entry| {
                    can_be(exit, entry)
                })
            })
            .collect();
        let of_entries: Vec<Result<Option<u32>, ()>> = entries
            .iter()
            .map(|&entry| {
                let at = self.entry_ns[entry as usize].unwrap_or_default();
                only(within(&exits, &self.exit_ns, at - self.longest, at + self.slack), |exit| {
                    can_be(exit, entry)
                })
            })
            .collect();
        let by_entry: FxHashMap<u32, Result<Option<u32>, ()>> =
            entries.iter().copied().zip(of_entries.iter().copied()).collect();
        for (&exit, found) in exits.iter().zip(&of_exits) {
            match found {
                Ok(Some(entry)) if by_entry[entry] == Ok(Some(exit)) => self.add(exit, *entry, how),
                Ok(None) => {}
                Ok(Some(_)) | Err(()) => self.exit_states[exit as usize] = State::Ambiguous,
            }
        }
        for (&entry, found) in entries.iter().zip(&of_entries) {
            let is_open = self.entry_states[entry as usize] == State::Open;
            if is_open && *found != Ok(None) {
                self.entry_states[entry as usize] = State::Ambiguous;
            }
        }
    }

    /// Joins an exit to an entry, unless the crossing would have taken less time than there can be.
    pub fn add(&mut self, exit: u32, entry: u32, how: How) {
        match self.crossing(exit, entry) {
            Some(ns) if ns >= self.least => {
                self.exit_states[exit as usize] = State::Joined;
                self.entry_states[entry as usize] = State::Joined;
                self.joins.push(Join { exit, entry, how });
            }
            _ => {
                self.exit_states[exit as usize] = State::Ambiguous;
                self.entry_states[entry as usize] = State::Ambiguous;
                self.negative += 1;
            }
        }
    }

    fn finish(mut self, recorded: &[Recorded]) -> Joined {
        let count = |states: &[State], wanted| states.iter().filter(|state| **state == wanted).count() as u64;
        let of = |wanted: How| self.joins.iter().filter(|join| join.how == wanted).count() as u64;
        let mut counts = Counts {
            exits: self.exits.len() as u64,
            entries: self.entries.len() as u64,
            joined_exits: count(&self.exit_states, State::Joined),
            joined_entries: count(&self.entry_states, State::Joined),
            parts: of(How::Part),
            across_nat: of(How::AcrossNat),
            ambiguous: count(&self.exit_states, State::Ambiguous),
            ambiguous_entries: count(&self.entry_states, State::Ambiguous),
            across_epoch: count(&self.exit_states, State::AcrossEpoch),
            foreign: count(&self.entry_states, State::Open),
            negative: self.negative,
            ..Counts::default()
        };
        let mut lost = Vec::new();
        for number in 0..self.exits.len() {
            if self.exit_states[number] == State::Open {
                match self.fate(number, recorded) {
                    Fate::Lost => {
                        counts.lost_between += 1;
                        lost.push(number as u32);
                    }
                    Fate::PerhapsLost => counts.perhaps_lost += 1,
                    Fate::Outside => counts.out_of_recording += 1,
                }
            }
        }
        self.joins.sort_unstable_by_key(|join| (join.exit, join.entry));
        let (links, clocks) = (self.links.clone(), self.clocks.clone());
        Joined { links, clocks, joins: self.joins, counts, lost }
    }

    /// What became of an exit without an entry.
    fn fate(&self, number: usize, recorded: &[Recorded]) -> Fate {
        let exit = &self.exits[number];
        let Some(left) = self.exit_ns[number] else { return Fate::Outside };
        let mut fate = Fate::Outside;
        for partner in self.links.partners(exit.device) {
            // A wire leads to others too.
            let is_bond = partner.is_tap || exit.device.is_tap;
            let peer = &recorded[usize::from(partner.machine)];
            let bounds = [peer.from_ns, peer.to_ns].map(|ns| self.clocks.map(partner.machine, ns));
            let [Some(from), Some(to)] = bounds else { continue };
            let was_recorded = from + self.slack <= left && left + self.longest <= to;
            if is_bond && was_recorded && !peer.has_filter {
                fate = if peer.has_losses { Fate::PerhapsLost } else { Fate::Lost };
            }
        }
        fate
    }
}

enum Fate {
    Lost,
    PerhapsLost,
    Outside,
}

/// Those of the numbers, which are sorted by time, whose time lies within these bounds.
fn within<'n>(numbers: &'n [u32], times: &[Option<i128>], from: i128, to: i128) -> &'n [u32] {
    let time = |number: u32| times[number as usize].unwrap_or_default();
    let start = numbers.partition_point(|&number| time(number) < from);
    let end = numbers.partition_point(|&number| time(number) <= to);
    &numbers[start..end.max(start)]
}

/// The only one of the numbers that can be; an error where several can.
fn only(numbers: &[u32], can_be: impl Fn(u32) -> bool) -> Result<Option<u32>, ()> {
    let mut found = numbers.iter().copied().filter(|&number| can_be(number));
    match (found.next(), found.next()) {
        (first, None) => Ok(first),
        (_, Some(_)) => Err(()),
    }
}

/// The longest crossing that is looked for: four times as long as nearly all of those that are known.
fn longest(
    links: &Links,
    exits: &[Passage],
    entries: &[Passage],
    pairs: &[Pair],
    exit_ns: &[Option<i128>],
    entry_ns: &[Option<i128>],
) -> i128 {
    let linked = pairs
        .iter()
        .filter(|&&(exit, entry)| links.has(exits[exit as usize].device, entries[entry as usize].device));
    let mut known: Vec<i128> = linked
        .filter_map(|&(exit, entry)| Some(entry_ns[entry as usize]? - exit_ns[exit as usize]?))
        .collect();
    known.sort_unstable();
    let nearly_all = known.len().saturating_sub(1) * 999 / 1000;
    WINDOW_NS.max(known.get(nearly_all).copied().unwrap_or(0).saturating_mul(4))
}

/// Whether the packet may be a part of another one: TCP with data.
pub(crate) fn has_range(passage: &Passage) -> bool {
    passage.flow.protocol == IPPROTO_TCP && !passage.is_empty
}
