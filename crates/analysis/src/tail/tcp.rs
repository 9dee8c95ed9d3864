//! What TCP makes of a recording: what was sent again, after what wait, and where the first attempt was lost; what
//! arrived out of order; who closed its window.
//!
//! A segment is one that was sent before if its sequence number is not beyond what its sender has sent. Records
//! come in the order of the ways' ends, so a bounded number of them is put in order first.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap},
};

use overlay_trace_common::behaviour::Delivery;
use overlay_trace_common::{
    flags::RecordFlags,
    record::{Flow, Outcome, RecordHeader},
};
use rustc_hash::FxHashMap;

use super::{
    connection::{Attempt, Connection, From, Sent, Timed},
    findings::is_same_place,
};
use crate::breakdown::{Drop, Key, Rows, TracedPacket};
use overlay_trace_format::{Behaviour, Header, Names};

const TCP: u8 = 6;
/// The kernel's reason for dropping a segment that has arrived before.
const OLD_DATA: &str = "TCP_OLD_DATA";
/// So many segments are put in order at a time.
const IN_ORDER_MAX: usize = 1 << 15;
/// So many connections are followed; when there are more, all are forgotten.
const CONNECTIONS_MAX: usize = 1 << 14;
/// So many waits are remembered for their plateau.
const WAITS_MAX: usize = 1 << 16;
/// Bytes before a segment's data that every one has: IP's header, TCP's with the time stamps that are usual.
const HEADERS: [(u8, u32); 2] = [(4, 52), (6, 72)];

/// Why a segment was sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Again {
    /// The retransmission timer had run out.
    Timeout,
    /// It asks for a connection, or answers that, and nothing had come.
    Handshake,
    /// A timer shorter than the kernel's least timeout: a probe of the last segment, or a timeout made shorter.
    Probe,
    /// Acknowledgements said that it was missing.
    Fast,
}

impl Again {
    /// Its name in every output.
    pub fn name(self) -> &'static str {
        match self {
            Again::Timeout => "timeout",
            Again::Handshake => "handshake",
            Again::Probe => "probe",
            Again::Fast => "fast",
        }
    }

    /// Whether the sender sat and waited.
    pub fn is_timeout(self) -> bool {
        matches!(self, Again::Timeout | Again::Handshake)
    }
}

/// Where and why a packet was dropped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LostAt {
    /// The kernel's name of the reason; empty for "none given".
    pub reason: String,
    /// `function+offset`.
    pub location: String,
    pub key: Key,
}

impl LostAt {
    pub(super) fn of(drop: &Drop) -> LostAt {
        LostAt { reason: drop.reason.clone(), location: drop.location.clone(), key: drop.key.clone() }
    }

    /// Whether that is the same place and reason; whither a packet was on its way there may be seen differently.
    pub(super) fn is(&self, drop: &Drop) -> bool {
        (&self.reason, &self.location) == (&drop.reason, &drop.location)
            && is_same_place(&self.key, &drop.key)
    }
}

/// Segments that were sent again for one reason, having been lost at one place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss {
    pub again: Again,
    pub segments: u64,
    /// From the attempt before, together, in ns.
    pub waited_ns: u128,
    pub longest_ns: u64,
    /// Nothing where the recording does not show that the attempt before was dropped.
    pub lost_at: Option<LostAt>,
}

/// What TCP makes of a recording.
#[derive(Clone, Debug, Default)]
pub struct TcpView {
    /// Segments with data, and those that open connections, without those that were sent again.
    pub segments: u64,
    /// What was sent again, that for which was waited longest first.
    pub losses: Vec<Loss>,
    /// The shortest wait for a timeout, in ns, and how many segments waited for so many times that (1, 2, 4…, as
    /// the timer backs off).
    pub plateau: Option<(u64, BTreeMap<u64, u64>)>,
    pub out_of_order: u64,
    /// Segments by which a side said that it can take nothing more.
    pub zero_windows: u64,
    /// Where the first of those began.
    pub closed_by: Option<Key>,
}

impl TcpView {
    /// Segments that were sent again for such a reason.
    pub fn count(&self, which: impl Fn(Again) -> bool) -> u64 {
        self.losses.iter().filter(|loss| which(loss.again)).map(|loss| loss.segments).sum()
    }
}

/// A drop, by the numbers of its reason and its location, and the row it was in.
pub(super) type DropNumbers = (u32, u64, u32);

