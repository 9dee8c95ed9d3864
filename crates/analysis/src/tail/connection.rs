//! What a TCP connection has sent, and what of it again.

use std::{cmp::Ordering, collections::VecDeque};

use overlay_trace_common::record::Flow;

use super::tcp::{Again, DropNumbers, is_before};

/// So many segments of a side are remembered.
const SENT_MAX: usize = 64;
/// The kernel's least retransmission timeout, in ns, a little less for the clock's granularity: what was waited for
/// so long, a timer was waited for. A tail loss probe of a single segment takes as long.
pub(super) const TIMEOUT_NS: u64 = 180_000_000;
/// A segment may reach so many bytes further than is known.
const OPTIONS: u32 = 12;

/// Something at a time, in the order of times.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timed<T> {
    pub at_ns: u64,
    /// Number of the packet.
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

/// A side of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct From {
    /// The client's address and port.
    pub client: Flow,
    pub is_client: bool,
}

/// A segment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sent {
    pub from: From,
    pub sequence: u32,
    /// How far it reaches beyond its sequence number.
    pub bytes: u32,
    pub is_syn: bool,
    /// How many segments it stands for, where not every one has a record.
    pub times: u64,
    /// A part of one that was cut: its sequence number is that of the whole.
    pub is_part: bool,
    /// Made beside another one that went on: one of the two is the one that is wanted.
    pub is_copy: bool,
    pub from_device: bool,
    /// When TCP was done with it, if it has arrived, in ns.
    pub done_ns: u64,
    /// TCP at the other end had it already, and said so.
    pub had_already: bool,
    pub lost: Option<DropNumbers>,
    /// Whether it was lost before it came to TCP, not refused by it.
    pub lost_before_tcp: bool,
}

/// What a segment is among those of its side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Attempt {
    First,
    Again {
        again: Again,
        /// Since the attempt before, in ns.
        waited_ns: u64,
        /// Where that was dropped.
        lost: Option<DropNumbers>,
    },
    /// Without data, or known already: another part of what was cut, or what a device on its way shows again.
    Other,
}

/// A segment that was sent.
struct Known {
    sequence: u32,
    bytes: u32,
    at_ns: u64,
    lost: Option<DropNumbers>,
    /// As a copy: then it is not lost, whatever became of the original.
    has_arrived: bool,
}

#[derive(Default)]
struct Side {
    /// Where what was never sent begins.
    next: Option<u32>,
    known: VecDeque<Known>,
    /// Whether it is seen where it comes from a device, not where it is sent.
    from_device: bool,
    /// What was dropped last of what this side sent, acknowledgements too, and when that was sent.
    dropped: Option<(u64, DropNumbers)>,
    /// Until when TCP at the other end has been busy with what came from here, in ns.
    busy_until_ns: u64,
}

/// Both sides of a connection.
#[derive(Default)]
pub(super) struct Connection([Side; 2]);

impl Connection {
    /// Takes the next segment in the order of their beginnings.
    pub fn send(&mut self, sent: &Timed<Sent>) -> Attempt {
        let Sent { from, bytes, done_ns, lost, lost_before_tcp, .. } = sent.what;
        let other = &self.0[usize::from(!from.is_client)];
        let (other_end, dropped) = (other.busy_until_ns, other.dropped);
        let side = &mut self.0[usize::from(from.is_client)];
        side.busy_until_ns = side.busy_until_ns.max(done_ns);
        side.dropped = lost.filter(|_| lost_before_tcp).map(|lost| (sent.at_ns, lost)).or(side.dropped);
        if bytes == 0 { Attempt::Other } else { side.send(sent, other_end, dropped) }
    }
}

impl Side {
    /// `other_end_ns` is until when this end was busy with what the other one sent, `dropped` what of that was
    /// dropped last.
    fn send(
        &mut self,
        sent: &Timed<Sent>,
        other_end_ns: u64,
        dropped: Option<(u64, DropNumbers)>,
    ) -> Attempt {
        let Sent { sequence, bytes, is_syn, is_part, is_copy, from_device, done_ns, lost, .. } = sent.what;
        if let Some(again) = self.sent_in_vain(sent, dropped) {
            self.note(sent);
            return again;
        }
        let Some(next) = self.next.filter(|_| !(is_syn && lost.is_none() && self.is_over(sequence))) else {
            self.from_device = from_device;
            self.known.clear();
            self.note(sent);
            self.next = Some(sequence.wrapping_add(bytes));
            return Attempt::First;
        };
        let before = self.known.iter_mut().rev().find(|known| known.covers(sequence));
        if let Some(known) = before {
            if known.at_ns == sent.at_ns || from_device != self.from_device {
                // A part, or the same one further on its way.
                if known.at_ns == sent.at_ns && is_part {
                    known.bytes = known.bytes.wrapping_add(bytes);
                    let end = known.sequence.wrapping_add(known.bytes);
                    self.next = Some(if is_before(next, end) { end } else { next });
                }
                known.has_arrived |= is_copy && done_ns > 0;
                known.lost = known.lost.or(lost).filter(|_| !known.has_arrived);
                return Attempt::Other;
            }
            if is_before(sequence, next) {
                let waited_ns = sent.at_ns.saturating_sub(known.at_ns);
                // If it has arrived, its acknowledgement was lost.
                let acknowledgement = dropped.filter(|(at_ns, _)| *at_ns >= known.at_ns);
                let lost = known.lost.or(acknowledgement.map(|(_, lost)| lost));
                let again = match waited_ns {
                    _ if is_syn => Again::Handshake,
                    TIMEOUT_NS.. => Again::Timeout,
                    _ if sent.at_ns <= other_end_ns => Again::Fast,
                    _ => Again::Probe,
                };
                self.note(sent);
                return Attempt::Again { again, waited_ns, lost };
            }
        }
        if from_device != self.from_device || is_before(sequence, next) {
            return Attempt::Other;
        }
        self.note(sent);
        self.next = Some(sequence.wrapping_add(bytes));
        Attempt::First
    }

    /// What TCP has had already after an acknowledgement was lost was sent before, also where the recording does not
    /// have the first attempt because only slow packets are kept.
    fn sent_in_vain(&self, sent: &Timed<Sent>, dropped: Option<(u64, DropNumbers)>) -> Option<Attempt> {
        let Sent { sequence, had_already, .. } = sent.what;
        let (at_ns, lost_at) = dropped.filter(|(at_ns, _)| *at_ns < sent.at_ns)?;
        if !had_already || self.known.iter().any(|known| known.covers(sequence)) {
            return None;
        }
        let waited_ns = sent.at_ns - at_ns;
        let again = if waited_ns >= TIMEOUT_NS { Again::Timeout } else { Again::Probe };
        Some(Attempt::Again { again, waited_ns, lost: Some(lost_at) })
    }

    /// Whether a new connection with this number has the place of an old one.
    fn is_over(&self, sequence: u32) -> bool {
        !self.known.iter().any(|known| known.covers(sequence))
    }

    fn note(&mut self, sent: &Timed<Sent>) {
        let Sent { sequence, bytes, lost, .. } = sent.what;
        if self.known.len() >= SENT_MAX {
            self.known.pop_front();
        }
        self.known.push_back(Known { sequence, bytes, at_ns: sent.at_ns, lost, has_arrived: false });
    }
}

impl Known {
    fn covers(&self, sequence: u32) -> bool {
        sequence.wrapping_sub(self.sequence) < self.bytes.saturating_add(OPTIONS)
    }
}
