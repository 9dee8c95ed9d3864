//! The sequence numbers that a TCP connection has sent, to tell retransmissions from first attempts.

use std::{cmp::Ordering, collections::VecDeque};

use overlay_trace_common::record::Flow;

use super::{super::drop_site::DropNumbers, view::RetransmitTrigger};

/// The most recent segments of a side that are remembered.
const SENT_MAX: usize = 64;
/// The kernel's minimum RTO (TCP_RTO_MIN, 200 ms) in ns, less some clock granularity: a wait from here on was for the
/// retransmission timer. A tail loss probe of a single segment takes as long.
pub(in super::super) const RTO_MIN_NS: u64 = 180_000_000;
/// A segment can be this many bytes longer than computed, because the length of its options is not recorded.
const OPTIONS: u32 = 12;

/// Something at a time, ordered by time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timed<T> {
    pub at_ns: u64,
    /// The packet's number.
    pub id: u64,
    pub what: T,
}

impl<T> PartialEq for Timed<T> {
    fn eq(&self, other: &Timed<T>) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<T> Eq for Timed<T> {}

impl<T> PartialOrd for Timed<T> {
    fn partial_cmp(&self, other: &Timed<T>) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Timed<T> {
    fn cmp(&self, other: &Timed<T>) -> Ordering {
        (self.at_ns, self.id).cmp(&(other.at_ns, other.id))
    }
}

/// One side of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Sender {
    /// The client's address and port.
    pub client: Flow,
    pub is_client: bool,
}

/// A segment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sent {
    pub sender: Sender,
    pub sequence: u32,
    /// Sequence numbers that it covers.
    pub bytes: u32,
    pub is_syn: bool,
    /// The number of segments that its record stands for in a sampled recording.
    pub times: u64,
    /// A piece of a segmented packet: its sequence number is that of the whole packet.
    pub is_part: bool,
    /// A clone. Only one of clone and original is expected to arrive.
    pub is_copy: bool,
    pub from_device: bool,
    /// When TCP had processed it, in ns; 0 if it has not arrived.
    pub done_ns: u64,
    /// The receiving TCP had its data already and dropped it for that reason.
    pub is_duplicate: bool,
    pub drop: Option<DropNumbers>,
    /// Whether it was dropped before TCP, not by TCP.
    pub is_lost_before_tcp: bool,
}

/// What a segment is among those of its side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Attempt {
    First,
    Retransmission {
        trigger: RetransmitTrigger,
        /// Since the attempt before, in ns.
        waited_ns: u64,
        /// Where the attempt before was dropped.
        drop: Option<DropNumbers>,
    },
    /// Without data, or counted already: another piece of a segmented packet, or the same one seen at a later device.
    Other,
}

/// A segment that was sent.
struct SentSegment {
    sequence: u32,
    bytes: u32,
    at_ns: u64,
    drop: Option<DropNumbers>,
    /// A clone has arrived, so a drop of the original is no loss.
    has_arrived: bool,
}

/// The last drop of a side, acknowledgements included.
#[derive(Clone, Copy)]
struct LastDrop {
    /// When the dropped segment was sent, in ns.
    sent_ns: u64,
    drop: DropNumbers,
}

#[derive(Default)]
struct Side {
    /// The next sequence number that has never been sent.
    next: Option<u32>,
    sent: VecDeque<SentSegment>,
    /// The side's segments are seen from a device on, not from their sender on.
    from_device: bool,
    last_drop: Option<LastDrop>,
    /// Until when the TCP at the other end was processing what came from here, in ns.
    busy_until_ns: u64,
}

/// Both sides of a connection.
#[derive(Default)]
pub(super) struct Connection([Side; 2]);

impl Connection {
    /// Takes the next segment, in the order of their starts.
    pub fn send(&mut self, sent: &Timed<Sent>) -> Attempt {
        let Sent { sender, bytes, done_ns, drop, is_lost_before_tcp, .. } = sent.what;
        let peer = &self.0[usize::from(!sender.is_client)];
        let (peer_busy_ns, peer_drop) = (peer.busy_until_ns, peer.last_drop);
        let side = &mut self.0[usize::from(sender.is_client)];
        side.busy_until_ns = side.busy_until_ns.max(done_ns);
        let lost = drop.filter(|_| is_lost_before_tcp).map(|drop| LastDrop { sent_ns: sent.at_ns, drop });
        side.last_drop = lost.or(side.last_drop);
        if bytes == 0 { Attempt::Other } else { side.send(sent, peer_busy_ns, peer_drop) }
    }
}

