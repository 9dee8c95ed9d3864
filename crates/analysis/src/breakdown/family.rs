//! Packets that were made of other packets: segments, fragments and copies.
//!
//! Of a packet that was cut, the parts go on. Its time until then was theirs, and each of them has a part
//! of it by its length: what the stages and the whole ways add up to stays exact, in integers, and each
//! nanosecond is counted once however many parts there are. A *latency* is something else: a part was on
//! its way since the packet that it was cut from began, and so was a copy since its original did.
//!
//! A record only comes at a way's end, so parents and children come in any order, and some never do. What
//! waits for others is kept in raw form and within bounds; what is given up is counted.

use std::{collections::VecDeque, sync::Arc};

use overlay_trace_common::{
    flags::RecordFlags,
    record::{Outcome, RecordHeader},
};
use rustc_hash::FxHashMap;

use super::{direction::LastRun, whole::Whole};
use overlay_trace_format::RecordView;

/// So many packets are remembered as parents, or awaited.
const FAMILIES_MAX: usize = 1 << 16;
/// So many words of ways wait for their relatives.
const WORDS_MAX: usize = 4 << 20;

/// A record that waits for its relatives.
pub(super) struct Held {
    pub header: RecordHeader,
    pub way: Box<[u32]>,
}

impl Held {
    pub fn new(record: &RecordView<'_>) -> Held {
        Held { header: record.header, way: record.way.into() }
    }

    /// The length by which it has its share.
    fn length(&self) -> u64 {
        self.header.bytes.max(1).into()
    }

    fn words(&self) -> usize {
        size_of::<Held>() / 8 + self.way.len() / 2
    }
}

/// Time in a row.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Part {
    pub row: u32,
    pub ns: u128,
    /// The probes' cost in 1/1024 ns.
    pub cost: u128,
    /// The part of the time that passed with the work of other packets.
    pub behind_others: u128,
}

impl Part {
    /// Adds time that is in the same row.
    pub fn add(&mut self, other: &Part) {
        self.ns += other.ns;
        self.cost += other.cost;
        self.behind_others += other.behind_others;
    }
}

/// What children have from the packet that they were made of.
#[derive(Clone, Debug, Default)]
pub(super) struct Parent {
    /// When its way began, or that of the packet that it was made of itself.
    pub start_ns: u64,
    pub last_run: Option<LastRun>,
    /// Its time, if it was cut: it is its parts' now.
    pub cut: Option<Box<Cut>>,
    /// All of its way, where somebody wants to know it.
    pub whole: Option<Arc<Whole>>,
}

impl Parent {
    fn words(&self) -> usize {
        let cut = self.cut.as_ref().map_or(0, |cut| size_of::<Cut>() / 8 + size_of_val(&*cut.time) / 8);
        cut + self.whole.as_ref().map_or(0, |whole| whole.words())
    }

    /// What a packet inherits that was made of this one, with this part of its time.
    fn inheritance(&self, time: Vec<Part>) -> Inheritance {
        let (start_ns, last_run) = (Some(self.start_ns), self.last_run);
        Inheritance { start_ns, last_run, time, whole: self.whole.clone() }
    }
}

/// A packet that was cut.
#[derive(Clone, Debug)]
pub(super) struct Cut {
    /// Into how many parts; `None` where that is not known.
    pub parts: Option<u16>,
    /// Its time by row.
    pub time: Vec<Part>,
    pub header: RecordHeader,
}

/// What a record inherits.
#[derive(Clone, Debug, Default)]
pub(super) struct Inheritance {
    /// When the way began, if not at the record's own beginning.
    pub start_ns: Option<u64>,
    pub last_run: Option<LastRun>,
    /// Its part of the time of the packet that was cut.
    pub time: Vec<Part>,
    /// All of the way of the packet that it was made of.
    pub whole: Option<Arc<Whole>>,
}

/// What can be worked out now.
pub(super) enum Ready {
    Packet(Held, Inheritance),
    /// A packet was cut, but none of its parts was seen: its time is its own.
    Alone(Parent),
}

