//! A tail as one JSON object. Keys are added, never changed.

use anyhow::Result;
use overlay_trace_common::record::{Outcome, RecordHeader};
use overlay_trace_format::ThrottledCgroup;
use serde::Serialize;

use super::view::{FindingView, TailView};
use crate::{
    breakdown::Key,
    report::{
        counters::Counters,
        flow::{address, protocol},
        json::{Capture, Losses, Packets, pretty},
    },
    tail::{RetransmissionGroup, SampleSet, SlowPacket, Tail, TailRow, TcpView},
};

/// The version of the schema.
const SCHEMA: u32 = 1;

#[derive(Serialize)]
struct Report<'a> {
    schema: u32,
    /// The answer for people, one sentence each. Added after schema 1 was first published.
    summary: &'a [String],
    capture: Capture<'a>,
    packets: Packets,
    losses: Losses,
    complete: bool,
    of: &'a str,
    above: String,
    threshold_ns: u64,
    slow: Set,
    ordinary: Set,
    slow_dropped: u64,
    /// Requests without an answer.
    unpaired: u64,
    /// Slow requests that waited for TCP's retransmission timeout.
    slow_waited: u64,
    tcp: Tcp<'a>,
    /// What the stages' `excess_ns` add up to.
    excess_ns: i128,
    stages: Vec<Row<'a>>,
    findings: Vec<Cause<'a>>,
    slowest: Vec<Slow<'a>>,
    /// What the kernel's own counters grew by, as in a report.
    #[serde(skip_serializing_if = "Option::is_none")]
    kernel_counters: Option<Counters<'a>>,
}

#[derive(Serialize)]
struct Tcp<'a> {
    segments: u64,
    out_of_order: u64,
    zero_windows: u64,
    /// The shortest wait for a retransmission timeout (RTO).
    timeout_ns: Option<u64>,
    sent_again: Vec<SentAgain<'a>>,
}

#[derive(Serialize)]
struct SentAgain<'a> {
    why: &'a str,
    segments: u64,
    waited_ns: u128,
    longest_ns: u64,
    drop_reason: Option<&'a str>,
    drop_location: Option<&'a str>,
    place: Option<&'a Key>,
}

#[derive(Serialize)]
struct Set {
    packets: u64,
    /// Flows, or as many as `packets`.
    units: u64,
    sum_ns: u128,
    mean_ns: i128,
}

#[derive(Serialize)]
struct Row<'a> {
    #[serde(flatten)]
    key: &'a Key,
    excess_ns: i128,
    share: f64,
    slow_ns: i128,
    ordinary_ns: i128,
    slow_sum_ns: u128,
    ordinary_sum_ns: u128,
    slow_packets: u64,
    ordinary_packets: u64,
    /// Slow packets whose largest excess is in this row.
    leads: u64,
}

#[derive(Serialize)]
struct Cause<'a> {
    id: &'a str,
    severity: &'a str,
    what: &'a str,
    /// `certain`, `likely` or `possible`. Added after schema 1 was first published, as are the next two.
    confidence: &'a str,
    /// What it can come from, where the recording does not tell.
    can_come_from: &'a [&'a str],
    /// How to make sure.
    check: &'a str,
    /// What in the recording shows it, for people. Added after schema 1 was first published.
    evidence: &'a str,
    share: Option<f64>,
    lost_ns: u128,
    packets: u64,
    /// Segments that TCP retransmitted because of it, and how long it waited.
    sent_again: u64,
    timeouts: u64,
    waited_ns: u128,
    place: &'a Key,
    /// The one CPU that all packets were on, and the number of their flows.
    #[serde(skip_serializing_if = "Option::is_none")]
    cpu: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    flows: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    drop_reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    drop_location: Option<&'a str>,
    /// The flows of the dropped packets. Added after schema 1 was first published, as is the next one.
    #[serde(skip_serializing_if = "Option::is_none")]
    lossy_flows: Option<u64>,
    /// Those of which nothing got through after the first drop.
    #[serde(skip_serializing_if = "Option::is_none")]
    silenced_flows: Option<u64>,
    /// The control group whose CPU quota ran out.
    #[serde(skip_serializing_if = "Option::is_none")]
    throttled: Option<&'a ThrottledCgroup>,
    advice: Vec<Advice>,
}

#[derive(Serialize)]
struct Advice {
    what: &'static str,
    source: &'static str,
}

#[derive(Serialize)]
struct Slow<'a> {
    id: u64,
    /// Since the start of the recording.
    start_ns: u64,
    ns: u64,
    protocol: String,
    source: String,
    source_port: u16,
    destination: String,
    destination_port: u16,
    bytes: u32,
    /// The CPU on which the path ended.
    cpu: u16,
    dropped: bool,
    steps: Vec<Step<'a>>,
}

#[derive(Serialize)]
struct Step<'a> {
    at_ns: u64,
    ns: u64,
    /// The CPU that the packet was on, or that dequeued it.
    cpu: Option<u16>,
    #[serde(flatten)]
    key: &'a Key,
}

