//! The JSON report. Its schema is stable: keys are added, never changed.

use std::collections::BTreeMap;

use anyhow::Result;
use serde::{Serialize, Serializer};

use super::{counters::Counters as KernelCounters, nics};
use crate::breakdown::{self, Analysis, Dist, Key, Row};
use overlay_trace_format::{Balance, Counters, Detection, HopName, NicCount, ProbeCost, StageRow};

/// The version of the schema.
const SCHEMA: u32 = 1;

#[derive(Serialize)]
struct Report<'a> {
    schema: u32,
    capture: Capture<'a>,
    packets: Packets,
    losses: Losses,
    end_to_end_ns: &'a Dist,
    /// Net of probe overhead; equal to `end_to_end_ns` where that was not measured.
    end_to_end_ns_net: &'a Dist,
    latency_ns: &'a Dist,
    stages: Vec<Stage<'a>>,
    other_share: f64,
    probe_cost_ns: &'a ProbeCost,
    complete: bool,
    probe_kinds: BTreeMap<&'a str, &'static str>,
    drops: Vec<Drop<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tx_completion: Vec<Completion<'a>>,
    traffic: &'a [serde_json::Value],
    nics: Vec<Nic<'a>>,
    /// What the kernel's own counters grew by. Only in recordings that say so.
    #[serde(skip_serializing_if = "Option::is_none")]
    kernel_counters: Option<KernelCounters<'a>>,
}

#[derive(Serialize)]
struct Completion<'a> {
    netns: &'a str,
    device: &'a str,
    ns: &'a Dist,
}

#[derive(Serialize)]
pub(super) struct Capture<'a> {
    kernel: &'a str,
    probe_set: &'a str,
    duration_ns: u64,
    node: &'a str,
    unseen_stages: Vec<&'a str>,
    overlay_trace: &'a str,
    arch: &'a str,
    filter: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    networks: Option<&'a [Detection]>,
    command: &'a str,
    start_wall_ns: u64,
    probe_hits: u64,
    /// `rejected_by_filter` and `not_ip` together.
    filtered: u64,
    rejected_by_filter: u64,
    not_ip: u64,
    /// NICs whose packets an early version may have missed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    doubtful_nics: Vec<&'a str>,
    unseen_reasons: BTreeMap<&'a str, &'a str>,
    /// Stages that were probed only from some moment on: when, in ns since the start.
    seen_later_ns: BTreeMap<&'a str, u64>,
    /// Only where not every packet was followed.
    #[serde(skip_serializing_if = "Option::is_none")]
    sample: Option<SampledByPacket>,
    /// Only where the recording was sampled.
    #[serde(skip_serializing_if = "Option::is_none")]
    sampling: Option<Sampled<'a>>,
}

#[derive(Serialize)]
struct Sampled<'a> {
    above: &'a str,
    one_in: u32,
    /// The threshold at the end of the recording.
    slow_from_ns: u64,
    left_out: u64,
}

/// Sampling by packet, and between which times, in ns, the mean of all packets lies in 95 of 100 such samples.
#[derive(Serialize)]
struct SampledByPacket {
    one_in: u32,
    records: u64,
    unsampled: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    mean_error_ns: Option<f64>,
    p50_ns: (u64, u64),
    p99_ns: (u64, u64),
}

impl SampledByPacket {
    fn of(analysis: &Analysis) -> Option<SampledByPacket> {
        let one_in = analysis.header.sample?;
        let (all, records) = (&analysis.end_to_end, analysis.records);
        Some(SampledByPacket {
            one_in,
            records,
            unsampled: analysis.last.counters.unsampled,
            mean_error_ns: Some(all.mean_error(records)).filter(|error| error.is_finite()),
            p50_ns: all.quantile_interval(0.5, records),
            p99_ns: all.quantile_interval(0.99, records),
        })
    }
}