impl Side {
    /// `peer_busy_ns` is until when this end was processing the peer's segments, `peer_drop` the last drop among them.
    fn send(&mut self, sent: &Timed<Sent>, peer_busy_ns: u64, peer_drop: Option<LastDrop>) -> Attempt {
        let Sent { sequence, bytes, is_syn, is_part, is_copy, from_device, done_ns, drop, .. } = sent.what;
        if let Some(attempt) = self.after_lost_acknowledgement(sent, peer_drop) {
            self.note(sent);
            return attempt;
        }
        let Some(next) = self.next.filter(|_| !(is_syn && drop.is_none() && self.is_new(sequence))) else {
            self.from_device = from_device;
            self.sent.clear();
            self.note(sent);
            self.next = Some(sequence.wrapping_add(bytes));
            return Attempt::First;
        };
        let before = self.sent.iter_mut().rev().find(|segment| segment.covers(sequence));
        if let Some(segment) = before {
            if segment.at_ns == sent.at_ns || from_device != self.from_device {
                // A piece of it, or the same one further along its path.
                if segment.at_ns == sent.at_ns && is_part {
                    segment.bytes = segment.bytes.wrapping_add(bytes);
                    let end = segment.sequence.wrapping_add(segment.bytes);
                    self.next = Some(if is_before(next, end) { end } else { next });
                }
                segment.has_arrived |= is_copy && done_ns > 0;
                segment.drop = segment.drop.or(drop).filter(|_| !segment.has_arrived);
                return Attempt::Other;
            }
            if is_before(sequence, next) {
                let waited_ns = sent.at_ns.saturating_sub(segment.at_ns);
                // If the segment has arrived, its acknowledgement was lost.
                let acknowledgement = peer_drop.filter(|last| last.sent_ns >= segment.at_ns);
                let drop = segment.drop.or(acknowledgement.map(|last| last.drop));
                let trigger = match waited_ns {
                    _ if is_syn => RetransmitTrigger::Handshake,
                    RTO_MIN_NS.. => RetransmitTrigger::Timeout,
                    _ if sent.at_ns <= peer_busy_ns => RetransmitTrigger::Fast,
                    _ => RetransmitTrigger::Probe,
                };
                self.note(sent);
                return Attempt::Retransmission { trigger, waited_ns, drop };
            }
        }
        if from_device != self.from_device || is_before(sequence, next) {
            return Attempt::Other;
        }
        self.note(sent);
        self.next = Some(sequence.wrapping_add(bytes));
        Attempt::First
    }

    /// A duplicate that follows a lost acknowledgement is a retransmission, also where a sampled recording does not have
    /// the first attempt.
    fn after_lost_acknowledgement(&self, sent: &Timed<Sent>, peer_drop: Option<LastDrop>) -> Option<Attempt> {
        let Sent { sequence, is_duplicate, .. } = sent.what;
        let lost = peer_drop.filter(|last| last.sent_ns < sent.at_ns)?;
        if !is_duplicate || self.sent.iter().any(|segment| segment.covers(sequence)) {
            return None;
        }
        let waited_ns = sent.at_ns - lost.sent_ns;
        let trigger =
            if waited_ns >= RTO_MIN_NS { RetransmitTrigger::Timeout } else { RetransmitTrigger::Probe };
        Some(Attempt::Retransmission { trigger, waited_ns, drop: Some(lost.drop) })
    }

    /// Whether a SYN with this number opens a new connection on the ports of an old one.
    fn is_new(&self, sequence: u32) -> bool {
        !self.sent.iter().any(|segment| segment.covers(sequence))
    }

    fn note(&mut self, sent: &Timed<Sent>) {
        let Sent { sequence, bytes, drop, .. } = sent.what;
        if self.sent.len() >= SENT_MAX {
            self.sent.pop_front();
        }
        self.sent.push_back(SentSegment { sequence, bytes, at_ns: sent.at_ns, drop, has_arrived: false });
    }
}

impl SentSegment {
    fn covers(&self, sequence: u32) -> bool {
        sequence.wrapping_sub(self.sequence) < self.bytes.saturating_add(OPTIONS)
    }
}

/// Whether a sequence number is before another one, modulo 2^32.
pub(super) fn is_before(one: u32, other: u32) -> bool {
    (one.wrapping_sub(other) as i32) < 0
}