/// The tail as one object.
pub(super) fn report(tail: &Tail, view: &TailView<'_>) -> Result<Vec<u8>> {
    let analysis = &tail.analysis;
    pretty(&Report {
        schema: SCHEMA,
        summary: &view.summary,
        capture: Capture::of(analysis),
        packets: Packets::of(analysis),
        losses: Losses::of(analysis),
        complete: analysis.complete,
        of: tail.of.name(),
        above: tail.threshold.to_string(),
        threshold_ns: tail.threshold_ns,
        slow: set(tail.slow),
        ordinary: set(tail.ordinary),
        slow_dropped: tail.slow_dropped,
        unpaired: tail.unpaired,
        slow_waited: tail.slow_waited,
        tcp: tcp(&tail.tcp),
        excess_ns: tail.excess_ns(),
        stages: tail.rows.iter().map(|row| stage(tail, row)).collect(),
        findings: view.findings.iter().map(cause).collect(),
        slowest: tail.slowest.iter().map(|packet| slow(tail, packet)).collect(),
        kernel_counters: analysis.kernel_counters.as_ref().map(Counters::from),
    })
}

fn tcp(tcp: &TcpView) -> Tcp<'_> {
    Tcp {
        segments: tcp.segments,
        out_of_order: tcp.out_of_order,
        zero_windows: tcp.zero_windows,
        timeout_ns: tcp.timeout_waits.as_ref().map(|waits| waits.shortest_ns),
        sent_again: tcp.retransmissions.iter().map(sent_again).collect(),
    }
}

fn sent_again(group: &RetransmissionGroup) -> SentAgain<'_> {
    let dropped_at = group.dropped_at.as_ref();
    SentAgain {
        why: group.trigger.name(),
        segments: group.segments,
        waited_ns: group.waited_ns,
        longest_ns: group.longest_ns,
        drop_reason: dropped_at.map(|site| site.reason.as_str()),
        drop_location: dropped_at.map(|site| site.location.as_str()),
        place: dropped_at.map(|site| &site.key),
    }
}

fn set(set: SampleSet) -> Set {
    let SampleSet { packets, units, sum_ns, mean_ns } = set;
    Set { packets, units, sum_ns, mean_ns }
}

fn stage<'a>(tail: &Tail, row: &'a TailRow) -> Row<'a> {
    Row {
        key: &row.key,
        excess_ns: row.excess_ns(),
        share: tail.share(row.excess_ns()),
        slow_ns: row.slow_ns,
        ordinary_ns: row.ordinary_ns,
        slow_sum_ns: row.slow_sum_ns,
        ordinary_sum_ns: row.ordinary_sum_ns,
        slow_packets: row.slow_packets,
        ordinary_packets: row.ordinary_packets,
        leads: row.dominant,
    }
}

fn cause<'a>(view: &'a FindingView<'_>) -> Cause<'a> {
    let FindingView { finding, severity, confidence, what, evidence, possible, check, advice } = view;
    let advice = advice.iter().map(|advice| Advice { what: advice.what, source: advice.source });
    Cause {
        id: finding.rule.id,
        severity,
        what,
        confidence,
        can_come_from: possible,
        check,
        evidence,
        share: finding.share,
        lost_ns: finding.lost_ns,
        packets: finding.packets,
        sent_again: finding.retransmitted.segments,
        timeouts: finding.retransmitted.timeouts,
        waited_ns: finding.retransmitted.waited_ns,
        place: &finding.key,
        cpu: finding.cpu.map(|single| single.cpu),
        flows: finding.cpu.map(|single| single.flows),
        drop_reason: finding.drop.as_ref().map(|(reason, _)| reason.as_str()),
        drop_location: finding.drop.as_ref().map(|(_, location)| location.as_str()),
        lossy_flows: finding.lossy.map(|lossy| lossy.flows),
        silenced_flows: finding.lossy.map(|lossy| lossy.silenced),
        throttled: finding.throttled.as_ref(),
        advice: advice.collect(),
    }
}

fn slow<'a>(tail: &Tail, packet: &'a SlowPacket) -> Slow<'a> {
    let RecordHeader { id, flow, bytes, cpu, outcome, .. } = packet.header;
    let ip = |bytes| if flow.version == 0 { String::new() } else { address(flow.version, bytes).to_string() };
    Slow {
        id,
        start_ns: packet.start_ns.saturating_sub(tail.analysis.header.start_monotonic_ns),
        ns: packet.ns,
        protocol: protocol(flow.protocol),
        source: ip(&flow.source),
        source_port: flow.source_port,
        destination: ip(&flow.destination),
        destination_port: flow.destination_port,
        bytes,
        cpu,
        dropped: outcome == Outcome::Dropped as u8,
        steps: packet
            .steps
            .iter()
            .map(|step| Step { at_ns: step.at_ns, ns: step.ns, cpu: step.cpu, key: &step.key })
            .collect(),
    }
}
