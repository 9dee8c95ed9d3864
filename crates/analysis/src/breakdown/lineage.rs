//! The lineage of packets: segments, fragments and clones of other packets.
//!
//! Of a packet that was cut, the parts go on. Its time until then was theirs, and each of them has a part
//! of it by its length: what the stages and the paths add up to stays exact, in integers, and each
//! nanosecond is counted once however many parts there are. A *latency* is something else: a part has
//! been in flight since the packet that it was cut from started, and so has a clone since its original did.
//!
//! A record is written when a path ends, so parents and children come in any order, and some never do. Records that wait
//! for others are kept in raw form and within bounds; those that are given up are counted.

use std::{collections::VecDeque, sync::Arc};

use overlay_trace_common::{
    flags::RecordFlags,
    path::Span,
    record::{Outcome, RecordHeader},
};
use rustc_hash::FxHashMap;

use super::{
    direction::LastRun,
    shares::{Part, Shares},
};
use overlay_trace_format::RecordView;

/// So many packets are remembered as parents, or awaited.
const LINEAGES_MAX: usize = 1 << 16;
/// So many words of paths wait for their lineage.
const WORDS_MAX: usize = 4 << 20;

/// A record that waits for its lineage.
pub(super) struct Held {
    pub header: RecordHeader,
    pub path: Box<[u32]>,
}

impl Held {
    pub fn new(record: &RecordView<'_>) -> Held {
        Held { header: record.header, path: record.path.into() }
    }

    /// The length by which it has its share.
    fn length(&self) -> u64 {
        self.header.bytes.max(1).into()
    }

    fn words(&self) -> usize {
        size_of::<Held>() / 8 + self.path.len() / 2
    }
}

/// A path from the start of the first packet of a lineage.
#[derive(Debug)]
pub(super) struct FullPath {
    pub from_device: bool,
    pub path: Box<[Span]>,
}

impl FullPath {
    /// The memory that it takes, in words of 8 bytes.
    pub fn words(&self) -> usize {
        size_of_val(&*self.path) / 8
    }
}

/// What children inherit from the packet that they were made of.
#[derive(Clone, Debug, Default)]
pub(super) struct Parent {
    /// When its path started, or that of its own parent.
    pub start_ns: u64,
    pub last_run: Option<LastRun>,
    /// Its time, if it was cut: it is its parts' now.
    pub cut: Option<Box<Cut>>,
    /// Its full path, where the caller needs it.
    pub full_path: Option<Arc<FullPath>>,
}

impl Parent {
    fn words(&self) -> usize {
        let cut = self.cut.as_ref().map_or(0, |cut| size_of::<Cut>() / 8 + size_of_val(&*cut.time) / 8);
        cut + self.full_path.as_ref().map_or(0, |full_path| full_path.words())
    }

    /// What a packet inherits that was made of this one, with this part of its time.
    fn inheritance(&self, time: Vec<Part>) -> Inheritance {
        let (start_ns, last_run) = (Some(self.start_ns), self.last_run);
        Inheritance { start_ns, last_run, time, full_path: self.full_path.clone() }
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
    /// When the path started, if not at the record's own start.
    pub start_ns: Option<u64>,
    pub last_run: Option<LastRun>,
    /// Its part of the time of the packet that was cut.
    pub time: Vec<Part>,
    /// The full path of its parent.
    pub full_path: Option<Arc<FullPath>>,
}

/// A packet whose lineage is complete, or was given up.
pub(super) enum Ready {
    Packet(Held, Inheritance),
    /// A packet was cut, but none of its parts was seen: its time is its own.
    Alone(Parent),
}

#[derive(Default)]
struct Lineage {
    parent: Option<Parent>,
    children: Vec<Held>,
}

/// The packets with a lineage.
#[derive(Default)]
pub(super) struct Lineages {
    by_parent: FxHashMap<u64, Lineage>,
    /// In the order of their first record; some are not there any more.
    oldest_first: VecDeque<u64>,
    words: usize,
    /// Parts and clones whose parent's record was not seen in time: their path starts at the cut.
    pub orphans: u64,
    /// Packets that were cut of which not every part was seen in time: those that were have its time.
    pub incomplete: u64,
}

/// Whether other packets were made of the packet, or it was made of another one.
pub(super) fn has_lineage(header: &RecordHeader) -> bool {
    header.flags.has(RecordFlags::CHILD | RecordFlags::PARENT) || is_cut(header)
}

pub(super) fn is_cut(header: &RecordHeader) -> bool {
    header.outcome == Outcome::Split as u8
}

/// How many parts of a packet are to be expected.
pub(super) fn parts_of(header: &RecordHeader) -> Option<u16> {
    (header.segments > 0).then_some(header.segments)
}

impl Lineages {
    /// Takes a record that was made of another packet; it is ready now, or later.
    pub fn add_child(&mut self, child: Held, ready: &mut VecDeque<Ready>) {
        let id = child.header.parent;
        let lineage = self.by_parent.entry(id).or_insert_with(|| {
            self.oldest_first.push_back(id);
            Lineage::default()
        });
        match &lineage.parent {
            Some(parent @ Parent { cut: None, .. }) => {
                let inheritance = parent.inheritance(Vec::new());
                ready.push_back(Ready::Packet(child, inheritance));
            }
            parent => {
                let parts = parent.as_ref().and_then(|parent| parent.cut.as_ref()).and_then(|cut| cut.parts);
                self.words += child.words();
                lineage.children.push(child);
                if parts.is_some_and(|parts| lineage.children.len() >= usize::from(parts)) {
                    self.complete(id, ready);
                }
            }
        }
        self.keep_bounds(ready);
    }

