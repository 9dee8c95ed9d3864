//! Where packets leave and enter a machine.

use overlay_trace_common::{
    edges::TAP_KINDS,
    flags::RecordFlags,
    path::{Span, completion},
    record::{Flow, Outcome, RecordHeader},
};
use overlay_trace_format::{HopName, RecordView, StageRow};

/// An edge device of a machine: its number, and the number of the device's hop.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Device {
    pub machine: u16,
    pub hop: u16,
    /// Behind the device is a guest or a program of this machine (a tap), not a wire.
    pub is_tap: bool,
}

/// A packet that leaves or enters a machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Passage {
    pub device: Device,
    /// When, in ns of the machine's own clock. At an exit nobody outside can have the packet earlier, at an entry it was
    /// outside until then.
    pub ns: u64,
    /// When its path on the machine began, in ns of the machine's own clock.
    pub began_ns: u64,
    /// At an exit: when its driver freed the packet, on the machine's own clock; `None` where that was not seen.
    pub freed_ns: Option<u64>,
    pub flow: Flow,
    /// See [`RecordHeader::witness`]; 0: not known.
    pub witness: u64,
    /// Length of the innermost IP packet.
    pub bytes: u32,
    /// TCP without data: it never is a part of another packet.
    pub is_empty: bool,
    /// The number of its record, in the order of the recording.
    pub record: u32,
}

impl Passage {
    fn new(device: Device, ns: u64, header: &RecordHeader, record: u32) -> Passage {
        Passage {
            device,
            ns,
            began_ns: header.start_ns,
            freed_ns: None,
            flow: header.flow,
            witness: header.witness,
            bytes: header.bytes,
            is_empty: header.flags.has(RecordFlags::NO_DATA),
            record,
        }
    }
}

/// Whether the device is an edge of its machine, and whether it is a tap.
pub fn edge_of(name: &HopName) -> Option<bool> {
    match name.kind.as_str() {
        "" => (!name.device.is_empty() && name.device != "lo").then_some(false),
        kind => TAP_KINDS.contains(&kind).then_some(true),
    }
}

/// A path's exit: the device, and how many of its last spans are the driver's, which hands the packet over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit {
    pub hop: u16,
    pub driver_spans: usize,
}

/// Where a path leaves the machine, if it does. `edges` says of a hop whether it is an edge, and a tap.
pub fn exit_of(
    header: &RecordHeader,
    spans: &[Span],
    stages: &[StageRow],
    edges: impl Fn(u16) -> Option<bool>,
) -> Option<Exit> {
    if header.outcome != Outcome::Freed as u8 {
        return None;
    }
    let last = spans.last()?;
    let is_tap = edges(last.hop)?;
    let row = |span: &Span| stages.get(usize::from(span.stage));
    let is_interruption = |span: &Span| row(span).is_some_and(|row| row.behaviour.interrupts);
    let hands_over = |span: &Span| {
        row(span).is_some_and(|row| row.behaviour.transmits && row.link_kind.as_deref() == Some(""))
    };
    let end = spans.iter().rposition(|span| !is_interruption(span))?;
    // Of a packet that was cut before the driver, where the probe set does not see it, nobody knows when its parts left.
    let is_at_driver = row(&spans[end]).is_some_and(|row| row.behaviour.transmits && row.link_kind.is_some());
    if !is_at_driver {
        return None;
    }
    if is_tap {
        return Some(Exit { hop: last.hop, driver_spans: 0 });
    }
    let of_driver = |span: &&Span| hands_over(span) || is_interruption(span);
    let mut count = spans.iter().rev().take_while(of_driver).count();
    // What comes before the first span of the driver is not the driver's.
    while count > 0 && !hands_over(&spans[spans.len() - count]) {
        count -= 1;
    }
    (count > 0).then_some(Exit { hop: last.hop, driver_spans: count })
}

/// How many of the first spans of a path that has come in by a device lie before anybody saw the packet: how long it may
/// have waited in the device at most. It may have come later.
pub fn arrival_spans(header: &RecordHeader, spans: &[Span], stages: &[StageRow]) -> usize {
    let behaviour = |span: &Span| stages.get(usize::from(span.stage)).map(|row| &row.behaviour);
    let waits = |span: &Span| behaviour(span).is_some_and(|of_stage| of_stage.before_start);
    let interrupts = |span: &Span| behaviour(span).is_some_and(|of_stage| of_stage.interrupts);
    if !header.flags.has(RecordFlags::FROM_DEVICE) {
        return 0;
    }
    let count = spans.iter().take_while(|span| waits(span) || interrupts(span)).count();
    spans[..count].iter().rposition(waits).map_or(0, |last| last + 1)
}

/// The exit and the entry of a record.
pub fn passages(
    machine: u16,
    number: u32,
    record: &RecordView<'_>,
    spans: &[Span],
    stages: &[StageRow],
    edges: impl Fn(u16) -> Option<bool>,
) -> (Option<Passage>, Option<Passage>) {
    let header = &record.header;
    if header.flow.version == 0 {
        return (None, None);
    }
    let exit = exit_of(header, spans, stages, &edges).map(|exit| {
        let driver = &spans[spans.len() - exit.driver_spans..];
        let handing = driver.iter().fold(0, |sum: u64, span| sum.saturating_add(span.ns));
        let is_tap = edges(exit.hop).unwrap_or_default();
        let device = Device { machine, hop: exit.hop, is_tap };
        let freed_ns = completion(record.path).map(|ns| header.end_ns.saturating_add(ns));
        Passage { freed_ns, ..Passage::new(device, header.end_ns.saturating_sub(handing), header, number) }
    });
    let entry = spans.iter().find(|span| span.hop != 0).and_then(|first| {
        let is_tap = edges(first.hop).filter(|_| header.flags.has(RecordFlags::FROM_DEVICE))?;
        let device = Device { machine, hop: first.hop, is_tap };
        let waits = &spans[..arrival_spans(header, spans, stages)];
        let seen_ns = waits.iter().fold(header.start_ns, |sum, span| sum.saturating_add(span.ns));
        Some(Passage::new(device, seen_ns, header, number))
    });
    (exit, entry)
}
