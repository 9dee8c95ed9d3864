//! Pairs requests with their answers.
//!
//! The client is the side that has opened the connection, or else the side with the higher port. Requests and answers are
//! matched by the client's address and port only, because the server's address can be translated on the path; where the
//! client's is, connection tracking's entries lead to it ([`Clients`]). Over TCP what the client sends until it is answered is one request, and what the server sends until the client sends again is
//! its answer ([`Exchange`]). Of other protocols every packet is one, and an answer belongs to the client's oldest open
//! request. Pure acknowledgements and packets without ports (neighbour discovery) are neither request nor answer.
//!
//! A retransmitted TCP segment is recognized by its sequence number: its time counts from the first attempt, and the wait
//! for the retransmission is shown at the place where the first attempt was dropped.

use std::{cmp::Ordering, collections::VecDeque};

use overlay_trace_common::{
    flags::RecordFlags,
    headers::IPPROTO_TCP,
    record::{Flow, Outcome, RecordHeader},
};
use overlay_trace_format::Translation;
use rustc_hash::{FxHashMap, FxHashSet};

use super::{
    clients::{Clients, End, ends},
    exchange::Exchange,
    sample::{RowSpan, Sample},
    tcp::RTO_MIN_NS,
};
use crate::breakdown::{Between, Rows};

/// At most this many clients are followed; when there are more, all open requests are given up.
const CLIENTS_MAX: usize = 1 << 14;
/// At most this many open requests per client; when there are more, the oldest is given up.
const OPEN_MAX: usize = 64;
/// At most this many dropped segments wait for their retransmission; when there are more, all are forgotten.
const DROPPED_MAX: usize = 1 << 14;

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
    clients: Clients,
    open: FxHashMap<End, VecDeque<Request>>,
    /// Of TCP, by client.
    exchanges: FxHashMap<End, Exchange>,
    /// By flow and sequence number: the first attempts of segments that have not arrived yet.
    dropped: FxHashMap<Flow, Dropped>,
    unpaired: u64,
    /// Clients that have had an answer to a datagram.
    answered: FxHashSet<End>,
    /// Of the requests that are `unpaired`, those that were dropped, whose answer was, or that came from clients which had
    /// other answers: the rest can be traffic that nobody answers.
    unanswered: u64,
    path: Vec<RowSpan>,
}

impl Pairs {
    /// For a recording with these translated clients.
    pub fn new(translations: &[Translation]) -> Pairs {
        Pairs { clients: Clients::new(translations), ..Pairs::default() }
    }

    /// Source and destination of a packet; if it is an answer, the destination is the client itself.
    fn ends(&self, flow: &Flow) -> (End, End) {
        let (source, destination) = ends(flow);
        (source, self.clients.behind(source, destination))
    }

