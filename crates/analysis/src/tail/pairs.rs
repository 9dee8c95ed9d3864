//! Pairs requests with their answers.
//!
//! The client is the side with the higher port. An answer belongs to the client's oldest open request; over TCP, where a
//! request can have several segments, to the last one. Requests and answers are matched by the client's address and port
//! only, because the server's address can be translated on the path. Pure acknowledgements and packets without ports
//! (neighbour discovery) are neither request nor answer.
//!
//! A retransmitted TCP segment is recognized by its sequence number: its time counts from the first attempt, and the wait
//! for the retransmission is shown at the place where the first attempt was dropped.

use std::{cmp::Ordering, collections::VecDeque};

use overlay_trace_common::{
    flags::RecordFlags,
    record::{Flow, Outcome, RecordHeader},
};
use rustc_hash::FxHashMap;

use super::sample::{RowSpan, Sample};
use crate::breakdown::{Between, Rows};

/// At most this many clients have open requests; when there are more, all open requests are given up.
const CLIENTS_MAX: usize = 1 << 14;
/// At most this many open requests per client; when there are more, the oldest is given up.
const OPEN_MAX: usize = 64;
/// At most this many dropped segments wait for their retransmission; when there are more, all are forgotten.
const DROPPED_MAX: usize = 1 << 14;
const TCP: u8 = 6;

/// Protocol, IP version, port, address.
type Client = (u8, u8, u16, [u8; 16]);

/// A request without an answer so far.
struct Request {
    header: RecordHeader,
    start_ns: u64,
    path: Box<[RowSpan]>,
    retransmission_ns: u64,
}

/// A segment that was dropped.
#[derive(Clone, Copy)]
struct Dropped {
    start_ns: u64,
    /// The row of the last span of its path.
    last: u32,
}

/// Finds the answers to requests.
#[derive(Default)]
pub(super) struct Pairs {
    open: FxHashMap<Client, VecDeque<Request>>,
    /// By flow and sequence number: the first attempts of segments that have not arrived yet.
    dropped: FxHashMap<Flow, Dropped>,
    unpaired: u64,
    path: Vec<RowSpan>,
}

impl Pairs {
    /// Takes a packet; calls `each` with the pair if it is the answer to a request.
    pub fn add(&mut self, sample: &Sample<'_>, rows: &mut Rows, each: &mut impl FnMut(&Sample<'_>)) {
        let outcome = Outcome::from_u8(sample.header.outcome);
        if !is_request_or_answer(sample.header)
            || matches!(outcome, None | Some(Outcome::Merged | Outcome::Split))
        {
            return;
        }
        let is_dropped = outcome == Some(Outcome::Dropped);
        if sample.header.flow.protocol != TCP {
            return self.add_attempt(sample, is_dropped, rows, each);
        }
        let segment = Flow { ip_id: 0, ..sample.header.flow };
        if is_dropped {
            return self.note_dropped(segment, sample);
        }
        // One with the same start is a copy of the dropped segment, not a retransmission.
        let Some(first) = self.dropped.remove(&segment).filter(|first| first.start_ns < sample.start_ns)
        else {
            return self.add_attempt(sample, false, rows, each);
        };
        let waited = sample.start_ns - first.start_ns;
        let mut path = vec![between(rows.between(Between::Retransmission, first.last), waited)];
        path.extend(sample.path);
        let ns = sample.ns.saturating_add(waited);
        let sample = Sample {
            start_ns: first.start_ns,
            path: &path,
            ns,
            deciding_ns: ns,
            retransmission_ns: waited,
            ..*sample
        };
        self.add_attempt(&sample, false, rows, each);
    }

    fn note_dropped(&mut self, segment: Flow, sample: &Sample<'_>) {
        if self.dropped.len() >= DROPPED_MAX {
            self.dropped.clear();
        }
        let last = sample.path.last().map_or(0, |last| last.row);
        self.dropped.entry(segment).or_insert(Dropped { start_ns: sample.start_ns, last });
    }

    fn add_attempt(
        &mut self,
        sample: &Sample<'_>,
        is_dropped: bool,
        rows: &mut Rows,
        each: &mut impl FnMut(&Sample<'_>),
    ) {
        let flow = &sample.header.flow;
        let source = (flow.protocol, flow.version, flow.source_port, flow.source);
        let destination = (flow.protocol, flow.version, flow.destination_port, flow.destination);
        let is_answer = match flow.destination_port.cmp(&flow.source_port) {
            Ordering::Greater => true,
            Ordering::Less => false,
            Ordering::Equal => self.open.get(&destination).is_some_and(|open| !open.is_empty()),
        };
        if !is_answer {
            return if is_dropped { self.unpaired += 1 } else { self.open(source, sample) };
        }
        let Some(request) = self.open.get_mut(&destination).and_then(VecDeque::pop_front) else { return };
        if !is_dropped && request.header.end_ns <= sample.start_ns {
            self.pair(&request, sample, rows, each);
        } else {
            self.unpaired += 1;
        }
    }

    /// Requests without an answer.
    pub fn unpaired(&self) -> u64 {
        self.unpaired + self.open.values().map(|open| open.len() as u64).sum::<u64>()
    }

    fn open(&mut self, client: Client, sample: &Sample<'_>) {
        if self.open.len() >= CLIENTS_MAX && !self.open.contains_key(&client) {
            self.unpaired = self.unpaired();
            self.open.clear();
        }
        let open = self.open.entry(client).or_default();
        let room = if client.0 == TCP { 1 } else { OPEN_MAX };
        if open.len() >= room {
            open.pop_front();
            self.unpaired += 1;
        }
        let (start_ns, retransmission_ns) = (sample.start_ns, sample.retransmission_ns);
        open.push_back(Request {
            header: *sample.header,
            start_ns,
            path: sample.path.into(),
            retransmission_ns,
        });
    }

    /// Joins the request's path, the time until the answer started, and the answer's path.
    fn pair(
        &mut self,
        request: &Request,
        answer: &Sample<'_>,
        rows: &mut Rows,
        each: &mut impl FnMut(&Sample<'_>),
    ) {
        self.path.clear();
        self.path.extend(&*request.path);
        let ns = answer.start_ns - request.header.end_ns;
        if let Some(last) = request.path.last() {
            let is_here = request.header.outcome == Outcome::Delivered as u8;
            let what = if is_here { Between::Answer } else { Between::Return };
            self.path.push(between(rows.between(what, last.row), ns));
        }
        self.path.extend(answer.path);
        let ns = self.path.iter().fold(0, |sum: u64, span| sum.saturating_add(span.ns));
        let Request { ref header, start_ns, .. } = *request;
        let retransmission_ns = request.retransmission_ns.saturating_add(answer.retransmission_ns);
        each(&Sample { header, start_ns, path: &self.path, ns, deciding_ns: ns, retransmission_ns });
    }
}

/// The time between two packets.
fn between(row: u32, ns: u64) -> RowSpan {
    RowSpan { row, cpu: None, ns }
}

/// Whether a packet can be a request or an answer.
fn is_request_or_answer(header: &RecordHeader) -> bool {
    let Flow { version, protocol, source_port, destination_port, .. } = header.flow;
    version != 0
        && match protocol {
            TCP => !header.flags.has(RecordFlags::NO_DATA),
            _ => source_port != 0 || destination_port != 0,
        }
}