/// Collects the segments of a recording.
pub(super) struct TcpCollector {
    /// Stages in which a segment has arrived at TCP, and those in which it waits for its reader.
    in_tcp: BTreeSet<u8>,
    in_socket: BTreeSet<u8>,
    /// Stages that interrupt others.
    interrupts: BTreeSet<u8>,
    /// Why TCP drops what it already has.
    had_already: BTreeSet<u32>,
    starts: BinaryHeap<Reverse<Timed<Sent>>>,
    arrivals: BinaryHeap<Reverse<Timed<Arrival>>>,
    /// By client.
    connections: FxHashMap<Flow, Connection>,
    /// By side, of what has arrived that was furthest: its sequence number, and when it was sent.
    highest: FxHashMap<From, (u32, u64)>,
    losses: BTreeMap<(Again, Option<DropNumbers>), (u64, u128, u64)>,
    waits: Vec<u64>,
    view: TcpView,
    closed_in: Option<u32>,
}

/// A segment's side, sequence number and beginning.
type Arrival = (From, u32, u64);

impl TcpCollector {
    pub fn new(header: &Header, names: &Names) -> TcpCollector {
        let of = |is_so: fn(&Behaviour) -> bool| {
            let stages = (0..).zip(&header.stages).filter(|(_, row)| is_so(&row.behaviour));
            stages.map(|(number, _)| number).collect()
        };
        TcpCollector {
            in_tcp: of(|stage| stage.delivers.is_certain()),
            in_socket: of(|stage| stage.delivers == Delivery::Socket),
            interrupts: of(|stage| stage.interrupts),
            had_already: names
                .drop_reasons
                .iter()
                .filter(|(_, name)| *name == OLD_DATA)
                .map(|(at, _)| *at)
                .collect(),
            starts: BinaryHeap::new(),
            arrivals: BinaryHeap::new(),
            connections: FxHashMap::default(),
            highest: FxHashMap::default(),
            losses: BTreeMap::new(),
            waits: Vec::new(),
            view: TcpView::default(),
            closed_in: None,
        }
    }

    /// Takes a packet with the row of each segment of its way.
    pub fn add(&mut self, packet: &TracedPacket<'_>, rows: &[u32]) {
        let header = packet.header;
        if header.flow.protocol != TCP || packet.is_unwanted() {
            return;
        }
        if header.flags.has(RecordFlags::ZERO_WINDOW) && !packet.from_device {
            self.view.zero_windows += 1;
            self.closed_in = self.closed_in.or(rows.first().copied());
        }
        let from = side(&header.flow);
        let (sequence, bytes) = (header.flow.sequence, bytes(header));
        let is_dropped = header.outcome == Outcome::Dropped as u8;
        let had_already = is_dropped && self.had_already.contains(&header.drop_reason);
        let in_tcp_ns = time_behind(packet, &self.in_tcp);
        let has_arrived = !is_dropped && in_tcp_ns > 0;
        let done_ns = header.end_ns.saturating_sub(time_behind(packet, &self.in_socket));
        let mut ways = packet.path.iter().zip(rows).rev();
        let last = ways.find(|(segment, _)| !self.interrupts.contains(&segment.stage));
        let last = last.map_or(0, |(_, row)| *row);
        let sent = Sent {
            from,
            sequence,
            bytes,
            is_syn: header.flags.has(RecordFlags::SYN),
            times: header.times(),
            is_part: header.flags.has(RecordFlags::CHILD) && !packet.is_clone,
            is_copy: packet.is_clone,
            from_device: packet.from_device,
            done_ns: if has_arrived { done_ns } else { 0 },
            lost_before_tcp: in_tcp_ns == 0,
            had_already,
            lost: (is_dropped && !had_already).then_some((header.drop_reason, header.drop_location, last)),
        };
        let (id, at_ns) = (header.id, packet.start_ns);
        if has_arrived && bytes > 0 {
            let arrived_ns = header.end_ns.saturating_sub(in_tcp_ns);
            self.arrivals.push(Reverse(Timed { at_ns: arrived_ns, id, what: (from, sequence, at_ns) }));
        }
        self.starts.push(Reverse(Timed { at_ns, id, what: sent }));
        if self.starts.len() > IN_ORDER_MAX {
            self.send_oldest();
        }
        if self.arrivals.len() > IN_ORDER_MAX {
            self.oldest_arrives();
        }
    }

