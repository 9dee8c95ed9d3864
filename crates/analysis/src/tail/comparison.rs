//! The slow set compared with the ordinary one: the result that every output is rendered from.

use super::{cpus::CpuVisits, finding::Finding, sample::Of, slowest::SlowPacket, tcp::TcpView, typical};
use crate::breakdown::{Analysis, Key, Row};
use overlay_trace_format::Threshold;

/// The slow packets of a recording compared with the ordinary ones.
pub struct Tail {
    /// Of all packets, by stage.
    pub analysis: Analysis,
    pub of: Of,
    /// What was asked for: a percentile or a time.
    pub threshold: Threshold,
    /// The longest time that is not slow, in ns.
    pub threshold_ns: u64,
    pub slow: SampleSet,
    pub ordinary: SampleSet,
    /// Slow packets that were dropped.
    pub slow_dropped: u64,
    /// Slow requests that waited for TCP's retransmission timeout (RTO).
    pub slow_waited: u64,
    /// Requests without an answer in the recording.
    pub unpaired: u64,
    /// Those of them that should have had one: they or their answers were dropped, or their client had other answers.
    pub unanswered: u64,
    /// TCP's retransmissions, reordering and zero windows.
    pub tcp: TcpView,
    /// The largest excess first. Each column adds up to the mean of its set, and the excesses to the difference of the
    /// means, exactly.
    pub rows: Vec<TailRow>,
    /// The slowest first.
    pub slowest: Vec<SlowPacket>,
    /// The causes found, the gravest first.
    pub findings: Vec<Finding>,
}

/// Totals of the slow set, or of the ordinary one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SampleSet {
    /// Packets, or requests with their answers.
    pub packets: u64,
    /// Equal to `packets`, or the number of flows that they belong to.
    pub units: u64,
    /// Sum of their times, in ns.
    pub sum_ns: u128,
    /// Mean time per packet, rounded to whole ns.
    pub mean_ns: i128,
}

/// The time that both sets spent in one row: a stage at one level of one device.
#[derive(Clone, Debug, PartialEq)]
pub struct TailRow {
    pub key: Key,
    /// In ns per slow packet.
    pub slow_ns: i128,
    /// In ns per ordinary packet.
    pub ordinary_ns: i128,
    pub slow_sum_ns: u128,
    pub ordinary_sum_ns: u128,
    /// Slow packets that passed this row.
    pub slow_packets: u64,
    /// Ordinary packets that passed this row.
    pub ordinary_packets: u64,
    /// Slow packets whose largest excess is in this row.
    pub dominant: u64,
    /// The sum of those excesses, in ns: the time beyond the ordinary mean at that moment.
    pub dominant_ns: u128,
    /// How many separate occasions those packets belong to. Packets in flight at the same time are one occasion.
    pub occasions: u64,
    /// The row's number along the packets' path.
    pub position: usize,
    /// Mean time from a slow packet's start to its first arrival in this row, in ns.
    pub at_ns: u64,
    /// The CPUs that packets were on here.
    pub cpus: CpuVisits,
}

impl TailRow {
    /// How much longer a slow packet spends here than an ordinary one, in ns.
    pub fn excess_ns(&self) -> i128 {
        self.slow_ns - self.ordinary_ns
    }
}

impl Tail {
    /// How much longer a slow packet takes than an ordinary one, in ns: the sum of the rows' excesses.
    pub fn excess_ns(&self) -> i128 {
        self.slow.mean_ns - self.ordinary.mean_ns
    }

    /// The fraction of the difference that an excess makes up; 0 if there is no difference.
    pub fn share(&self, excess_ns: i128) -> f64 {
        if self.excess_ns() == 0 { 0.0 } else { excess_ns as f64 / self.excess_ns() as f64 }
    }

    /// The rows along the packets' path.
    pub fn by_path(&self) -> Vec<&TailRow> {
        let mut rows: Vec<&TailRow> = self.rows.iter().collect();
        rows.sort_by_key(|row| row.position);
        rows
    }

    /// The wait that holds most of every packet's time, if that is long.
    pub fn longest_typical_wait(&self) -> Option<&Row> {
        typical::longest(self)
    }

    /// Whether both sets have packets, so that they can be compared.
    pub fn is_comparison(&self) -> bool {
        self.slow.packets > 0 && self.ordinary.packets > 0
    }
}
