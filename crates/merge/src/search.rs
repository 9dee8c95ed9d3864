//! The search for the exits and entries that are each other's only candidate.

use std::hash::Hash;

use overlay_trace_common::{headers::IPPROTO_TCP, record::Flow};
use rustc_hash::FxHashMap;

use crate::{
    edge::Passage,
    join::{Counts, How, Join, Joined, Recorded},
    links::{Clocks, Identity, Links, Pair},
    ranges,
};

/// The longest crossing that is looked for, in ns, if crossings are not known to be longer.
const WINDOW_NS: i128 = 1_000_000_000;

/// What is the same of a packet on two machines even if a part of it could not be read on one of them.
fn like(passage: &Passage) -> (Flow, u32) {
    (Flow { ip_id: 0, ..passage.flow }, passage.bytes)
}

/// Whether what is known of both packets agrees.
fn are_alike(one: &Passage, other: &Passage) -> bool {
    let agree = |one: u64, other: u64| one == other || one == 0 || other == 0;
    agree(one.flow.ip_id.into(), other.flow.ip_id.into()) && agree(one.witness, other.witness)
}

/// What translation of addresses leaves.
pub(crate) fn across_nat(passage: &Passage) -> Option<(u8, u8, u16, u32, u64, u32)> {
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
    pub exit_ns: Vec<Option<i128>>,
    pub entry_ns: Vec<Option<i128>>,
    pub exit_states: Vec<State>,
    pub entry_states: Vec<State>,
    bounds: Bounds,
    pub joins: Vec<Join>,
    /// Exits of joins that were undone, since the crossing would have taken less than no time.
    pub negative: Vec<u32>,
}

impl<'a> Search<'a> {
    /// Among these, with these clocks.
    pub fn new(
        links: &'a Links,
        clocks: &'a Clocks,
        exits: &'a [Passage],
        entries: &'a [Passage],
        bounds: Bounds,
    ) -> Search<'a> {
        let mapped = |passages: &[Passage]| -> Vec<Option<i128>> {
            passages.iter().map(|passage| clocks.map(passage.device.machine, passage.ns)).collect()
        };
        let (exit_ns, entry_ns) = (mapped(exits), mapped(entries));
        Search {
            links,
            clocks,
            exits,
            entries,
            exit_states: vec![State::Open; exits.len()],
            entry_states: vec![State::Open; entries.len()],
            exit_ns,
            entry_ns,
            bounds,
            joins: Vec::new(),
            negative: Vec::new(),
        }
    }

    /// Joins packets of which everything is the same on both sides, and then those of which only the addresses differ.
    pub fn exact_rounds(&mut self) {
        self.drop_across_epochs();
        self.round(|passage| Some(Identity::of(passage)), |_, _| true, How::Same);
        self.round(across_nat, |_, _| true, How::AcrossNat);
    }

    /// Joins what is left: packets of which less is known on one side, and parts.
    pub fn loose_rounds(&mut self) {
        self.round(|passage| Some(like(passage)), are_alike, How::Same);
        ranges::join(self);
    }

    /// The joins of whole packets: the parts of others say less of the clocks.
    pub fn wholes(&self) -> impl Iterator<Item = Pair> {
        self.joins.iter().filter(|join| join.how != How::Part).map(|join| (join.exit, join.entry))
    }

    /// Paths during which a clock began a new epoch are not joined.
    fn drop_across_epochs(&mut self) {
        for (exit, state) in self.exits.iter().zip(&mut self.exit_states) {
            let Some(clock) = &self.clocks.clocks[usize::from(exit.device.machine)] else { continue };
            if clock.epochs.len() > 1 && clock.epoch_of(exit.began_ns) != clock.epoch_of(exit.ns) {
                *state = State::AcrossEpoch;
            }
        }
    }

    /// How long the crossing took, if this can be one.
    pub fn crossing(&self, exit: u32, entry: u32) -> Option<i128> {
        let (from, to) = (&self.exits[exit as usize], &self.entries[entry as usize]);
        let ns = self.entry_ns[entry as usize]? - self.exit_ns[exit as usize]?;
        let is_possible = (-self.bounds.slack..=self.bounds.longest).contains(&ns);
        (is_possible && self.links.has(from.device, to.device)).then_some(ns)
    }

    /// Joins the open exits and entries with the same key that are each other's only candidate; those without a key are
    /// left out.
    fn round<K: Hash + Eq>(
        &mut self,
        key: impl Fn(&Passage) -> Option<K>,
        agree: impl Fn(&Passage, &Passage) -> bool,
        how: How,
    ) {
        let mut groups: FxHashMap<K, (Vec<u32>, Vec<u32>)> = FxHashMap::default();
        for (number, exit) in self.exits.iter().enumerate() {
            let is_open = self.exit_states[number] == State::Open && self.exit_ns[number].is_some();
            if let Some(key) = key(exit).filter(|_| is_open) {
                groups.entry(key).or_default().0.push(number as u32);
            }
        }
        for (number, entry) in self.entries.iter().enumerate() {
            if self.entry_states[number] == State::Open
                && self.entry_ns[number].is_some()
                && let Some(group) = key(entry).and_then(|key| groups.get_mut(&key))
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
                only(
                    within(&entries, &self.entry_ns, at - self.bounds.slack, at + self.bounds.longest),
                    |entry| can_be(exit, entry),
                )
            })
            .collect();
        let of_entries: Vec<Result<Option<u32>, ()>> = entries
            .iter()
            .map(|&entry| {
                let at = self.entry_ns[entry as usize].unwrap_or_default();
                only(
                    within(&exits, &self.exit_ns, at - self.bounds.longest, at + self.bounds.slack),
                    |exit| can_be(exit, entry),
                )
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
            Some(ns) if ns >= self.bounds.least => {
                self.exit_states[exit as usize] = State::Joined;
                self.entry_states[entry as usize] = State::Joined;
                self.joins.push(Join { exit, entry, how });
            }
            _ => {
                // Another part of it may have been joined.
                for state in [&mut self.exit_states[exit as usize], &mut self.entry_states[entry as usize]] {
                    if *state != State::Joined {
                        *state = State::Ambiguous;
                    }
                }
                self.negative.push(exit);
            }
        }
    }

    /// The joins, and what became of each exit and entry.
    pub fn finish(mut self, recorded: &[Recorded]) -> Joined {
        let mut counts = self.counts();
        let (mut lost, known) = (Vec::new(), (self.links, self.clocks, self.bounds));
        for (number, exit) in self.exits.iter().enumerate() {
            if self.exit_states[number] == State::Open {
                let fate = fate(exit, self.exit_ns[number], known, recorded);
                counts.add_fate(fate);
                lost.extend((fate == Fate::Lost).then_some(number as u32));
            }
        }
        counts.foreign = self.entry_states.iter().filter(|state| **state == State::Open).count() as u64;
        self.joins.sort_unstable_by_key(|join| (join.exit, join.entry));
        let (links, clocks) = (self.links.clone(), self.clocks.clone());
        Joined { links, clocks, bounds: self.bounds, joins: self.joins, counts, lost }
    }

    /// What has been found so far; what is open is not counted.
    pub fn counts(&self) -> Counts {
        let count = |states: &[State], wanted| states.iter().filter(|state| **state == wanted).count() as u64;
        let of = |wanted: How| self.joins.iter().filter(|join| join.how == wanted).count() as u64;
        Counts {
            exits: self.exits.len() as u64,
            entries: self.entries.len() as u64,
            joined_exits: count(&self.exit_states, State::Joined),
            joined_entries: count(&self.entry_states, State::Joined),
            parts: of(How::Part),
            across_nat: of(How::AcrossNat),
            ambiguous: count(&self.exit_states, State::Ambiguous),
            ambiguous_entries: count(&self.entry_states, State::Ambiguous),
            across_epoch: count(&self.exit_states, State::AcrossEpoch),
            negative: self.negative.len() as u64,
            ..Counts::default()
        }
    }
}

