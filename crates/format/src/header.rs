//! What a recording says about itself, as JSON.

use std::collections::BTreeMap;

use overlay_trace_common::{
    record::{COUNTERS, Counter},
    stage_map::STAGES,
};
use serde::{Deserialize, Serialize};

use crate::{ClockReading, Machine, Pod, detection::Detection, probe_kind::ProbeKind, stage_row::StageRow};

/// Where and how a recording was made.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Header {
    /// Version of overlay-trace.
    pub overlay_trace: String,
    /// Kernel release (`uname -r`).
    pub kernel: String,
    /// Architecture, as Rust names it (`x86_64`).
    pub arch: String,
    /// `little` or `big`: the byte order of the records.
    pub byte_order: String,
    /// Host name of the node.
    pub node: String,
    /// CPUs that were online when the recording began; `None` in recordings of before that was looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpus: Option<u32>,
    /// Which machine it was; `None` in recordings of before that was looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub machine: Option<Machine>,
    /// `full`, `light`, `device` or `tc`.
    pub probe_set: String,
    /// Wall clock at the beginning, in ns since 1970.
    pub start_wall_ns: u64,
    /// CLOCK_MONOTONIC at the same moment, in ns: the records' clock.
    pub start_monotonic_ns: u64,
    /// The stage map that the records' stage numbers mean.
    pub stages: Vec<StageRow>,
    /// Stages of the probe set that could not be seen, and why.
    pub unseen_stages: Vec<UnseenStage>,
    /// Stages that were seen from some moment on: what they need came up during the recording. In the file
    /// they are chunks of their own.
    pub seen_later: Vec<SeenLater>,
    pub probe_cost_ns: ProbeCost,
    /// Which packets have a record of their own; `None` where all have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sampling: Option<Sampling>,
    /// Sampling by packet: 1 in this number of packets was followed; `None` where all were.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sample: Option<u32>,
    /// Whether packets from NICs are recorded whose headers lie outside their linear part; false in recordings of early
    /// versions, which read what is not the packet's.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub reads_fragments: bool,
    /// The filter in words; empty for none.
    pub filter: String,
    /// What the machine looked like when the recording began; `None` in recordings of before that was looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub networks: Option<Vec<Detection>>,
    /// The command line of the recording.
    pub command: String,
}

impl Header {
    /// The header of a recording that begins now on this machine's architecture with this program's stage map.
    /// Kernel, node, clocks, probe set and probe kinds are the recorder's to fill in.
    pub fn new() -> Header {
        Header {
            overlay_trace: env!("CARGO_PKG_VERSION").into(),
            arch: std::env::consts::ARCH.into(),
            byte_order: byte_order().into(),
            stages: STAGES.iter().map(StageRow::from).collect(),
            reads_fragments: true,
            ..Header::default()
        }
    }

    /// Takes up that a stage is seen from some moment on.
    pub(super) fn see_later(&mut self, later: SeenLater) {
        self.unseen_stages.retain(|unseen| unseen.stage != later.stage);
        if let Some(row) = self.stages.iter_mut().find(|row| row.name == later.stage) {
            row.probe = row.probe.or(Some(later.probe));
            row.exit |= later.exit;
        }
        self.seen_later.push(later);
    }
}

/// The byte order of the machine that this runs on.
pub(super) fn byte_order() -> &'static str {
    if cfg!(target_endian = "big") { "big" } else { "little" }
}

/// Tail-based sampling: every packet slower than `above`, every dropped packet and every packet with a lineage (clones,
/// segments, fragments and their parents) has a record; of the rest about one in `one_in`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Sampling {
    /// A percentile (`p99.9`), which follows the load, or a time in ns (`500000ns`).
    pub above: String,
    pub one_in: u32,
}

/// A stage that could not be probed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnseenStage {
    pub stage: String,
    /// A sentence for people.
    pub reason: String,
    /// The kernel module that was not loaded, where that is the reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub module: Option<String>,
}

/// A stage, or some of its points, that could be probed only from some moment on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeenLater {
    pub stage: String,
    /// In ns of CLOCK_MONOTONIC.
    pub since_ns: u64,
    pub probe: ProbeKind,
    /// Whether an exit is watched too.
    pub exit: bool,
}

/// What one hit of a probe costs on the machine that recorded, in ns; `None` where not measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ProbeCost {
    /// A function's entry (fentry, or kprobe where there is no fentry).
    pub entry: Option<f64>,
    /// A function's entry by kprobe, where some functions are probed by fentry and some by kprobe.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kprobe: Option<f64>,
    /// A function's exit.
    pub exit: Option<f64>,
    pub tracepoint: Option<f64>,
    pub tc: Option<f64>,
    /// A function's entry that is the next one of the stage which the packet is in, so that the clock is not
    /// read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub again: Option<f64>,
    /// Besides the hit: the start of a packet's path, with the times that the send call has noted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub birth: Option<f64>,
    /// Besides the hit: reading the packet's headers, once per path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub headers: Option<f64>,
    /// Besides the hit: the packet has come to another device.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hop: Option<f64>,
    /// Besides the hit: reading the packet's device through a helper, as programs of kprobes do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub look: Option<f64>,
    /// Besides the hit: writing the record, after the path has ended, so that it is in no packet's time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub record: Option<f64>,
}

