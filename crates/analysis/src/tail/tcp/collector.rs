//! Collects the TCP segments of a recording.
//!
//! A segment is a retransmission if its sequence number is not beyond what its sender has sent. Records come in the order
//! of the paths' ends, so a bounded number of segments is first sorted by start.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap},
};

use overlay_trace_common::{
    behaviour::Delivery,
    flags::RecordFlags,
    headers::IPPROTO_TCP,
    record::{Flow, Outcome, RecordHeader},
};
use rustc_hash::FxHashMap;

use super::{
    super::{drop_site::DropNumbers, drop_table::is_duplicate},
    connection::{Attempt, Connection, Sender, Sent, Timed, is_before},
    view::{RetransmissionGroup, RetransmitTrigger, TcpView, TimeoutWaits},
};
use crate::breakdown::{Rows, TracedPacket};
use overlay_trace_format::{Behaviour, Header, Names};

/// At most this many segments wait to be sorted.
const SORTED_MAX: usize = 1 << 15;
/// At most this many connections are followed; when there are more, all are forgotten.
const CONNECTIONS_MAX: usize = 1 << 14;
/// At most this many waits for timeouts are kept.
const WAITS_MAX: usize = 1 << 16;
/// Bytes before a segment's data by IP version: the IP header and a TCP header with time stamps, which are usual.
const HEADERS: [(u8, u32); 2] = [(4, 52), (6, 72)];

/// An arrival at the receiving TCP.
#[derive(Clone, Copy)]
struct Arrival {
    sender: Sender,
    sequence: u32,
    start_ns: u64,
}

/// The highest sequence number that has arrived from a side.
struct Highest {
    sequence: u32,
    /// When its segment was sent, in ns.
    start_ns: u64,
}

/// Retransmissions of one group.
#[derive(Default)]
struct Waits {
    segments: u64,
    sum_ns: u128,
    longest_ns: u64,
}

/// Collects the segments of a recording.
pub(in super::super) struct TcpCollector {
    /// Stages in which a segment has arrived at TCP.
    in_tcp: BTreeSet<u8>,
    /// Those of them in which it waits for its reader.
    in_socket: BTreeSet<u8>,
    /// Stages that interrupt others.
    interrupts: BTreeSet<u8>,
    /// The drop reasons of duplicates.
    duplicate: BTreeSet<u32>,
    /// The drop reason of segments that no socket takes.
    unclaimed: Option<u32>,
    starts: BinaryHeap<Reverse<Timed<Sent>>>,
    arrivals: BinaryHeap<Reverse<Timed<Arrival>>>,
    /// By client.
    connections: FxHashMap<Flow, Connection>,
    highest: FxHashMap<Sender, Highest>,
    groups: BTreeMap<(RetransmitTrigger, Option<DropNumbers>), Waits>,
    timeout_waits: Vec<u64>,
    view: TcpView,
    zero_window_row: Option<u32>,
}

impl TcpCollector {
    pub fn new(header: &Header, names: &Names) -> TcpCollector {
        let of = |is_so: fn(&Behaviour) -> bool| {
            let stages = (0..).zip(&header.stages).filter(|(_, row)| is_so(&row.behaviour));
            stages.map(|(number, _)| number).collect()
        };
        let reasons = names.drop_reasons.iter().filter(|(_, name)| is_duplicate(name));
        let unclaimed = names.drop_reasons.iter().find(|(_, name)| *name == "NO_SOCKET");
        TcpCollector {
            in_tcp: of(|stage| stage.delivers.is_certain()),
            in_socket: of(|stage| stage.delivers == Delivery::Socket),
            interrupts: of(|stage| stage.interrupts),
            duplicate: reasons.map(|(number, _)| *number).collect(),
            unclaimed: unclaimed.map(|(number, _)| *number),
            starts: BinaryHeap::new(),
            arrivals: BinaryHeap::new(),
            connections: FxHashMap::default(),
            highest: FxHashMap::default(),
            groups: BTreeMap::new(),
            timeout_waits: Vec::new(),
            view: TcpView::default(),
            zero_window_row: None,
        }
    }

