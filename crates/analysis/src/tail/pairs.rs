//! Requests and their answers.
//!
//! What TCP had to send again is known by its sequence number: the request began, or the answer, when it was
//! sent first, and the wait for the second attempt is told where the first one was dropped.
//!
//! The client is the side with the higher port. An answer belongs to the client's oldest request that is still
//! open; over TCP, where a request can have several segments, to the last one. The client alone is what both
//! have in common: the server's address may be translated on the way. Acknowledgements are neither, nor is what
//! has no ports, as neighbour discovery.

use std::{cmp::Ordering, collections::VecDeque};

use overlay_trace_common::{
    flags::RecordFlags,
    record::{Flow, Outcome, RecordHeader},
};
use rustc_hash::FxHashMap;

use super::items::{Item, Stretch};
use crate::breakdown::{Between, Rows};

/// So many clients have requests open, and so many each; when there are more, the oldest of a client are given
/// up, and all when there are too many clients.
const CLIENTS_MAX: usize = 1 << 14;
const OPEN_MAX: usize = 64;
/// So many dropped segments are remembered until they are sent again; when there are more, none.
const DROPPED_MAX: usize = 1 << 14;
const TCP: u8 = 6;

/// Protocol, IP version, port, address.
type Client = (u8, u8, u16, [u8; 16]);

/// A request that waits for its answer.
struct Request {
    header: RecordHeader,
    start_ns: u64,
    way: Box<[Stretch]>,
    again_ns: u64,
}

/// A segment that was dropped.
#[derive(Clone, Copy)]
struct Dropped {
    start_ns: u64,
    /// The row of the last segment of its way.
    last: u32,
}

/// Finds the answers of requests.
#[derive(Default)]
pub(super) struct Pairs {
    open: FxHashMap<Client, VecDeque<Request>>,
    /// By flow and sequence number: the first attempt of what has not arrived yet.
    dropped: FxHashMap<Flow, Dropped>,
    unpaired: u64,
    way: Vec<Stretch>,
}

impl Pairs {
    /// Takes a packet; calls `each` with the pair if it is the answer of a request.
    pub fn add(&mut self, item: &Item<'_>, rows: &mut Rows, each: &mut impl FnMut(&Item<'_>)) {
        let outcome = Outcome::from_u8(item.header.outcome);
        if !is_either(item.header) || matches!(outcome, None | Some(Outcome::Merged | Outcome::Split)) {
            return;
        }
        let is_dropped = outcome == Some(Outcome::Dropped);
        if item.header.flow.protocol != TCP {
            return self.add_attempt(item, is_dropped, rows, each);
        }
        let segment = Flow { ip_id: 0, ..item.header.flow };
        if is_dropped {
            return self.note_dropped(segment, item);
        }
        // What began at the same time is a copy of it.
        let Some(first) = self.dropped.remove(&segment).filter(|first| first.start_ns < item.start_ns) else {
            return self.add_attempt(item, false, rows, each);
        };
        let waited = item.start_ns - first.start_ns;
        let mut way = vec![between(rows.between(Between::Retransmission, first.last), waited)];
        way.extend(item.way);
        let ns = item.ns.saturating_add(waited);
        let item = Item { start_ns: first.start_ns, way: &way, ns, by_ns: ns, again_ns: waited, ..*item };
        self.add_attempt(&item, false, rows, each);
    }

    fn note_dropped(&mut self, segment: Flow, item: &Item<'_>) {
        if self.dropped.len() >= DROPPED_MAX {
            self.dropped.clear();
        }
        let last = item.way.last().map_or(0, |last| last.row);
        self.dropped.entry(segment).or_insert(Dropped { start_ns: item.start_ns, last });
    }

    fn add_attempt(
        &mut self,
        item: &Item<'_>,
        is_dropped: bool,
        rows: &mut Rows,
        each: &mut impl FnMut(&Item<'_>),
    ) {
        let flow = &item.header.flow;
        let source = (flow.protocol, flow.version, flow.source_port, flow.source);
        let destination = (flow.protocol, flow.version, flow.destination_port, flow.destination);
        let is_answer = match flow.destination_port.cmp(&flow.source_port) {
            Ordering::Greater => true,
            Ordering::Less => false,
            Ordering::Equal => self.open.get(&destination).is_some_and(|open| !open.is_empty()),
        };
        if !is_answer {
            return if is_dropped { self.unpaired += 1 } else { self.open(source, item) };
        }
        let Some(request) = self.open.get_mut(&destination).and_then(VecDeque::pop_front) else { return };
        if !is_dropped && request.header.end_ns <= item.start_ns {
            self.pair(&request, item, rows, each);
        } else {
            self.unpaired += 1;
        }
    }

    /// Requests whose answer was not found.
    pub fn unpaired(&self) -> u64 {
        self.unpaired + self.open.values().map(|open| open.len() as u64).sum::<u64>()
    }

    fn open(&mut self, client: Client, item: &Item<'_>) {
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
        let (start_ns, again_ns) = (item.start_ns, item.again_ns);
        open.push_back(Request { header: *item.header, start_ns, way: item.way.into(), again_ns });
    }

    /// The request's way, the time until the answer began, the answer's way.
    fn pair(
        &mut self,
        request: &Request,
        answer: &Item<'_>,
        rows: &mut Rows,
        each: &mut impl FnMut(&Item<'_>),
    ) {
        self.way.clear();
        self.way.extend(&*request.way);
        let ns = answer.start_ns - request.header.end_ns;
        if let Some(last) = request.way.last() {
            let is_here = request.header.outcome == Outcome::Delivered as u8;
            let what = if is_here { Between::Answer } else { Between::Return };
            self.way.push(between(rows.between(what, last.row), ns));
        }
        self.way.extend(answer.way);
        let ns = self.way.iter().fold(0, |sum: u64, stretch| sum.saturating_add(stretch.ns));
        let Request { ref header, start_ns, .. } = *request;
        let again_ns = request.again_ns.saturating_add(answer.again_ns);
        each(&Item { header, start_ns, way: &self.way, ns, by_ns: ns, again_ns });
    }
}

/// A time between two packets.
fn between(row: u32, ns: u64) -> Stretch {
    Stretch { row, cpu: None, ns }
}

/// Whether a packet can be a request or an answer.
fn is_either(header: &RecordHeader) -> bool {
    let Flow { version, protocol, source_port, destination_port, .. } = header.flow;
    version != 0
        && match protocol {
            TCP => !header.flags.has(RecordFlags::NO_DATA),
            _ => source_port != 0 || destination_port != 0,
        }
}