    /// Takes a packet; calls `each` with the pair if it is the answer to a request.
    pub fn add(&mut self, sample: &Sample<'_>, rows: &mut Rows, each: &mut impl FnMut(&Sample<'_>)) {
        let outcome = Outcome::from_u8(sample.header.outcome);
        if matches!(outcome, None | Some(Outcome::Merged | Outcome::Split)) {
            return;
        }
        let is_dropped = outcome == Some(Outcome::Dropped);
        let is_tcp = sample.header.flow.protocol == IPPROTO_TCP;
        if is_tcp && sample.header.flags.has(RecordFlags::SYN) {
            return self.shake_hands(sample, is_dropped, rows, each);
        }
        if is_tcp && sample.header.flags.has(RecordFlags::NO_DATA) {
            if !is_dropped {
                self.acknowledge(sample);
            }
            return;
        }
        if !is_request_or_answer(sample.header) {
            return;
        }
        if !is_tcp {
            return self.add_datagram(sample, is_dropped, rows, each);
        }
        let segment = Flow { ip_id: 0, ..sample.header.flow };
        if is_dropped {
            return self.note_dropped(segment, sample);
        }
        // One with the same start is a copy of the dropped segment, not a retransmission.
        let Some(first) = self.dropped.remove(&segment).filter(|first| first.start_ns < sample.start_ns)
        else {
            return self.add_segment(sample, rows, each);
        };
        let waited = sample.start_ns - first.start_ns;
        // Sent again before the timeout, and nothing that arrived made TCP do so.
        let is_probe = waited < RTO_MIN_NS && !self.is_acknowledged(sample);
        let what = if is_probe { Between::LossProbe } else { Between::Retransmission };
        let mut path = vec![between(rows.between(what, first.last), waited)];
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
        self.add_segment(&sample, rows, each);
    }

    /// A SYN, or the server's answer to one. Who sends the first one is the client.
    fn shake_hands(
        &mut self,
        sample: &Sample<'_>,
        is_dropped: bool,
        rows: &mut Rows,
        each: &mut impl FnMut(&Sample<'_>),
    ) {
        let (source, destination) = self.ends(&sample.header.flow);
        let is_answer = self.exchanges.contains_key(&destination);
        let client = if is_answer { destination } else { source };
        if !is_answer {
            let sequence = sample.header.flow.sequence;
            if self.exchanges.get(&client).is_some_and(|exchange| exchange.is_another(sequence)) {
                self.finish_exchange(client, rows, each);
            }
            self.make_room(client, rows, each);
        }
        self.exchanges.entry(client).or_default().shake_hands(sample, is_answer, is_dropped);
    }

    /// A segment with data has arrived, or left the machine.
    fn add_segment(&mut self, sample: &Sample<'_>, rows: &mut Rows, each: &mut impl FnMut(&Sample<'_>)) {
        let (source, destination) = self.ends(&sample.header.flow);
        let known = (self.exchanges.contains_key(&source), self.exchanges.contains_key(&destination));
        let is_answer = match known {
            (false, true) => true,
            (true, false) => false,
            _ => sample.header.flow.destination_port > sample.header.flow.source_port,
        };
        if is_answer {
            if let Some(exchange) = self.exchanges.get_mut(&destination) {
                exchange.answer(sample);
            }
            return;
        }
        if self.exchanges.get(&source).is_some_and(|exchange| exchange.is_over(sample)) {
            self.finish_exchange(source, rows, each);
        }
        self.make_room(source, rows, each);
        self.exchanges.entry(source).or_default().ask(sample);
    }

    /// Ends a client's request.
    fn finish_exchange(&mut self, client: End, rows: &mut Rows, each: &mut impl FnMut(&Sample<'_>)) {
        if let Some(exchange) = self.exchanges.get_mut(&client) {
            let next = exchange.next();
            let exchange = std::mem::replace(exchange, next);
            self.leave_open(exchange.is_open());
            exchange.finish(rows, &mut self.path, each);
        }
    }

    /// An acknowledgement without data has arrived.
    fn acknowledge(&mut self, sample: &Sample<'_>) {
        let (source, destination) = self.ends(&sample.header.flow);
        if let Some(exchange) = self.exchanges.get_mut(&destination) {
            exchange.acknowledge(sample, true);
        } else if let Some(exchange) = self.exchanges.get_mut(&source) {
            exchange.acknowledge(sample, false);
        }
    }

    /// Whether the sender of a segment was processing an acknowledgement when it sent it.
    fn is_acknowledged(&self, sample: &Sample<'_>) -> bool {
        let (source, destination) = self.ends(&sample.header.flow);
        let of = |client: &End, is_request| {
            let exchange = self.exchanges.get(client)?;
            Some(exchange.is_acknowledged(sample.start_ns, is_request))
        };
        of(&source, true).or_else(|| of(&destination, false)).unwrap_or(false)
    }

    /// Ends all requests if there is no room for another client.
    fn make_room(&mut self, client: End, rows: &mut Rows, each: &mut impl FnMut(&Sample<'_>)) {
        if self.exchanges.len() >= CLIENTS_MAX && !self.exchanges.contains_key(&client) {
            self.finish(rows, each);
        }
    }

    /// Ends all requests: nothing more will be added to them.
    pub fn finish(&mut self, rows: &mut Rows, each: &mut impl FnMut(&Sample<'_>)) {
        let exchanges = std::mem::take(&mut self.exchanges);
        let mut exchanges: Vec<Exchange> = exchanges.into_values().collect();
        exchanges.sort_by_key(Exchange::order);
        for exchange in exchanges {
            self.leave_open(exchange.is_open());
            exchange.finish(rows, &mut self.path, each);
        }
    }

    fn note_dropped(&mut self, segment: Flow, sample: &Sample<'_>) {
        if self.dropped.len() >= DROPPED_MAX {
            self.dropped.clear();
        }
        let (source, destination) = self.ends(&sample.header.flow);
        if !self.exchanges.contains_key(&source)
            && let Some(exchange) = self.exchanges.get_mut(&destination)
        {
            exchange.lose_answer(sample.start_ns);
        }
        let last = sample.path.last().map_or(0, |last| last.row);
        self.dropped.entry(segment).or_insert(Dropped { start_ns: sample.start_ns, last });
    }

    fn add_datagram(
        &mut self,
        sample: &Sample<'_>,
        is_dropped: bool,
        rows: &mut Rows,
        each: &mut impl FnMut(&Sample<'_>),
    ) {
        let flow = &sample.header.flow;
        let (source, destination) = self.ends(flow);
        let is_answer = match flow.destination_port.cmp(&flow.source_port) {
            Ordering::Greater => true,
            Ordering::Less => false,
            Ordering::Equal => self.open.get(&destination).is_some_and(|open| !open.is_empty()),
        };
        if !is_answer {
            return if is_dropped { self.leave_open(true) } else { self.open(source, sample) };
        }
        let Some(request) = self.open.get_mut(&destination).and_then(VecDeque::pop_front) else { return };
        if !is_dropped && request.header.end_ns <= sample.start_ns {
            if self.answered.len() < CLIENTS_MAX {
                self.answered.insert(destination);
            }
            self.pair(&request, sample, rows, each);
        } else {
            self.leave_open(true);
        }
    }

    /// A request will have no answer, if it is still open.
    fn leave_open(&mut self, is_open: bool) {
        self.unpaired += u64::from(is_open);
        self.unanswered += u64::from(is_open);
    }

    /// Those of them that should have had one.
    pub fn unanswered(&self) -> u64 {
        let open = self.open.iter().filter(|(client, _)| self.answered.contains(*client));
        self.unanswered + open.map(|(_, open)| open.len() as u64).sum::<u64>()
    }

    /// Requests without an answer, after the last one has ended.
    pub fn unpaired(&self) -> u64 {
        self.unpaired + self.open.values().map(|open| open.len() as u64).sum::<u64>()
    }

    fn open(&mut self, client: End, sample: &Sample<'_>) {
        if self.open.len() >= CLIENTS_MAX && !self.open.contains_key(&client) {
            self.unpaired = self.unpaired();
            self.unanswered = self.unanswered();
            self.open.clear();
        }
        let open = self.open.entry(client).or_default();
        if open.len() >= OPEN_MAX {
            open.pop_front();
            self.unpaired += 1;
            self.unanswered += u64::from(self.answered.contains(&client));
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
            IPPROTO_TCP => !header.flags.has(RecordFlags::NO_DATA),
            _ => source_port != 0 || destination_port != 0,
        }
}
