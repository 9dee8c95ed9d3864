//! The result of a run of traffic.

use serde::{Deserialize, Serialize};

use super::distribution::Distribution;
use super::open_loop::{Schedule, Sent};
use super::response_stats::ResponseStats;
use super::spec::{self, Kind, Protocol, Spec};

/// The result of a run of traffic. A recording stores it next to the packets. Its JSON keys are stable.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrafficReport {
    pub kind: Kind,
    pub protocol: Protocol,
    /// The client's address.
    pub from: String,
    /// The server's address.
    pub to: String,
    /// The number of connections (bulk: streams).
    pub connections: u32,
    /// Payload bytes of a request, or of a stream's packet; 0 for bulk.
    pub request_bytes: u32,
    /// Payload bytes of an answer; 0 for bulk and streams.
    pub answer_bytes: u32,
    /// The scheduled send time of the first request, CLOCK_MONOTONIC, ns.
    pub start_ns: u64,
    /// From `start_ns` to the last answer or the end of sending, whichever was later, ns.
    pub duration_ns: u64,
    /// The offered rate, requests or packets per second; `None` for bulk.
    pub offered_per_s: Option<f64>,
    /// Requests or packets sent; 0 for bulk.
    pub sent: u64,
    /// Scheduled, but not sent because the load generator could not keep up: the run then measured the load
    /// generator's limit. These requests are in no percentile.
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
    /// From the scheduled send time of a request to its answer, ns; `None` for bulk and streams.
    pub latency: Option<Distribution>,
    /// The scheduling delay of the load generator, ns: from the scheduled send time to the send call. It is the
    /// part of the latency that the load generator itself causes. `None` for bulk.
    #[serde(rename = "lateness")]
    pub scheduling_delay: Option<Distribution>,
    /// Interarrival jitter (RFC 3550, 6.4.1) at the end of a stream, ns; `None` for other kinds.
    pub jitter_ns: Option<u64>,
    /// TCP segments that both ends retransmitted; `None` without TCP.
    pub retransmits: Option<u64>,
}

impl TrafficReport {
    /// A report before the traffic: all counts are 0.
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
            scheduling_delay: None,
            jitter_ns: None,
            retransmits: None,
        }
    }

    /// Adds the counts of a request/response run.
    pub(super) fn with_responses(
        mut self,
        schedule: &Schedule,
        sent: &Sent,
        responses: &ResponseStats,
    ) -> TrafficReport {
        self.sent = sent.count;
        self.unsent = sent.unsent;
        self.received = responses.received;
        self.lost = sent.count.saturating_sub(responses.received);
        self.duplicates = responses.duplicates;
        self.out_of_order = responses.out_of_order;
        self.latency = Some(Distribution::of(&responses.latency));
        self.scheduling_delay = Some(Distribution::of(&sent.scheduling_delay));
        self.with_throughput(
            responses.bytes,
            sent.end_ns.max(responses.last_ns).saturating_sub(schedule.start_ns),
        )
    }

    /// Adds bytes and duration, and the throughput that follows.
    pub(super) fn with_throughput(mut self, bytes: u64, duration_ns: u64) -> TrafficReport {
        self.bytes = bytes;
        self.duration_ns = duration_ns;
        self.throughput_bits_per_s = bytes as f64 * 8e9 / duration_ns.max(1) as f64;
        self
    }

    /// The run's name, as `udp-rr`.
    pub fn name(&self) -> String {
        spec::name(self.kind, self.protocol)
    }
}