impl<'a> Capture<'a> {
    pub(super) fn of(analysis: &'a Analysis) -> Capture<'a> {
        let header = &analysis.header;
        Capture {
            kernel: &header.kernel,
            probe_set: &header.probe_set,
            duration_ns: analysis.last.duration_ns,
            node: &header.node,
            unseen_stages: header.unseen_stages.iter().map(|unseen| unseen.stage.as_str()).collect(),
            overlay_trace: &header.overlay_trace,
            arch: &header.arch,
            filter: &header.filter,
            networks: header.networks.as_deref(),
            command: &header.command,
            start_wall_ns: header.start_wall_ns,
            probe_hits: analysis.last.counters.hits,
            filtered: analysis.last.counters.filtered.saturating_add(analysis.last.counters.not_ip),
            rejected_by_filter: analysis.last.counters.filtered,
            not_ip: analysis.last.counters.not_ip,
            doubtful_nics: analysis.doubtful_nics.iter().map(|nic| nic.device.as_str()).collect(),
            sample: SampledByPacket::of(analysis),
            sampling: header.sampling.as_ref().map(|sampling| Sampled {
                above: &sampling.above,
                one_in: sampling.one_in,
                slow_from_ns: analysis.last.counters.slow_from_ns.unwrap_or(0),
                left_out: analysis.last.counters.left_out,
            }),
            unseen_reasons: header
                .unseen_stages
                .iter()
                .map(|unseen| (unseen.stage.as_str(), unseen.reason.as_str()))
                .collect(),
            seen_later_ns: header
                .seen_later
                .iter()
                .map(|later| (later.stage.as_str(), later.since_ns.saturating_sub(header.start_monotonic_ns)))
                .collect(),
        }
    }
}

#[derive(Serialize)]
pub(super) struct Packets {
    started: u64,
    finished: u64,
    delivered: u64,
    dropped: u64,
    forwarded: u64,
    unfinished: u64,
    merged: u64,
    split: u64,
}

impl Packets {
    pub(super) fn of(analysis: &Analysis) -> Packets {
        let outcomes = &analysis.outcomes;
        Packets {
            started: analysis.started(),
            finished: analysis.finished(),
            delivered: outcomes.delivered,
            dropped: outcomes.dropped,
            forwarded: outcomes.forwarded,
            unfinished: analysis.unfinished(),
            merged: outcomes.merged,
            split: outcomes.split,
        }
    }
}

#[derive(Serialize)]
pub(super) struct Losses {
    records: u64,
    probe_misses: u64,
    state_full: u64,
    unmatched_exits: u64,
    unknown_start: u64,
    lost_end: u64,
    hops_full: u64,
    cut_ways: u64,
    inconsistent: u64,
    orphans: u64,
    incomplete: u64,
    /// False where the kernel does not count the misses of all probes: `probe_misses` is a lower bound then.
    probe_misses_known: bool,
    /// Equal to `lost_end`. Added, with the next two, after schema 1 was first published.
    missed_ends: u64,
    /// Equal to `state_full`.
    packet_table_full: u64,
    /// Equal to `hops_full`.
    hop_table_full: u64,
    /// False where the recording ended before its counters were written: all of these are unknown then.
    known: bool,
    /// Packets that the recorder counted and that are not in the file.
    missing_records: u64,
    /// Records beyond those that the recorder counted.
    surplus_records: u64,
    /// Packets whose path ended before their headers could be read.
    unreadable_headers: u64,
}

impl Losses {
    pub(super) fn of(analysis: &Analysis) -> Losses {
        let counters: &Counters = &analysis.last.counters;
        Losses {
            records: counters.lost_records,
            probe_misses: counters.probe_misses.unwrap_or(0),
            state_full: counters.state_full,
            unmatched_exits: counters.unmatched_exits,
            unknown_start: counters.unknown_start,
            lost_end: counters.lost_end,
            hops_full: counters.hops_full,
            cut_ways: analysis.cut_paths,
            inconsistent: analysis.inconsistent,
            orphans: analysis.orphans,
            incomplete: analysis.incomplete,
            probe_misses_known: counters.are_misses_known(),
            missed_ends: counters.lost_end,
            packet_table_full: counters.state_full,
            hop_table_full: counters.hops_full,
            known: analysis.balance != Balance::Unknown,
            missing_records: analysis.balance.missing(),
            surplus_records: analysis.balance.surplus(),
            unreadable_headers: counters.unreadable,
        }
    }
}

#[derive(Serialize)]
struct Stage<'a> {
    #[serde(flatten)]
    key: &'a Key,
    packets: u64,
    segments: u64,
    bytes: u64,
    share: f64,
    self_ns: &'a Dist,
    /// Net of probe overhead; equal to `self_ns` where that was not measured.
    self_ns_net: &'a Dist,
}