/// Between a machine's name and the namespace's in [`HopName::netns`] of merged recordings: `guest1 / pod`.
pub const MACHINE_SEPARATOR: &str = " / ";

/// The names of a [`Hop`](overlay_trace_common::record::Hop).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HopName {
    /// Inode number of the network namespace.
    pub netns_inode: u32,
    /// The namespace's name, or some other way to tell it to people (`pid:1234`); may be empty.
    pub netns: String,
    pub ifindex: u32,
    /// Empty for "in the namespace, at no device yet".
    pub device: String,
    /// Link kind (`veth`, `bridge`, `vxlan`...); empty for a NIC.
    pub kind: String,
    /// The pod or container that the namespace belongs to; `None` for the node's own, and where it is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod: Option<Pod>,
}

/// What the recorder counted. See [`Counter`]; `probe_misses` comes from the kernel's own statistics.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Counters {
    pub started: u64,
    pub finished: u64,
    pub lost_records: u64,
    pub state_full: u64,
    pub unmatched_exits: u64,
    pub unknown_start: u64,
    pub lost_end: u64,
    /// Rejected by the filter; in recordings of before 0.2 also what is not IP.
    pub filtered: u64,
    pub not_ip: u64,
    /// Packets whose path ended before their headers could be read.
    pub unreadable: u64,
    pub hops_full: u64,
    pub hits: u64,
    pub record_bytes: u64,
    pub device_changes: u64,
    /// Packets without a record of their own: another one's stands for them.
    #[serde(skip_serializing_if = "is_zero")]
    pub left_out: u64,
    /// Packets that were not followed: sampling by packet has not chosen them.
    #[serde(skip_serializing_if = "is_zero")]
    pub unsampled: u64,
    /// From where on packets are slow, in ns, by now; `None` where all have records of their own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slow_from_ns: Option<u64>,
    /// Times that the kernel skipped a probe, as far as it tells; `None` where it tells of no probe.
    pub probe_misses: Option<u64>,
    /// Probes of whose misses the kernel does not tell.
    #[serde(skip_serializing_if = "is_zero")]
    pub untold_probes: u64,
}

impl Counters {
    /// The counters of the kernel side, summed over the CPUs, in the order of [`Counter`].
    pub fn from_kernel(values: &[u64; COUNTERS]) -> Counters {
        let of = |counter: Counter| values[counter as usize];
        Counters {
            started: of(Counter::Started),
            finished: of(Counter::Finished),
            lost_records: of(Counter::LostRecords),
            state_full: of(Counter::PacketTableFull),
            unmatched_exits: of(Counter::UnmatchedExits),
            unknown_start: of(Counter::UnknownStart),
            lost_end: of(Counter::MissedEnd),
            filtered: of(Counter::Filtered),
            not_ip: of(Counter::NotIp),
            unreadable: of(Counter::Unreadable),
            hops_full: of(Counter::HopTableFull),
            hits: of(Counter::Hits),
            record_bytes: of(Counter::RecordBytes),
            device_changes: of(Counter::DeviceChanges),
            left_out: of(Counter::NotSampled),
            unsampled: of(Counter::Unsampled),
            slow_from_ns: None,
            probe_misses: None,
            untold_probes: 0,
        }
    }

    /// The counters of two recordings together.
    pub(crate) fn plus(&self, other: &Counters) -> Counters {
        let misses = [self.probe_misses, other.probe_misses].into_iter().flatten();
        Counters {
            slow_from_ns: other.slow_from_ns.or(self.slow_from_ns),
            probe_misses: misses.reduce(u64::saturating_add),
            untold_probes: self.untold_probes.max(other.untold_probes),
            ..self.by_counter(other, u64::saturating_add)
        }
    }

    /// What was counted since; what tells a state stays.
    pub fn since(&self, before: &Counters) -> Counters {
        let misses = |misses: u64| misses.saturating_sub(before.probe_misses.unwrap_or(0));
        Counters {
            probe_misses: self.probe_misses.map(misses),
            ..self.by_counter(before, u64::saturating_sub)
        }
    }