/// What became of an exit without an entry, which left at this time on the reference.
pub(crate) fn fate(
    exit: &Passage,
    left: Option<i128>,
    (links, clocks, bounds): (&Links, &Clocks, Bounds),
    recorded: &[Recorded],
) -> Fate {
    let Some(left) = left else { return Fate::Outside };
    let mut fate = Fate::Outside;
    for partner in links.partners(exit.device) {
        // A wire leads to others too.
        let is_bond = partner.is_tap || exit.device.is_tap;
        let peer = &recorded[usize::from(partner.machine)];
        let times = [peer.from_ns, peer.to_ns].map(|ns| clocks.map(partner.machine, ns));
        let [Some(from), Some(to)] = times else { continue };
        let was_recorded = from + bounds.slack <= left && left + bounds.longest <= to;
        if is_bond && was_recorded && !peer.has_filter {
            fate = if peer.has_losses { Fate::PerhapsLost } else { Fate::Lost };
        }
    }
    fate
}

/// What became of an exit without an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Lost,
    PerhapsLost,
    Outside,
}

/// How long crossings take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bounds {
    /// Crossings take from `-slack` to `longest`, in ns.
    pub slack: i128,
    pub longest: i128,
    /// Joins whose crossing takes less are undone.
    least: i128,
}

impl Bounds {
    /// Of these passages; `pairs` are known to be the same packets.
    pub(crate) fn of(
        links: &Links,
        clocks: &Clocks,
        exits: &[Passage],
        entries: &[Passage],
        pairs: &[Pair],
    ) -> Bounds {
        let widest = |passages: &[Passage]| {
            let widths = passages.iter().step_by(passages.len() / 1000 + 1);
            let widths = widths.map(|passage| clocks.uncertainty(passage.device.machine, passage.ns));
            widths.map(|(late, early)| late.max(early)).max().unwrap_or(0)
        };
        let slack = i128::from(widest(exits).saturating_add(widest(entries)));
        Bounds { slack, longest: longest(links, clocks, exits, entries, pairs), least: 0 }
    }

    /// Clocks that are known roughly let crossings take less than no time.
    pub(crate) fn with_slack(self) -> Bounds {
        Bounds { least: -self.slack, ..self }
    }
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
fn longest(links: &Links, clocks: &Clocks, exits: &[Passage], entries: &[Passage], pairs: &[Pair]) -> i128 {
    let mapped = |passage: &Passage| clocks.map(passage.device.machine, passage.ns);
    let crossing = |&(exit, entry): &Pair| {
        let (exit, entry) = (&exits[exit as usize], &entries[entry as usize]);
        let is_linked = links.has(exit.device, entry.device);
        Some(mapped(entry)? - mapped(exit)?).filter(|_| is_linked)
    };
    let mut known: Vec<i128> = pairs.iter().filter_map(crossing).collect();
    known.sort_unstable();
    let nearly_all = known.len().saturating_sub(1) * 999 / 1000;
    WINDOW_NS.max(known.get(nearly_all).copied().unwrap_or(0).saturating_mul(4))
}

/// Whether the packet may be a part of another one: TCP with data.
pub(crate) fn has_range(passage: &Passage) -> bool {
    passage.flow.protocol == IPPROTO_TCP && !passage.is_empty
}