    /// Takes a packet with the row of each span of its path.
    pub fn add(&mut self, packet: &TracedPacket<'_>, rows: &[u32]) {
        let header = packet.header;
        if header.flow.protocol != IPPROTO_TCP || packet.is_unwanted() {
            return;
        }
        if header.flags.has(RecordFlags::ZERO_WINDOW) && !packet.from_device {
            self.view.zero_windows += 1;
            self.zero_window_row = self.zero_window_row.or(rows.first().copied());
        }
        let sender = sender(&header.flow);
        let (sequence, bytes) = (header.flow.sequence, bytes(header));
        let is_dropped = header.outcome == Outcome::Dropped as u8;
        let is_duplicate = is_dropped && self.duplicate.contains(&header.drop_reason);
        let in_tcp_ns = time_at_end(packet, &self.in_tcp);
        let has_arrived = !is_dropped && in_tcp_ns > 0;
        let done_ns = header.end_ns.saturating_sub(time_at_end(packet, &self.in_socket));
        let drop = DropNumbers::of(packet, rows, &self.interrupts);
        let sent = Sent {
            sender,
            sequence,
            bytes,
            is_syn: header.flags.has(RecordFlags::SYN),
            times: header.times(),
            is_part: header.flags.has(RecordFlags::CHILD) && !packet.is_clone,
            is_copy: packet.is_clone,
            from_device: packet.from_device,
            done_ns: if has_arrived { done_ns } else { 0 },
            // Without a socket its acknowledgement is lost as well.
            is_lost_before_tcp: in_tcp_ns == 0 || is_dropped && Some(header.drop_reason) == self.unclaimed,
            is_duplicate,
            drop: (is_dropped && !is_duplicate).then_some(drop),
        };
        let (id, start_ns) = (header.id, packet.start_ns);
        if has_arrived && bytes > 0 {
            let at_ns = header.end_ns.saturating_sub(in_tcp_ns);
            self.arrivals.push(Reverse(Timed { at_ns, id, what: Arrival { sender, sequence, start_ns } }));
        }
        self.starts.push(Reverse(Timed { at_ns: start_ns, id, what: sent }));
        if self.starts.len() > SORTED_MAX {
            self.send_oldest();
        }
        if self.arrivals.len() > SORTED_MAX {
            self.oldest_arrives();
        }
    }

    fn oldest_arrives(&mut self) {
        let Some(Reverse(Timed { what: Arrival { sender, sequence, start_ns }, .. })) = self.arrivals.pop()
        else {
            return;
        };
        if self.highest.len() >= 2 * CONNECTIONS_MAX && !self.highest.contains_key(&sender) {
            self.highest.clear();
        }
        let highest = self.highest.entry(sender).or_insert(Highest { sequence, start_ns });
        if is_before(sequence, highest.sequence) {
            // Sent later than the one that arrived before it, it is a retransmission, not reordered.
            self.view.out_of_order += u64::from(start_ns < highest.start_ns);
        } else {
            *highest = Highest { sequence, start_ns };
        }
    }

    fn send_oldest(&mut self) {
        let Some(Reverse(sent)) = self.starts.pop() else { return };
        let client = sent.what.sender.client;
        if self.connections.len() >= CONNECTIONS_MAX && !self.connections.contains_key(&client) {
            self.connections.clear();
        }
        match self.connections.entry(client).or_default().send(&sent) {
            Attempt::First => self.view.segments += sent.what.times,
            Attempt::Other => {}
            Attempt::Retransmission { trigger, waited_ns, drop } => {
                let waits = self.groups.entry((trigger, drop)).or_default();
                waits.segments += 1;
                waits.sum_ns += u128::from(waited_ns);
                waits.longest_ns = waited_ns.max(waits.longest_ns);
                if trigger == RetransmitTrigger::Timeout && self.timeout_waits.len() < WAITS_MAX {
                    self.timeout_waits.push(waited_ns);
                }
            }
        }
    }

    /// The result, after the last packet.
    pub fn finish(mut self, rows: &Rows, names: &Names) -> TcpView {
        while !self.starts.is_empty() {
            self.send_oldest();
        }
        while !self.arrivals.is_empty() {
            self.oldest_arrives();
        }
        let site = |drop: DropNumbers| drop.site(rows, names);
        let group = |((trigger, drop), waits): ((_, Option<DropNumbers>), Waits)| RetransmissionGroup {
            trigger,
            segments: waits.segments,
            waited_ns: waits.sum_ns,
            longest_ns: waits.longest_ns,
            dropped_at: drop.map(site),
        };
        let mut retransmissions: Vec<_> = self.groups.into_iter().map(group).collect();
        retransmissions.sort_by_key(|group| Reverse(group.waited_ns));
        TcpView {
            retransmissions,
            timeout_waits: TimeoutWaits::of(&self.timeout_waits),
            zero_window_at: self.zero_window_row.map(|row| rows.key(row)),
            ..self.view
        }
    }
}

/// The sequence numbers that a segment covers; 0 for a pure acknowledgement. The length of its options is not recorded,
/// so it can cover a few more.
fn bytes(header: &RecordHeader) -> u32 {
    let headers = HEADERS.iter().find(|(version, _)| *version == header.flow.version);
    match headers {
        _ if header.flags.has(RecordFlags::SYN) => 1,
        _ if header.flags.has(RecordFlags::NO_DATA) => 0,
        // Old recordings do not flag segments without data.
        Some(&(_, headers)) => header.bytes.saturating_sub(headers),
        None => 0,
    }
}

/// The side that sent a segment. The client is the side with the higher port. The server's address is not part of the
/// key, because it can be translated on the path.
fn sender(flow: &Flow) -> Sender {
    let Flow { source, destination, source_port, destination_port, protocol, version, .. } = *flow;
    let is_client = source_port >= destination_port;
    let (source, source_port) =
        if is_client { (source, source_port) } else { (destination, destination_port) };
    Sender { client: Flow { source, source_port, protocol, version, ..Flow::default() }, is_client }
}

/// The time that a packet spent in such stages at the end of its path, in ns.
fn time_at_end(packet: &TracedPacket<'_>, stages: &BTreeSet<u8>) -> u64 {
    let end = packet.path.iter().rev().take_while(|span| stages.contains(&span.stage));
    end.fold(0, |sum: u64, span| sum.saturating_add(span.ns))
}