    /// Each of the kernel side's counters by those of two; the rest is as here.
    fn by_counter(&self, other: &Counters, each: impl Fn(u64, u64) -> u64) -> Counters {
        Counters {
            started: each(self.started, other.started),
            finished: each(self.finished, other.finished),
            lost_records: each(self.lost_records, other.lost_records),
            state_full: each(self.state_full, other.state_full),
            unmatched_exits: each(self.unmatched_exits, other.unmatched_exits),
            unknown_start: each(self.unknown_start, other.unknown_start),
            lost_end: each(self.lost_end, other.lost_end),
            filtered: each(self.filtered, other.filtered),
            not_ip: each(self.not_ip, other.not_ip),
            unreadable: each(self.unreadable, other.unreadable),
            hops_full: each(self.hops_full, other.hops_full),
            hits: each(self.hits, other.hits),
            record_bytes: each(self.record_bytes, other.record_bytes),
            device_changes: each(self.device_changes, other.device_changes),
            left_out: each(self.left_out, other.left_out),
            unsampled: each(self.unsampled, other.unsampled),
            slow_from_ns: self.slow_from_ns,
            probe_misses: self.probe_misses,
            untold_probes: self.untold_probes,
        }
    }

    /// Whether the kernel tells of all probes how often it skipped them.
    pub fn are_misses_known(&self) -> bool {
        self.probe_misses.is_some() && self.untold_probes == 0
    }

    /// Packets that were seen and have no record by intent, or because they could not be identified.
    pub fn without_record(&self) -> u64 {
        [self.not_ip, self.unreadable, self.unsampled].into_iter().fold(self.filtered, u64::saturating_add)
    }

    /// What was lost, each kind with its name in every output for people.
    pub fn losses(&self) -> [(u64, &'static str); 8] {
        [
            (self.lost_records, "records"),
            (self.probe_misses.unwrap_or(0), "probe misses"),
            (self.state_full, "packet table full"),
            (self.unmatched_exits, "unmatched exits"),
            (self.unknown_start, "unknown starts"),
            (self.lost_end, "missed ends"),
            (self.hops_full, "hop table full"),
            (self.unreadable, "headers not readable"),
        ]
    }

    /// Why these packets are not to be trusted to be the machine's traffic, in a sentence: more than a tenth of them have no
    /// whole record, and more than a few.
    pub fn distrust(&self) -> Option<String> {
        const ONE_IN: u64 = 10;
        const A_FEW: u64 = 10;
        let parts = [self.lost_records, self.state_full, self.unknown_start, self.lost_end, self.unreadable];
        let vanished = parts.iter().fold(0, |sum: u64, part| sum.saturating_add(*part));
        let seen = self.started.max(self.finished).saturating_add(self.state_full);
        (vanished > A_FEW && vanished > seen / ONE_IN).then(|| {
            format!(
                "{vanished} of {seen} packets have no whole record: this recording does not show the machine's traffic \
                 (`overlay-trace doctor` says what the kernel allows; --states and --buffer make more room)"
            )
        })
    }
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// How far a recording had come.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Checkpoint {
    /// Since the beginning of the recording, in ns.
    pub duration_ns: u64,
    pub counters: Counters,
    /// The machine's clocks; `None` in recordings of before that was looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clocks: Option<ClockReading>,
}

/// Names of numbers that the kernel gives.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Names {
    /// `enum skb_drop_reason` of the kernel that recorded.
    pub drop_reasons: BTreeMap<u32, String>,
    /// Kernel addresses (of drop locations) to `function+offset`.
    pub symbols: BTreeMap<u64, String>,
}

impl Names {
    /// The name of a drop reason, or its number; empty for "none given".
    pub fn reason(&self, number: u32) -> String {
        named(&self.drop_reasons, number, |number| number.to_string())
    }

    /// The name of an address in the kernel, or the address; empty for "none given".
    pub fn symbol(&self, address: u64) -> String {
        named(&self.symbols, address, |address| format!("{address:#x}"))
    }
}

/// The name of a number; empty for 0, which stands for "none given".
fn named<N: Ord + Default + Copy>(
    names: &BTreeMap<N, String>,
    number: N,
    plain: impl Fn(N) -> String,
) -> String {
    if number == N::default() {
        return String::new();
    }
    names.get(&number).cloned().unwrap_or_else(|| plain(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recording_is_doubtful_when_more_than_a_few_and_more_than_a_tenth_vanished() {
        let of = |started, state_full| Counters { started, state_full, ..Counters::default() }.distrust();
        assert!(of(40, 31).is_some_and(|why| why.contains("31 of 71 packets")));
        assert!(of(4, 8).is_none() && of(1000, 100).is_none() && of(0, 0).is_none());
        let at_the_ends = Counters { started: 100, unknown_start: 5, lost_end: 7, ..Counters::default() };
        assert!(at_the_ends.distrust().is_some());
        assert!(Counters { lost_end: u64::MAX, lost_records: 1, ..at_the_ends }.distrust().is_some());
    }
}
