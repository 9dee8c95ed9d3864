//! What came of a run of traffic.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use super::pace::{Schedule, Sent};
use super::tally::Tally;
use super::{Kind, Protocol, Spec};

/// A run of traffic: what was offered, what arrived, how long it took. Stored in a recording beside the
/// packets' stages.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrafficReport {
    pub kind: Kind,
    pub protocol: Protocol,
    /// The client's address.
    pub from: String,
    /// The server's address.
    pub to: String,
    /// Connections (bulk: streams) that the traffic was spread over.
    pub connections: u32,
    /// Payload bytes of a request, or of a stream's packet; 0 for bulk.
    pub request_bytes: u32,
    /// Payload bytes of an answer; 0 for bulk and streams.
    pub answer_bytes: u32,
    /// When the first request was due, nanoseconds of CLOCK_MONOTONIC.
    pub start_ns: u64,
    /// From `start_ns` to the last answer or the end of sending, whichever was later, ns.
    pub duration_ns: u64,
    /// Requests or packets per second that the schedule asked for; `None` for bulk.
    pub offered_per_s: Option<f64>,
    /// Requests or packets sent; 0 for bulk.
    pub sent: u64,
    /// Due, but given up because the sender could not keep to the schedule: what it measured then is its own
    /// limit, and these are in no percentile.
    #[serde(default)]
    pub unsent: u64,
    /// Answers received; for a stream, packets received by the server; 0 for bulk.
    pub received: u64,
    /// Sent but not received within the timeout.
    pub lost: u64,
    /// Received more than once.
    pub duplicates: u64,
    /// Received after one that was sent later.
    pub out_of_order: u64,
    /// Payload bytes received: of the answers; for bulk and streams, by the server.
    pub bytes: u64,
    /// `bytes` over `duration_ns`, bits per second.
    pub throughput_bits_per_s: f64,
    /// From when a request was due to its answer, ns; `None` for bulk and streams.
    pub latency: Option<Distribution>,
    /// How long after they were due requests or packets were handed to the kernel, ns: the part of the
    /// latency that is the client's own lateness; `None` for bulk.
    pub lateness: Option<Distribution>,
    /// Interarrival jitter (RFC 3550, 6.4.1) at the end of a stream, ns; `None` for all else.
    pub jitter_ns: Option<u64>,
    /// TCP segments sent again, by both sides; `None` when there is no TCP.
    pub retransmits: Option<u64>,
}

impl TrafficReport {
    /// A report with what is known before the traffic; all counts are 0.
    pub(super) fn begin(spec: &Spec, from: String, to: String, start_ns: u64) -> TrafficReport {
        let one_way = matches!(spec.kind, Kind::Bulk | Kind::Stream);
        let bulk = spec.kind == Kind::Bulk;
        TrafficReport {
            kind: spec.kind,
            protocol: spec.protocol,
            from,
            to,
            connections: spec.connections,
            request_bytes: if bulk { 0 } else { spec.size.request },
            answer_bytes: if one_way { 0 } else { spec.size.answer },
            start_ns,
            duration_ns: 0,
            offered_per_s: (!bulk).then_some(spec.rate),
            sent: 0,
            unsent: 0,
            received: 0,
            lost: 0,
            duplicates: 0,
            out_of_order: 0,
            bytes: 0,
            throughput_bits_per_s: 0.0,
            latency: None,
            lateness: None,
            jitter_ns: None,
            retransmits: None,
        }
    }

    /// Enters what a request/response run counted.
    pub(super) fn answered(mut self, schedule: &Schedule, sent: &Sent, tally: &Tally) -> TrafficReport {
        self.sent = sent.count;
        self.unsent = sent.unsent;
        self.received = tally.received;
        self.lost = sent.count.saturating_sub(tally.received);
        self.duplicates = tally.duplicates;
        self.out_of_order = tally.out_of_order;
        self.latency = Some(Distribution::of(&tally.latency));
        self.lateness = Some(Distribution::of(&sent.lateness));
        self.timed(tally.bytes, sent.end_ns.max(tally.last_ns).saturating_sub(schedule.start_ns))
    }

    /// Enters bytes and time.
    pub(super) fn timed(mut self, bytes: u64, duration_ns: u64) -> TrafficReport {
        self.bytes = bytes;
        self.duration_ns = duration_ns;
        self.throughput_bits_per_s = bytes as f64 * 8e9 / duration_ns.max(1) as f64;
        self
    }

    /// The run's name, as `udp-rr`.
    pub fn name(&self) -> String {
        super::name(self.kind, self.protocol)
    }
}

/// A distribution of times, all in nanoseconds; the percentiles are exact to three digits.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Distribution {
    pub count: u64,
    pub mean: f64,
    pub p50: u64,
    pub p90: u64,
    pub p99: u64,
    pub p999: u64,
    pub p9999: u64,
    pub p99999: u64,
    pub max: u64,
}

impl Distribution {
    /// The distribution of a histogram of nanoseconds.
    pub fn of(histogram: &Histogram<u64>) -> Distribution {
        Distribution {
            count: histogram.len(),
            mean: histogram.mean(),
            p50: histogram.value_at_quantile(0.5),
            p90: histogram.value_at_quantile(0.9),
            p99: histogram.value_at_quantile(0.99),
            p999: histogram.value_at_quantile(0.999),
            p9999: histogram.value_at_quantile(0.9999),
            p99999: histogram.value_at_quantile(0.99999),
            max: histogram.max(),
        }
    }
}

/// An empty histogram of nanoseconds up to an hour, three digits.
pub(super) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 3_600_000_000_000, 3).expect("these bounds are valid")
}
