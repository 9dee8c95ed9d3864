//! A sample: what is slow or ordinary as one. A packet, a request with its answer, or a packet judged by its flow.

use clap::ValueEnum;
use overlay_trace_common::record::{Flow, RecordHeader};

/// What is compared as one sample.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Of {
    /// Each packet
    #[default]
    Packets,
    /// Each request together with its answer (request latency)
    Requests,
    /// Each flow (protocol, addresses, ports), by the mean of its packets
    Flows,
}

impl Of {
    /// The name in every output.
    pub fn name(self) -> &'static str {
        match self {
            Of::Packets => "packets",
            Of::Requests => "requests",
            Of::Flows => "flows",
        }
    }
}

/// A span of a path, by the number of its row.
#[derive(Clone, Copy)]
pub(super) struct RowSpan {
    pub row: u32,
    /// The CPU that the packet was on, where it is known.
    pub cpu: Option<u16>,
    pub ns: u64,
}

/// A packet, or a request with its answer.
#[derive(Clone, Copy)]
pub(super) struct Sample<'a> {
    /// The packet's, or the request's.
    pub header: &'a RecordHeader,
    pub start_ns: u64,
    pub path: &'a [RowSpan],
    /// The whole time, in ns.
    pub ns: u64,
    /// The time that is compared with the threshold, in ns: its own, or the mean of its flow.
    pub deciding_ns: u64,
    /// The time between a dropped packet and its retransmission, in ns.
    pub retransmission_ns: u64,
}

/// The fields that all packets of a flow share.
pub(super) fn flow(header: &RecordHeader) -> Flow {
    Flow { ip_id: 0, sequence: 0, ..header.flow }
}