    fn oldest_arrives(&mut self) {
        let Some(Reverse(Timed { what: (from, sequence, start_ns), .. })) = self.arrivals.pop() else {
            return;
        };
        if self.highest.len() >= 2 * CONNECTIONS_MAX && !self.highest.contains_key(&from) {
            self.highest.clear();
        }
        let (highest, sent_ns) = self.highest.entry(from).or_insert((sequence, start_ns));
        if is_before(sequence, *highest) {
            // If it was sent after what overtook it, it was sent again.
            self.view.out_of_order += u64::from(start_ns < *sent_ns);
        } else {
            (*highest, *sent_ns) = (sequence, start_ns);
        }
    }

    fn send_oldest(&mut self) {
        let Some(Reverse(sent)) = self.starts.pop() else { return };
        let client = sent.what.from.client;
        if self.connections.len() >= CONNECTIONS_MAX && !self.connections.contains_key(&client) {
            self.connections.clear();
        }
        match self.connections.entry(client).or_default().send(&sent) {
            Attempt::First => self.view.segments += sent.what.times,
            Attempt::Other => {}
            Attempt::Again { again, waited_ns, lost } => {
                let (segments, waited, longest) = self.losses.entry((again, lost)).or_default();
                *segments += 1;
                *waited += u128::from(waited_ns);
                *longest = waited_ns.max(*longest);
                if again == Again::Timeout && self.waits.len() < WAITS_MAX {
                    self.waits.push(waited_ns);
                }
            }
        }
    }

    /// What all segments come to.
    pub fn finish(mut self, rows: &Rows, names: &Names) -> TcpView {
        while !self.starts.is_empty() {
            self.send_oldest();
        }
        while !self.arrivals.is_empty() {
            self.oldest_arrives();
        }
        let lost_at = |(reason, location, row): DropNumbers| LostAt {
            reason: names.reason(reason),
            location: names.symbol(location),
            key: rows.key(row),
        };
        let loss = |((again, lost), (segments, waited_ns, longest_ns))| Loss {
            again,
            segments,
            waited_ns,
            longest_ns,
            lost_at: Option::map(lost, lost_at),
        };
        let mut losses: Vec<Loss> = self.losses.into_iter().map(loss).collect();
        losses.sort_by_key(|loss| Reverse(loss.waited_ns));
        TcpView {
            losses,
            plateau: plateau(&self.waits),
            closed_by: self.closed_in.map(|row| rows.key(row)),
            ..self.view
        }
    }
}

/// The shortest wait, and how many waits are how many times as long.
fn plateau(waits: &[u64]) -> Option<(u64, BTreeMap<u64, u64>)> {
    let shortest = *waits.iter().min()?;
    let mut times = BTreeMap::new();
    waits
        .iter()
        .for_each(|wait| *times.entry(wait.saturating_add(shortest / 2) / shortest.max(1)).or_default() += 1);
    Some((shortest, times))
}

/// Whether a sequence number is before another one.
pub(super) fn is_before(one: u32, other: u32) -> bool {
    (one.wrapping_sub(other) as i32) < 0
}

/// How far a segment reaches beyond its sequence number; 0 for one that only acknowledges. The length of its
/// options is not known: it may reach a few bytes further.
fn bytes(header: &RecordHeader) -> u32 {
    let headers = HEADERS.iter().find(|(version, _)| *version == header.flow.version);
    match headers {
        _ if header.flags.has(RecordFlags::SYN) => 1,
        _ if header.flags.has(RecordFlags::NO_DATA) => 0,
        // Recordings of before do not say which segments have no data.
        Some(&(_, headers)) => header.bytes.saturating_sub(headers),
        None => 0,
    }
}

/// The side of a connection that a segment is from. The client is the side with the higher port; the server's
/// address may be translated on the way, so it is none of it.
fn side(flow: &Flow) -> From {
    let Flow { source, destination, source_port, destination_port, protocol, version, .. } = *flow;
    let is_client = source_port >= destination_port;
    let (source, source_port) =
        if is_client { (source, source_port) } else { (destination, destination_port) };
    From { client: Flow { source, source_port, protocol, version, ..Flow::default() }, is_client }
}

/// The time that a packet spent at its end in such stages, in ns.
fn time_behind(packet: &TracedPacket<'_>, stages: &BTreeSet<u8>) -> u64 {
    let behind = packet.path.iter().rev().take_while(|segment| stages.contains(&segment.stage));
    behind.fold(0, |sum: u64, segment| sum.saturating_add(segment.ns))
}