#[derive(Default)]
struct Family {
    parent: Option<Parent>,
    children: Vec<Held>,
}

/// The packets that have relatives.
#[derive(Default)]
pub(super) struct Families {
    by_parent: FxHashMap<u64, Family>,
    /// In the order of their first record; some are not there any more.
    oldest_first: VecDeque<u64>,
    words: usize,
    /// Parts and copies whose parent's record was not seen in time: their way begins at the cut.
    pub orphans: u64,
    /// Packets that were cut of which not every part was seen in time: those that were have its time.
    pub incomplete: u64,
}

/// Whether other packets were made of the packet, or it was made of another one.
pub(super) fn has_relatives(header: &RecordHeader) -> bool {
    header.flags.has(RecordFlags::CHILD | RecordFlags::PARENT) || is_cut(header)
}

pub(super) fn is_cut(header: &RecordHeader) -> bool {
    header.outcome == Outcome::Split as u8
}

/// How many parts of a packet are to be expected.
pub(super) fn parts_of(header: &RecordHeader) -> Option<u16> {
    (header.segments > 0).then_some(header.segments)
}

impl Families {
    /// Takes a record that was made of another packet; it is ready now, or later.
    pub fn add_child(&mut self, child: Held, ready: &mut VecDeque<Ready>) {
        let id = child.header.parent;
        let family = self.by_parent.entry(id).or_insert_with(|| {
            self.oldest_first.push_back(id);
            Family::default()
        });
        match &family.parent {
            Some(parent @ Parent { cut: None, .. }) => {
                let inheritance = parent.inheritance(Vec::new());
                ready.push_back(Ready::Packet(child, inheritance));
            }
            parent => {
                let parts = parent.as_ref().and_then(|parent| parent.cut.as_ref()).and_then(|cut| cut.parts);
                self.words += child.words();
                family.children.push(child);
                if parts.is_some_and(|parts| family.children.len() >= usize::from(parts)) {
                    self.complete(id, ready);
                }
            }
        }
        self.keep_bounds(ready);
    }

    /// Takes what the children of a packet need to know.
    pub fn add_parent(&mut self, id: u64, parent: Parent, ready: &mut VecDeque<Ready>) {
        if self.by_parent.get(&id).is_some_and(|family| family.parent.is_some()) {
            // Numbers are unique; in a damaged recording they may not be.
            self.close(id, ready);
        }
        let family = self.by_parent.entry(id).or_insert_with(|| {
            self.oldest_first.push_back(id);
            Family::default()
        });
        self.words += parent.words();
        family.parent = Some(parent);
        for child in std::mem::take(&mut family.children) {
            self.words -= child.words();
            self.add_child(child, ready);
        }
        self.keep_bounds(ready);
    }

    /// Gives up the oldest families where there are too many.
    fn keep_bounds(&mut self, ready: &mut VecDeque<Ready>) {
        while self.oldest_first.len() > FAMILIES_MAX || self.words > WORDS_MAX {
            let Some(oldest) = self.oldest_first.pop_front() else { return };
            self.close(oldest, ready);
        }
    }

    /// Gives up the oldest family; false when there is none left.
    pub fn close_oldest(&mut self, ready: &mut VecDeque<Ready>) -> bool {
        let Some(oldest) = self.oldest_first.pop_front() else { return false };
        self.close(oldest, ready);
        true
    }

    /// Closes the family of a packet whose parts are all there; it is still known, for what may be made of
    /// it besides.
    fn complete(&mut self, id: u64, ready: &mut VecDeque<Ready>) {
        let parent = self.by_parent.get(&id).and_then(|family| family.parent.as_ref());
        let parent = parent.map(|parent| Parent { cut: None, whole: parent.whole.clone(), ..*parent });
        self.close(id, ready);
        self.words += parent.as_ref().map_or(0, Parent::words);
        self.by_parent.insert(id, Family { parent, children: Vec::new() });
    }

