//! The result of one lab, as stored in the results folder.

use serde::{Deserialize, Serialize};

use crate::traffic::{Kind, TrafficReport};

/// The number of transfers that share the duration of a bulk run.
pub(super) const TRANSFERS: u32 = 3;

/// The result of one lab.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LabResult {
    pub lab: String,
    /// The description of the lab, one sentence.
    pub about: String,
    pub conditions: Conditions,
    pub outcome: Outcome,
}

/// The conditions that must be equal for results to be comparable.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Conditions {
    pub plan: String,
    /// A description of every run, with the rates that this machine reaches.
    pub runs: Vec<String>,
    pub kernel: String,
    /// Number of CPUs.
    pub cpus: usize,
    /// The requested probe set.
    pub probes: String,
    /// The version of this program.
    pub overlay_trace: String,
}

/// The outcome of a measurement.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Measured(Box<Measured>),
    /// This machine lacks something; the reason, one sentence.
    Unavailable(String),
    /// The measurement failed; the error, one sentence.
    Failed(String),
}

/// The measurements of one lab.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// The differences between the lab and the real system, one sentence each.
    pub notes: Vec<String>,
    /// The runs without a recording, in the plan's order.
    pub runs: Vec<Run>,
    /// The time per stage, from the recording.
    pub stages: Stages,
    /// The duration of the measurement, seconds.
    pub took_s: f64,
}

/// A run of traffic, without a recording.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// As `tcp-bulk`; where the plan has several of a kind, with the differing parameters.
    pub name: String,
    /// For bulk, which is repeated: the transfer with the median throughput.
    pub traffic: TrafficReport,
    /// The throughputs of all repetitions, bits per second, ascending.
    pub throughputs: Vec<f64>,
    /// The CPU time of all repetitions together.
    pub cpu: Cpu,
}

impl Run {
    /// The number of requests, answers and packets of the run; 0 for bulk, where they are not counted.
    pub fn packets(&self) -> u64 {
        match self.traffic.kind {
            Kind::Bulk => 0,
            Kind::Stream => self.traffic.sent,
            Kind::Rr | Kind::Ping => self.traffic.sent + self.traffic.received,
        }
    }
}

/// CPU time during a run, ns. The kernel usually accounts it in ticks of 10 ms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cpu {
    /// Busy time of all CPUs of the machine (/proc/stat).
    pub busy_ns: u64,
    /// The part of it in softirqs and hardware interrupts.
    pub interrupts_ns: u64,
    /// Kernel threads except ksoftirqd.
    pub kernel_ns: u64,
    /// This program, which is both ends of the traffic (getrusage).
    pub own_ns: u64,
}

/// The time per stage of all packets, from the recording.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Stages {
    pub probe_set: String,
    /// The number of packets that the times cover.
    pub packets: u64,
    /// All loss counters, as text.
    pub losses: String,
    /// The share of the time that no stage claims, 0 to 1.
    pub other_share: f64,
    /// The sum of all packets' times, as recorded, ns.
    pub sum_ns: u64,
    /// The median time of a packet, ns, net of probe overhead where that is known.
    pub median_ns: u64,
    /// Whether `net_ns` is net of probe overhead.
    pub is_net: bool,
    /// In the order of the packets' path.
    pub rows: Vec<StageTime>,
}

/// The time of all packets in one stage, level and direction.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageTime {
    pub layer: String,
    pub stage: String,
    /// `work` or `wait`.
    pub kind: String,
    pub level: u8,
    pub direction: String,
    /// The number of packets that passed the stage.
    pub packets: u64,
    /// Their time as recorded, ns.
    pub raw_ns: u64,
    /// The same net of probe overhead, ns; as recorded where the overhead is not known.
    pub net_ns: u64,
}

impl StageTime {
    /// Whether the packet waited in a socket for the program or the protocol to read it.
    pub fn is_socket_wait(&self) -> bool {
        self.kind == "wait" && matches!(self.layer.as_str(), "socket" | "transport")
    }
}
