//! The comparison as one long table with one number per line, for spreadsheets.

use anyhow::{Result, anyhow};

use super::result::Run;
use super::summary::{Comparison, Row, percentiles};

type Table = csv::Writer<Vec<u8>>;

/// The comparison as comma-separated values: lab, scope of the number (the run, or `packet`), name, unit, value. A lab
/// that was not measured has one line with the reason.
///
/// # Errors
///
/// When it cannot be encoded.
pub fn csv(comparison: &Comparison) -> Result<Vec<u8>> {
    let mut table = Table::from_writer(Vec::new());
    table.write_record(["lab", "of", "measure", "unit", "value"])?;
    for row in &comparison.rows {
        lab_lines(&mut table, row)?;
        for run in &row.measured.runs {
            run_lines(&mut table, &row.lab, run)?;
        }
        stage_lines(&mut table, row)?;
    }
    for absent in &comparison.absent {
        let status = if absent.failed { "failed" } else { "unavailable" };
        table.write_record([&absent.lab, "lab", status, "", &absent.reason])?;
    }
    table.into_inner().map_err(|error| anyhow!("cannot write the CSV: {error}"))
}

fn line(table: &mut Table, lab: &str, of: &str, measure: &str, unit: &str, value: f64) -> Result<()> {
    // Six decimals for small values, three for others, without trailing zeros.
    let value = if value.abs() < 10.0 { format!("{value:.6}") } else { format!("{value:.3}") };
    let value = value.trim_end_matches('0').trim_end_matches('.');
    Ok(table.write_record([lab, of, measure, unit, value])?)
}

fn lab_lines(table: &mut Table, row: &Row) -> Result<()> {
    let mut put =
        |of: &str, measure: &str, unit: &str, value| line(table, &row.lab, of, measure, unit, value);
    if let Some(share) = row.throughput_share {
        put("lab", "throughput of host", "share", share)?;
    }
    if let Some(ns) = row.cpu_ns_per_packet {
        put("lab", "cpu", "ns/packet", ns)?;
    }
    put("packet", "all", "ns/packet", row.per_packet.whole_ns)?;
    put("packet", "median", "ns", row.measured.stages.median_ns as f64)?;
    put("packet", "waiting in sockets", "ns/packet", row.per_packet.socket_wait_ns)?;
    for (level, ns) in row.per_packet.levels_ns.iter().enumerate() {
        put("packet", &format!("level {level}"), "ns/packet", *ns)?;
    }
    for (layer, ns) in &row.per_packet.layers_ns {
        put("packet", &format!("layer {layer}"), "ns/packet", *ns)?;
    }
    put("packet", "claimed by no stage", "share", row.measured.stages.other_share)?;
    put("packet", "packets", "packets", row.measured.stages.packets as f64)
}

fn run_lines(table: &mut Table, lab: &str, run: &Run) -> Result<()> {
    let traffic = &run.traffic;
    let mut put = |measure: &str, unit: &str, value| line(table, lab, &run.name, measure, unit, value);
    put("throughput", "bit/s", traffic.throughput_bits_per_s)?;
    if let [least, .., most] = run.throughputs[..] {
        put("throughput least", "bit/s", least)?;
        put("throughput most", "bit/s", most)?;
    }
    for (measure, value) in [
        ("offered", traffic.offered_per_s),
        ("sent", (run.packets() > 0).then_some(traffic.sent as f64)),
        ("received", (run.packets() > 0).then_some(traffic.received as f64)),
        ("lost", (run.packets() > 0).then_some(traffic.lost as f64)),
        ("unsent", (run.packets() > 0).then_some(traffic.unsent as f64)),
        ("retransmits", traffic.retransmits.map(|count| count as f64)),
    ] {
        if let Some(value) = value {
            put(measure, if measure == "offered" { "1/s" } else { "packets" }, value)?;
        }
    }
    if let Some(jitter) = traffic.jitter_ns {
        put("jitter", "ns", jitter as f64)?;
    }
    if let Some(latency) = &traffic.latency {
        put("latency mean", "ns", latency.mean)?;
        for (name, ns) in percentiles(latency) {
            if let Some(ns) = ns {
                put(&format!("latency {name}"), "ns", ns as f64)?;
            }
        }
    }
    put("cpu, all of the machine", "ns", run.cpu.busy_ns as f64)?;
    put("cpu, interrupts", "ns", run.cpu.interrupts_ns as f64)?;
    put("cpu, threads of the kernel", "ns", run.cpu.kernel_ns as f64)?;
    put("cpu, own", "ns", run.cpu.own_ns as f64)
}

fn stage_lines(table: &mut Table, row: &Row) -> Result<()> {
    let stages = &row.measured.stages;
    for time in &stages.rows {
        let of = format!("level {} {}", time.level, time.direction);
        let wait = if time.kind == "wait" { " (wait)" } else { "" };
        let name = format!("{}{wait}", time.stage);
        line(table, &row.lab, &of, &name, "ns/packet", stages.per_packet(time))?;
    }
    Ok(())
}
