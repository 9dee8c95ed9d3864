//! A tail as one object.

use anyhow::Result;
use overlay_trace_common::record::{Outcome, RecordHeader};
use serde::Serialize;

use super::{
    flow::{address, protocol},
    json::{Capture, Losses, Packets, pretty},
};
use crate::breakdown::Key;
use crate::tail::{Finding, Loss, Side, SlowPacket, Tail, TailRow, TcpView};

/// The version of the schema.
const SCHEMA: u32 = 1;

#[derive(Serialize)]
struct Report<'a> {
    schema: u32,
    capture: Capture<'a>,
    packets: Packets,
    losses: Losses,
    complete: bool,
    of: &'a str,
    above: String,
    threshold_ns: u64,
    slow: Cohort,
    ordinary: Cohort,
    slow_dropped: u64,
    /// Requests of which no answer was found.
    unpaired: u64,
    /// Slow requests that waited for TCP's retransmission timeout.
    slow_waited: u64,
    tcp: Tcp<'a>,
    /// What the stages' `excess_ns` add up to.
    excess_ns: i128,
    stages: Vec<Row<'a>>,
    findings: Vec<Cause<'a>>,
    slowest: Vec<Slow<'a>>,
}

#[derive(Serialize)]
struct Tcp<'a> {
    segments: u64,
    out_of_order: u64,
    zero_windows: u64,
    /// The shortest wait for a timeout.
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
struct Cohort {
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
    leads: u64,
}

#[derive(Serialize)]
struct Cause<'a> {
    id: &'a str,
    severity: &'a str,
    what: &'a str,
    share: Option<f64>,
    lost_ns: u128,
    packets: u64,
    /// Segments that TCP sent again because of it, and what it waited for them.
    sent_again: u64,
    timeouts: u64,
    waited_ns: u128,
    place: &'a Key,
    /// The one CPU that all was on, and of how many flows.
    #[serde(skip_serializing_if = "Option::is_none")]
    cpu: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    flows: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    drop_reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    drop_location: Option<&'a str>,
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
    /// Since the beginning of the recording.
    start_ns: u64,
    ns: u64,
    protocol: String,
    source: String,
    source_port: u16,
    destination: String,
    destination_port: u16,
    bytes: u32,
    /// The CPU on which the way ended.
    cpu: u16,
    dropped: bool,
    steps: Vec<Step<'a>>,
}

#[derive(Serialize)]
struct Step<'a> {
    at_ns: u64,
    ns: u64,
    /// The CPU that the packet was on, or that emptied the queue it waited in.
    cpu: Option<u16>,
    #[serde(flatten)]
    key: &'a Key,
}

/// The tail as one object.
pub(super) fn report(tail: &Tail) -> Result<Vec<u8>> {
    let analysis = &tail.analysis;
    pretty(&Report {
        schema: SCHEMA,
        capture: Capture::of(analysis),
        packets: Packets::of(analysis),
        losses: Losses::of(analysis),
        complete: analysis.complete,
        of: tail.of.name(),
        above: tail.above.to_string(),
        threshold_ns: tail.threshold_ns,
        slow: cohort(tail.slow),
        ordinary: cohort(tail.ordinary),
        slow_dropped: tail.slow_dropped,
        unpaired: tail.unpaired,
        slow_waited: tail.slow_waited,
        tcp: tcp(&tail.tcp),
        excess_ns: tail.excess_ns(),
        stages: tail.rows.iter().map(|row| stage(tail, row)).collect(),
        findings: tail.findings.iter().map(cause).collect(),
        slowest: tail.slowest.iter().map(|packet| slow(tail, packet)).collect(),
    })
}

fn tcp(tcp: &TcpView) -> Tcp<'_> {
    Tcp {
        segments: tcp.segments,
        out_of_order: tcp.out_of_order,
        zero_windows: tcp.zero_windows,
        timeout_ns: tcp.plateau.as_ref().map(|(shortest, _)| *shortest),
        sent_again: tcp.losses.iter().map(sent_again).collect(),
    }
}

fn sent_again(loss: &Loss) -> SentAgain<'_> {
    let lost_at = loss.lost_at.as_ref();
    SentAgain {
        why: loss.again.name(),
        segments: loss.segments,
        waited_ns: loss.waited_ns,
        longest_ns: loss.longest_ns,
        drop_reason: lost_at.map(|lost| lost.reason.as_str()),
        drop_location: lost_at.map(|lost| lost.location.as_str()),
        place: lost_at.map(|lost| &lost.key),
    }
}

fn cohort(side: Side) -> Cohort {
    Cohort { packets: side.packets, units: side.units, sum_ns: side.sum_ns, mean_ns: side.mean_ns }
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
        leads: row.leads,
    }
}

fn cause(finding: &Finding) -> Cause<'_> {
    let advice = finding.rule.advice.iter().map(|advice| Advice { what: advice.what, source: advice.source });
    Cause {
        id: finding.rule.id,
        severity: finding.severity.name(),
        what: finding.rule.what,
        share: finding.share,
        lost_ns: finding.lost_ns,
        packets: finding.packets,
        sent_again: finding.again.segments,
        timeouts: finding.again.timeouts,
        waited_ns: finding.again.waited_ns,
        place: &finding.key,
        cpu: finding.core.map(|core| core.cpu),
        flows: finding.core.map(|core| core.flows),
        drop_reason: finding.drop.as_ref().map(|(reason, _)| reason.as_str()),
        drop_location: finding.drop.as_ref().map(|(_, location)| location.as_str()),
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