    /// Takes what the children of a packet need to know.
    pub fn add_parent(&mut self, id: u64, parent: Parent, ready: &mut VecDeque<Ready>) {
        if self.by_parent.get(&id).is_some_and(|lineage| lineage.parent.is_some()) {
            // Numbers are unique; in a damaged recording they may not be.
            self.close(id, ready);
        }
        let lineage = self.by_parent.entry(id).or_insert_with(|| {
            self.oldest_first.push_back(id);
            Lineage::default()
        });
        self.words += parent.words();
        lineage.parent = Some(parent);
        for child in std::mem::take(&mut lineage.children) {
            self.words -= child.words();
            self.add_child(child, ready);
        }
        self.keep_bounds(ready);
    }

    /// Gives up the oldest lineages where there are too many.
    fn keep_bounds(&mut self, ready: &mut VecDeque<Ready>) {
        while self.oldest_first.len() > LINEAGES_MAX || self.words > WORDS_MAX {
            let Some(oldest) = self.oldest_first.pop_front() else { return };
            self.close(oldest, ready);
        }
    }

    /// Gives up the oldest lineage; false when there is none left.
    pub fn close_oldest(&mut self, ready: &mut VecDeque<Ready>) -> bool {
        let Some(oldest) = self.oldest_first.pop_front() else { return false };
        self.close(oldest, ready);
        true
    }

    /// Closes the lineage of a packet whose parts are all there. It stays known: clones of it may still come.
    fn complete(&mut self, id: u64, ready: &mut VecDeque<Ready>) {
        let parent = self.by_parent.get(&id).and_then(|lineage| lineage.parent.as_ref());
        let parent =
            parent.map(|parent| Parent { cut: None, full_path: parent.full_path.clone(), ..*parent });
        self.close(id, ready);
        self.words += parent.as_ref().map_or(0, Parent::words);
        self.by_parent.insert(id, Lineage { parent, children: Vec::new() });
    }

    /// Shares what a packet has left to its children, as many as were seen.
    fn close(&mut self, id: u64, ready: &mut VecDeque<Ready>) {
        let Some(Lineage { parent, children }) = self.by_parent.remove(&id) else { return };
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

    /// Takes in the oldest lineage of the records that came after, until there is none left; `row` gives the
    /// numbers of its rows here.
    pub fn take_over(
        &mut self,
        later: &mut Lineages,
        row: impl Fn(u32) -> u32,
        ready: &mut VecDeque<Ready>,
    ) -> bool {
        let Some(id) = later.oldest_first.pop_front() else { return false };
        let Some(Lineage { parent, children }) = later.by_parent.remove(&id) else { return true };
        if let Some(mut parent) = parent {
            let time = parent.cut.iter_mut().flat_map(|cut| &mut cut.time);
            time.for_each(|part| part.row = row(part.row));
            self.add_parent(id, parent, ready);
        }
        children.into_iter().for_each(|child| self.add_child(child, ready));
        true
    }
}
