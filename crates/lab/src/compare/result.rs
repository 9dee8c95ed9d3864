//! What came of one lab: the file that an interrupted comparison goes on from.

use serde::{Deserialize, Serialize};

use crate::traffic::{Kind, TrafficReport};

/// A lab's part of a comparison.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LabResult {
    pub lab: String,
    /// What the lab is, in a sentence.
    pub about: String,
    pub conditions: Conditions,
    pub outcome: Outcome,
}

/// What must be the same for results to be compared.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Conditions {
    pub plan: String,
    /// Every run in words, with the rates as this machine could have them.
    pub runs: Vec<String>,
    pub kernel: String,
    /// Number of CPUs.
    pub cpus: usize,
    /// The probe set that was asked for.
    pub probes: String,
    /// The version of this program.
    pub overlay_trace: String,
}

/// How it went.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Measured(Box<Measured>),
    /// This machine lacks something: what, in a sentence.
    Unavailable(String),
    /// It went wrong: how, in a sentence.
    Failed(String),
}

/// What was measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// What is not as the real system would have it, a sentence each.
    pub notes: Vec<String>,
    /// The runs without a recording, in the plan's order.
    pub runs: Vec<Run>,
    /// From the recording.
    pub stages: Stages,
    /// How long all of it took, seconds.
    pub took_s: f64,
}

/// A run of traffic, without a recording.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// As `tcp-bulk` or, where the plan has several of that kind, with what tells them apart.
    pub name: String,
    /// Of bulk, which is done several times: the transfer of the median throughput.
    pub traffic: TrafficReport,
    /// Of all times, bits per second, the least first.
    pub throughputs: Vec<f64>,
    /// Of all times together.
    pub cpu: Cpu,
}

impl Run {
    /// Requests, answers and packets that the run's traffic consisted of; 0 for bulk, where they are not counted.
    pub fn packets(&self) -> u64 {
        match self.traffic.kind {
            Kind::Bulk => 0,
            Kind::Stream => self.traffic.sent,
            Kind::Rr | Kind::Ping => self.traffic.sent + self.traffic.received,
        }
    }
}

/// CPU time during a run, ns. The kernel counts it in ticks, as a rule of 10 ms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cpu {
    /// All CPUs of the machine, whatever they were busy with (/proc/stat).
    pub busy_ns: u64,
    /// The part of it in softirqs and hard interrupts.
    pub interrupts_ns: u64,
    /// The kernel's own threads, but ksoftirqd.
    pub kernel_ns: u64,
    /// Of this program, which is both ends of the traffic (getrusage).
    pub own_ns: u64,
}

/// Where the packets' time went, from the recording.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Stages {
    pub probe_set: String,
    /// Packets that the times are of.
    pub packets: u64,
    /// Every loss counter, in words.
    pub losses: String,
    /// The part of the time that no stage claims, 0 to 1.
    pub other_share: f64,
    /// The sum of all packets' times, as recorded, ns.
    pub sum_ns: u64,
    /// The time that half of the packets do not exceed, ns; the probes' cost taken off where it is known.
    pub median_ns: u64,
    /// Whether the probes' cost is known, and taken off `net_ns`.
    pub is_net: bool,
    /// Along the packets' path.
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
    /// Packets that were there.
    pub packets: u64,
    /// Their time as recorded, ns.
    pub raw_ns: u64,
    /// The same with the probes' cost taken off, ns; as recorded where that is not known.
    pub net_ns: u64,
}

impl StageTime {
    /// Whether the packet lay in a socket, for the program or the protocol to take it.
    pub fn is_socket_wait(&self) -> bool {
        self.kind == "wait" && matches!(self.layer.as_str(), "socket" | "transport")
    }
}
