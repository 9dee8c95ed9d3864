//! The comparison as JSON. The schema is stable: keys are added, never changed.

use std::collections::BTreeMap;

use anyhow::Result;
use serde::Serialize;

use super::BASELINE;
use super::result::{Conditions, Cpu, StageTime};
use super::summary::{Comparison, Row};
use crate::traffic::TrafficReport;

/// The version of the schema.
const SCHEMA: u32 = 1;

#[derive(Serialize)]
struct Document<'a> {
    schema: u32,
    plan: &'a str,
    baseline: &'a str,
    conditions: &'a Conditions,
    sentences: &'a [String],
    labs: Vec<Lab<'a>>,
    absent: Vec<Absent<'a>>,
}

#[derive(Serialize)]
struct Absent<'a> {
    lab: &'a str,
    about: &'a str,
    status: &'a str,
    reason: &'a str,
}

#[derive(Serialize)]
struct Lab<'a> {
    lab: &'a str,
    about: &'a str,
    notes: &'a [String],
    throughput_bits_per_s: Option<f64>,
    throughput_share: Option<f64>,
    cpu_ns_per_packet: Option<f64>,
    per_packet_ns: f64,
    median_packet_ns: u64,
    socket_wait_ns: f64,
    levels_ns: &'a [f64],
    layers_ns: BTreeMap<&'a str, f64>,
    runs: Vec<Run<'a>>,
    probe_set: &'a str,
    packets: u64,
    sum_ns: u64,
    other_share: f64,
    losses: &'a str,
    probe_cost_taken_off: bool,
    stages: &'a [StageTime],
    took_s: f64,
}

#[derive(Serialize)]
struct Run<'a> {
    name: &'a str,
    packets: u64,
    throughputs_bits_per_s: &'a [f64],
    cpu: Cpu,
    #[serde(flatten)]
    traffic: &'a TrafficReport,
}

/// The comparison as one object.
///
/// # Errors
///
/// When it cannot be encoded.
pub fn json(comparison: &Comparison) -> Result<Vec<u8>> {
    let absent = comparison.absent.iter().map(|absent| Absent {
        lab: &absent.lab,
        about: &absent.about,
        status: if absent.failed { "failed" } else { "unavailable" },
        reason: &absent.reason,
    });
    let document = Document {
        schema: SCHEMA,
        plan: comparison.plan.name,
        baseline: BASELINE,
        conditions: &comparison.conditions,
        sentences: &comparison.sentences,
        labs: comparison.rows.iter().map(lab).collect(),
        absent: absent.collect(),
    };
    let mut bytes = serde_json::to_vec_pretty(&document)?;
    bytes.push(b'\n');
    Ok(bytes)
}

fn lab(row: &Row) -> Lab<'_> {
    let measured = &row.measured;
    let runs = measured.runs.iter().map(|run| Run {
        name: &run.name,
        packets: run.packets(),
        throughputs_bits_per_s: &run.throughputs,
        cpu: run.cpu,
        traffic: &run.traffic,
    });
    Lab {
        lab: &row.lab,
        about: &row.about,
        notes: &measured.notes,
        throughput_bits_per_s: row.throughput_bits_per_s,
        throughput_share: row.throughput_share,
        cpu_ns_per_packet: row.cpu_ns_per_packet,
        per_packet_ns: row.per_packet.whole_ns,
        median_packet_ns: measured.stages.median_ns,
        socket_wait_ns: row.per_packet.socket_wait_ns,
        levels_ns: &row.per_packet.levels_ns,
        layers_ns: row.per_packet.layers_ns.iter().map(|(layer, ns)| (layer.as_str(), *ns)).collect(),
        runs: runs.collect(),
        probe_set: &measured.stages.probe_set,
        packets: measured.stages.packets,
        sum_ns: measured.stages.sum_ns,
        other_share: measured.stages.other_share,
        losses: &measured.stages.losses,
        probe_cost_taken_off: measured.stages.is_net,
        stages: &measured.stages.rows,
        took_s: measured.took_s,
    }
}
