//! Packets with their whole way: before the way of a segment, a fragment or a copy stands that of the
//! packet that it was made of, up to the moment when it was made.
//!
//! In a report the parts of a packet share its time, so that no nanosecond is counted twice. Here the
//! question is why a packet was late, and each part has waited for all of that time.

use std::{collections::VecDeque, sync::Arc};

use overlay_trace_common::{
    flags::RecordFlags,
    path::Span,
    record::{Outcome, RecordHeader},
};

use super::family::{Cut, Families, Held, Parent, Ready, has_relatives, is_cut, parts_of};
use overlay_trace_format::{Header, RecordView};

/// A way from its very beginning.
#[derive(Debug)]
pub(super) struct Whole {
    from_device: bool,
    way: Box<[Span]>,
}

impl Whole {
    /// The memory that it takes, in words of 8 bytes.
    pub fn words(&self) -> usize {
        size_of_val(&*self.way) / 8
    }
}

/// A packet with its whole way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WholePacket<'a> {
    pub header: &'a RecordHeader,
    /// The beginning of the way, in ns of the records' clock.
    pub start_ns: u64,
    pub way: &'a [Span],
    /// Whether the packet came from outside the machine.
    pub from_device: bool,
    /// Whether it was made beside the packet that it is a copy of, which went on.
    pub is_copy: bool,
}

impl WholePacket<'_> {
    /// How long the packet was under way, in ns: what its segments add up to.
    pub fn ns(&self) -> u64 {
        self.way.iter().fold(0, |sum, segment| sum.saturating_add(segment.ns))
    }

    /// Whether it is a copy for somebody who did not want it: nothing is lost with it.
    pub fn is_unwanted(&self) -> bool {
        self.is_copy && self.header.outcome == Outcome::Dropped as u8
    }
}

/// Makes whole packets of records; as many wait for their relatives as in a report.
pub(crate) struct Wholes {
    families: Families,
    /// The number of the stage that owns what no segment does.
    other: u8,
    /// The number of the stage that copies begin in, if there is one.
    copy: Option<u8>,
    way: Vec<Span>,
}

impl Wholes {
    /// For the records of a recording with this header.
    pub fn new(header: &Header) -> Wholes {
        let other = header.stages.iter().position(|row| row.layer == "other" && row.outcome.is_none());
        let copy = header.stages.iter().position(|row| row.name == "copy").map(|number| number as u8);
        Wholes { families: Families::default(), other: other.unwrap_or(255) as u8, copy, way: Vec::new() }
    }

    /// Adds a record; calls `each` with the packets that are whole now.
    pub fn add(&mut self, record: &RecordView<'_>, each: &mut impl FnMut(&WholePacket<'_>)) {
        let header = &record.header;
        if !has_relatives(header) {
            let mut way = std::mem::take(&mut self.way);
            way.clear();
            self.append(record, &mut way);
            let from_device = header.flags.has(RecordFlags::FROM_DEVICE);
            let start_ns = header.start_ns;
            each(&WholePacket { header, start_ns, way: &way, from_device, is_copy: false });
            self.way = way;
            return;
        }
        let mut ready = VecDeque::new();
        let held = Held::new(record);
        if !header.flags.has(RecordFlags::CHILD) {
            ready.push_back(Ready::Packet(held, Default::default()));
        } else {
            self.families.add_child(held, &mut ready);
        }
        self.add_ready(ready, each);
    }

    /// Calls `each` with the packets whose relatives never came.
    pub fn finish(mut self, each: &mut impl FnMut(&WholePacket<'_>)) {
        let mut ready = VecDeque::new();
        while self.families.close_oldest(&mut ready) {
            self.add_ready(std::mem::take(&mut ready), each);
        }
    }

    fn add_ready(&mut self, mut ready: VecDeque<Ready>, each: &mut impl FnMut(&WholePacket<'_>)) {
        while let Some(next) = ready.pop_front() {
            match next {
                Ready::Packet(held, inheritance) => {
                    let header = held.header;
                    let start_ns = inheritance.start_ns.unwrap_or(header.start_ns);
                    let from_outside = header.flags.has(RecordFlags::FROM_DEVICE);
                    let from_device =
                        inheritance.whole.as_ref().map_or(from_outside, |whole| whole.from_device);
                    let before = inheritance.whole.as_ref().map_or(&[][..], |whole| &whole.way);
                    let mut way = self.until(before, header.start_ns.saturating_sub(start_ns));
                    let own = RecordView { header, way: &held.way };
                    let is_child = header.flags.has(RecordFlags::CHILD);
                    let is_copy =
                        is_child && own.segments().next().is_some_and(|first| Some(first.stage) == self.copy);
                    self.append(&own, &mut way);
                    let cut = is_cut(&header);
                    if !cut {
                        each(&WholePacket { header: &header, start_ns, way: &way, from_device, is_copy });
                    }
                    if cut || header.flags.has(RecordFlags::PARENT) {
                        let cut =
                            cut.then(|| Box::new(Cut { parts: parts_of(&header), time: Vec::new(), header }));
                        let whole = Some(Arc::new(Whole { from_device, way: way.into() }));
                        let parent = Parent { start_ns, last_run: None, cut, whole };
                        self.families.add_parent(header.id, parent, &mut ready);
                    }
                }
                Ready::Alone(Parent { start_ns, cut: Some(cut), whole: Some(whole), .. }) => {
                    let Whole { from_device, ref way } = *whole;
                    let header = &cut.header;
                    each(&WholePacket { header, start_ns, way, from_device, is_copy: false });
                }
                Ready::Alone(_) => {}
            }
        }
    }

    /// The first `ns` of a way; what it does not reach is nobody's.
    fn until(&self, way: &[Span], ns: u64) -> Vec<Span> {
        let (mut out, mut left) = (Vec::new(), ns);
        for segment in way {
            if left == 0 {
                break;
            }
            let ns = segment.ns.min(left);
            out.push(Span { ns, ..*segment });
            left -= ns;
        }
        self.add_other(left, &mut out);
        out
    }

    /// Appends a record's own way.
    fn append(&self, record: &RecordView<'_>, way: &mut Vec<Span>) {
        let begin = way.len();
        way.extend(record.segments());
        let total = record.header.end_ns.saturating_sub(record.header.start_ns);
        let claimed = way[begin..].iter().fold(0, |sum: u64, segment| sum.saturating_add(segment.ns));
        self.add_other(total.saturating_sub(claimed), way);
    }

    fn add_other(&self, ns: u64, way: &mut Vec<Span>) {
        if ns > 0 {
            let last = way.last().copied().unwrap_or_default();
            way.push(Span { ns, stage: self.other, ..last });
        }
    }
}
