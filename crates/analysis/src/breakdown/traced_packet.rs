//! Packets with their full path: the path of a segment, fragment or clone begins with that of its parent, up to the moment
//! when it was made of it.
//!
//! In a report the parts of a packet share its time, so that no nanosecond is counted twice. Tail analysis asks why a
//! packet was late, and each part was delayed by all of that time.

use std::{collections::VecDeque, sync::Arc};

use overlay_trace_common::{
    flags::RecordFlags,
    path::Span,
    record::{Outcome, RecordHeader},
};

use super::{
    lineage::{Cut, FullPath, Held, Lineages, Parent, Ready, has_lineage, is_cut, parts_of},
    stages::other_stage,
};
use overlay_trace_format::{Header, RecordView};

/// A packet with its full path.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TracedPacket<'a> {
    pub header: &'a RecordHeader,
    /// The start of the path, in ns of the records' clock.
    pub start_ns: u64,
    pub path: &'a [Span],
    /// Whether the packet came from outside the machine.
    pub from_device: bool,
    /// Whether it is a clone: the packet that it was made of went on.
    pub is_clone: bool,
}

impl TracedPacket<'_> {
    /// The packet's latency in ns: the sum of its spans.
    pub fn ns(&self) -> u64 {
        self.path.iter().fold(0, |sum, span| sum.saturating_add(span.ns))
    }

    /// Whether it is a clone that its receiver dropped: nothing is lost with it.
    pub fn is_unwanted(&self) -> bool {
        self.is_clone && self.header.outcome == Outcome::Dropped as u8
    }
}

/// Joins records to packets with their full path. As many wait for their lineage as in a report.
pub(crate) struct PathAssembler {
    lineages: Lineages,
    /// The number of the stage that owns time between spans.
    other: u8,
    /// By stage: whether clones begin in it.
    is_clone: Box<[bool]>,
    path: Vec<Span>,
}

impl PathAssembler {
    /// For the records of a recording with this header.
    pub fn new(header: &Header) -> PathAssembler {
        let is_clone = (0..=u8::MAX)
            .map(|stage| header.stages.get(usize::from(stage)).is_some_and(|row| row.behaviour.clones));
        PathAssembler {
            lineages: Lineages::default(),
            other: other_stage(header),
            is_clone: is_clone.collect(),
            path: Vec::new(),
        }
    }

    /// Adds a record; calls `each` with the packets whose path is full now.
    pub fn add(&mut self, record: &RecordView<'_>, each: &mut impl FnMut(&TracedPacket<'_>)) {
        let header = &record.header;
        if !has_lineage(header) {
            let mut path = std::mem::take(&mut self.path);
            path.clear();
            self.append(record, &mut path);
            let from_device = header.flags.has(RecordFlags::FROM_DEVICE);
            let start_ns = header.start_ns;
            each(&TracedPacket { header, start_ns, path: &path, from_device, is_clone: false });
            self.path = path;
            return;
        }
        let mut ready = VecDeque::new();
        let held = Held::new(record);
        if !header.flags.has(RecordFlags::CHILD) {
            ready.push_back(Ready::Packet(held, Default::default()));
        } else {
            self.lineages.add_child(held, &mut ready);
        }
        self.add_ready(ready, each);
    }

    /// Calls `each` with the packets whose lineage never became complete.
    pub fn finish(mut self, each: &mut impl FnMut(&TracedPacket<'_>)) {
        let mut ready = VecDeque::new();
        while self.lineages.close_oldest(&mut ready) {
            self.add_ready(std::mem::take(&mut ready), each);
        }
    }

    fn add_ready(&mut self, mut ready: VecDeque<Ready>, each: &mut impl FnMut(&TracedPacket<'_>)) {
        while let Some(next) = ready.pop_front() {
            match next {
                Ready::Packet(held, inheritance) => {
                    let header = held.header;
                    let start_ns = inheritance.start_ns.unwrap_or(header.start_ns);
                    let from_outside = header.flags.has(RecordFlags::FROM_DEVICE);
                    let from_device = inheritance
                        .full_path
                        .as_ref()
                        .map_or(from_outside, |full_path| full_path.from_device);
                    let before = inheritance.full_path.as_ref().map_or(&[][..], |full_path| &full_path.path);
                    let mut path = self.until(before, header.start_ns.saturating_sub(start_ns));
                    let own = RecordView { header, path: &held.path };
                    let is_child = header.flags.has(RecordFlags::CHILD);
                    let begins_as_clone = |first: Span| self.is_clone[usize::from(first.stage)];
                    let is_clone = is_child && own.spans().next().is_some_and(begins_as_clone);
                    self.append(&own, &mut path);
                    let cut = is_cut(&header);
                    if !cut {
                        each(&TracedPacket { header: &header, start_ns, path: &path, from_device, is_clone });
                    }
                    if cut || header.flags.has(RecordFlags::PARENT) {
                        let cut =
                            cut.then(|| Box::new(Cut { parts: parts_of(&header), time: Vec::new(), header }));
                        let full_path = Some(Arc::new(FullPath { from_device, path: path.into() }));
                        let parent = Parent { start_ns, last_run: None, cut, full_path };
                        self.lineages.add_parent(header.id, parent, &mut ready);
                    }
                }
                Ready::Alone(Parent { start_ns, cut: Some(cut), full_path: Some(full_path), .. }) => {
                    let FullPath { from_device, ref path } = *full_path;
                    let header = &cut.header;
                    each(&TracedPacket { header, start_ns, path, from_device, is_clone: false });
                }
                Ready::Alone(_) => {}
            }
        }
    }

    /// The first `ns` of a path; time beyond its end is the stage `other`'s.
    fn until(&self, path: &[Span], ns: u64) -> Vec<Span> {
        let (mut out, mut left) = (Vec::new(), ns);
        for span in path {
            if left == 0 {
                break;
            }
            let ns = span.ns.min(left);
            out.push(Span { ns, ..*span });
            left -= ns;
        }
        self.add_other(left, &mut out);
        out
    }

    /// Appends a record's own path.
    pub(super) fn append(&self, record: &RecordView<'_>, path: &mut Vec<Span>) {
        let begin = path.len();
        path.extend(record.spans());
        let total = record.header.end_ns.saturating_sub(record.header.start_ns);
        let claimed = path[begin..].iter().fold(0, |sum: u64, span| sum.saturating_add(span.ns));
        self.add_other(total.saturating_sub(claimed), path);
    }

    fn add_other(&self, ns: u64, path: &mut Vec<Span>) {
        if ns > 0 {
            let last = path.last().copied().unwrap_or_default();
            path.push(Span { ns, stage: self.other, ..last });
        }
    }
}