    /// Shares what a packet has left to its children, as many as were seen.
    fn close(&mut self, id: u64, ready: &mut VecDeque<Ready>) {
        let Some(Family { parent, children }) = self.by_parent.remove(&id) else { return };
        self.words -= children.iter().map(Held::words).sum::<usize>();
        self.words -= parent.as_ref().map_or(0, Parent::words);
        let Some(mut parent) = parent else {
            self.orphans += children.len() as u64;
            let orphan = |child| Ready::Packet(child, Inheritance::default());
            return ready.extend(children.into_iter().map(orphan));
        };
        let Some(cut) = parent.cut.take() else { return };
        let expected = cut.parts.map_or(1, usize::from);
        self.incomplete += u64::from(children.len() < expected);
        if children.is_empty() {
            parent.cut = Some(cut);
            return ready.push_back(Ready::Alone(parent));
        }
        let lengths: u64 = children.iter().map(Held::length).sum();
        let mut shares = Shares::new(cut.time, lengths);
        for child in children {
            let inheritance = parent.inheritance(shares.next(child.length()));
            ready.push_back(Ready::Packet(child, inheritance));
        }
    }

    /// Takes in the oldest family of the records that came after, until there is none left; `row` gives the
    /// numbers of its rows here.
    pub fn take_over(
        &mut self,
        later: &mut Families,
        row: impl Fn(u32) -> u32,
        ready: &mut VecDeque<Ready>,
    ) -> bool {
        let Some(id) = later.oldest_first.pop_front() else { return false };
        let Some(Family { parent, children }) = later.by_parent.remove(&id) else { return true };
        if let Some(mut parent) = parent {
            let time = parent.cut.iter_mut().flat_map(|cut| &mut cut.time);
            time.for_each(|part| part.row = row(part.row));
            self.add_parent(id, parent, ready);
        }
        children.into_iter().for_each(|child| self.add_child(child, ready));
        true
    }
}

/// Shares a packet's time among its parts by their lengths. All shares add up to the whole.
struct Shares {
    time: Vec<Part>,
    /// What the parts so far have of it.
    given: Vec<Part>,
    /// The length of the parts so far, and of all.
    bytes: u64,
    all: u64,
}

impl Shares {
    fn new(time: Vec<Part>, all: u64) -> Shares {
        let given = time.iter().map(|part| Part { row: part.row, ..Part::default() }).collect();
        Shares { time, given, bytes: 0, all }
    }

    /// The share of the next part: what all parts up to it should have, less what those before it have.
    fn next(&mut self, length: u64) -> Vec<Part> {
        self.bytes += length;
        let (all, bytes) = (u128::from(self.all), u128::from(self.bytes));
        let next = |whole: u128, given: &mut u128| {
            if whole == 0 {
                return 0;
            }
            let share = whole / all * bytes + whole % all * bytes / all - *given;
            *given += share;
            share
        };
        let parts = self.time.iter().zip(&mut self.given);
        let share = parts.map(|(whole, given)| Part {
            row: whole.row,
            ns: next(whole.ns, &mut given.ns),
            cost: next(whole.cost, &mut given.cost),
            behind_others: next(whole.behind_others, &mut given.behind_others),
        });
        share.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_add_up_and_go_by_length() {
        for whole in [0, 1, 2, 1000, 99_999, u128::from(u64::MAX)] {
            let time = [Part { row: 0, ns: whole, cost: whole * 3, behind_others: 0 }];
            let mut shares = Shares::new(time.into(), 4422);
            let (mut ns, mut cost) = (0, 0);
            for length in [1448, 1448, 1448, 77, 1] {
                let part = shares.next(length)[0];
                let exact = whole as f64 * length as f64 / 4422.0;
                assert!((part.ns as f64 - exact).abs() <= 1.0 + exact * 1e-9, "{whole} {length}");
                (ns, cost) = (ns + part.ns, cost + part.cost);
            }
            assert_eq!((ns, cost), (whole, whole * 3));
        }
    }
}