impl<'a> From<&'a Row> for Stage<'a> {
    fn from(row: &'a Row) -> Stage<'a> {
        Stage {
            key: &row.key,
            packets: row.raw.count(),
            segments: row.segments,
            bytes: row.bytes,
            share: row.share,
            self_ns: &row.raw,
            self_ns_net: row.net.as_ref().unwrap_or(&row.raw),
        }
    }
}

#[derive(Serialize)]
struct Drop<'a> {
    packets: u64,
    bytes: u64,
    reason: &'a str,
    location: &'a str,
    #[serde(flatten)]
    key: &'a Key,
}

/// What passed a NIC in one direction, in the unit that its driver counts.
#[derive(Serialize)]
struct Nic<'a> {
    device: &'a str,
    netns: &'a str,
    #[serde(flatten)]
    counts: &'a NicCount,
    /// The driver's count without all the others.
    unexplained: i64,
    /// What is unexplained, where it is more than the moments of counting differ by.
    #[serde(skip_serializing_if = "Option::is_none")]
    finding: Option<String>,
}

impl<'a> From<&'a (HopName, NicCount)> for Nic<'a> {
    fn from((nic, counts): &'a (HopName, NicCount)) -> Nic<'a> {
        Nic {
            device: &nic.device,
            netns: &nic.netns,
            counts,
            unexplained: counts.unexplained(),
            finding: nics::finding(nic, counts),
        }
    }
}

impl Serialize for Dist {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Numbers {
            count: u64,
            sum: u128,
            mean: f64,
            p50: u64,
            p90: u64,
            p99: u64,
            p999: u64,
            p9999: u64,
            max: u64,
        }
        Numbers {
            count: self.count(),
            sum: self.sum(),
            mean: self.mean(),
            p50: self.quantile(0.5),
            p90: self.quantile(0.9),
            p99: self.quantile(0.99),
            p999: self.quantile(0.999),
            p9999: self.quantile(0.9999),
            max: self.max(),
        }
        .serialize(serializer)
    }
}

/// The report as one object.
pub(super) fn report<'a>(analysis: &'a Analysis) -> Result<Vec<u8>> {
    let probe = |stage: &'a StageRow| Some((stage.name.as_str(), stage.probe?.name()));
    pretty(&Report {
        schema: SCHEMA,
        capture: Capture::of(analysis),
        packets: Packets::of(analysis),
        losses: Losses::of(analysis),
        end_to_end_ns: &analysis.end_to_end,
        end_to_end_ns_net: analysis.net.as_ref().unwrap_or(&analysis.end_to_end),
        latency_ns: &analysis.latency,
        stages: analysis.rows.iter().map(Stage::from).collect(),
        other_share: analysis.other_share(),
        probe_cost_ns: &analysis.header.probe_cost_ns,
        complete: analysis.complete,
        probe_kinds: analysis.header.stages.iter().filter_map(probe).collect(),
        drops: analysis.drops.iter().map(Drop::from).collect(),
        tx_completion: analysis.completions.iter().map(Completion::from).collect(),
        traffic: &analysis.traffic,
        nics: analysis.nics.iter().map(Nic::from).collect(),
        kernel_counters: analysis.kernel_counters.as_ref().map(KernelCounters::from),
    })
}

impl<'a> From<&'a breakdown::Completion> for Completion<'a> {
    fn from(completion: &'a breakdown::Completion) -> Completion<'a> {
        let breakdown::Completion { netns, device, ns } = completion;
        Completion { netns, device, ns }
    }
}

impl<'a> From<&'a breakdown::Drop> for Drop<'a> {
    fn from(drop: &'a breakdown::Drop) -> Drop<'a> {
        let breakdown::Drop { packets, bytes, reason, location, key } = drop;
        Drop { packets: *packets, bytes: *bytes, reason, location, key }
    }
}

/// JSON with one key per line and a newline at its end.
pub(super) fn pretty(value: &impl Serialize) -> Result<Vec<u8>> {
    let mut bytes = serde_json::to_vec_pretty(value)?;
    bytes.push(b'\n');
    Ok(bytes)
}
