//! The comparison as text for a terminal.

use super::result::Run;
use super::summary::{Comparison, Row, percentiles};
use overlay_trace_analysis::report::table::lines;
use overlay_trace_analysis::report::units::{bit_rate, percent, time};

/// The number of layers with a column of their own.
const LAYERS: usize = 8;
/// The percentiles of the table.
const SHOWN: [&str; 5] = ["p50", "p99", "p99.9", "p99.99", "max"];

/// The tables, the labs that were not measured, and the method.
pub fn text(comparison: &Comparison) -> String {
    let mut out = String::new();
    if !comparison.rows.is_empty() {
        out += &summary_table(comparison);
        out += "\n\n";
        out += &layer_table(comparison);
        out.push('\n');
        out += &run_table(comparison);
    }
    if !comparison.absent.is_empty() {
        out += "\nnot measured\n";
    }
    for absent in &comparison.absent {
        let what = if absent.failed { "failed" } else { "not available here" };
        out += &format!("{}: {what}: {}\n", absent.lab, absent.reason);
    }
    out.push('\n');
    for sentence in &comparison.sentences {
        out += &format!("{sentence}\n");
    }
    out
}

fn summary_table(comparison: &Comparison) -> String {
    let levels = comparison.levels();
    let mut heading: Vec<String> = ["lab", "throughput", "of host"].map(str::to_owned).to_vec();
    let run = comparison.latency_run().unwrap_or("request");
    heading.extend(SHOWN.iter().enumerate().map(|(at, name)| match at {
        0 => format!("{run} {name}"),
        _ => (*name).to_owned(),
    }));
    heading.extend(["CPU/packet", "median", "mean", "socket wait"].map(str::to_owned));
    heading.extend((0..levels).map(|level| format!("level {level}")));
    let heading: Vec<&str> = heading.iter().map(String::as_str).collect();
    let rows: Vec<Vec<String>> = comparison.rows.iter().map(|row| cells(row, levels)).collect();
    table(&heading, &rows, 1)
}

/// A table without columns that are empty in all rows.
fn table(heading: &[&str], rows: &[Vec<String>], numbers: usize) -> String {
    let columns: Vec<usize> =
        (0..heading.len()).filter(|&column| rows.iter().any(|row| row[column] != "-")).collect();
    let heading: Vec<&str> = columns.iter().map(|&column| heading[column]).collect();
    let rows: Vec<Vec<String>> =
        rows.iter().map(|row| columns.iter().map(|&column| row[column].clone()).collect()).collect();
    lines(&heading, &rows, numbers).join("\n")
}

/// All runs, if the plan has several of a kind, which the summary table does not show.
fn run_table(comparison: &Comparison) -> String {
    let has_several = |row: &Row| {
        let runs = &row.measured.runs;
        runs.iter()
            .any(|run| runs.iter().filter(|other| other.traffic.name() == run.traffic.name()).count() > 1)
    };
    if !comparison.rows.iter().any(has_several) {
        return String::new();
    }
    let mut heading = vec!["lab", "run", "received", "lost", "not sent", "jitter"];
    let names = percentiles(&Default::default()).map(|(name, _)| name);
    heading.extend(names);
    let rows: Vec<Vec<String>> = comparison
        .rows
        .iter()
        .flat_map(|row| row.measured.runs.iter().map(|run| run_cells(&row.lab, run)))
        .collect();
    format!("\n{}\n", table(&heading, &rows, 2))
}

fn run_cells(lab: &str, run: &Run) -> Vec<String> {
    let traffic = &run.traffic;
    let dash = || "-".to_owned();
    let part = |count: u64, of: u64| if of == 0 { dash() } else { percent(count as f64 / of as f64) };
    let mut cells = vec![
        lab.to_owned(),
        run.name.clone(),
        bit_rate(traffic.throughput_bits_per_s),
        part(traffic.lost, traffic.sent),
        part(traffic.unsent, traffic.sent + traffic.unsent),
        traffic.jitter_ns.map_or_else(dash, |ns| time(ns as f64)),
    ];
    let latency = traffic.latency.clone().unwrap_or_default();
    cells.extend(percentiles(&latency).map(|(_, ns)| ns.map_or_else(dash, |ns| time(ns as f64))));
    cells
}

fn cells(row: &Row, levels: usize) -> Vec<String> {
    let or_dash = |cell: Option<String>| cell.unwrap_or("-".to_owned());
    let mut cells = vec![
        row.lab.clone(),
        or_dash(row.throughput_bits_per_s.map(bit_rate)),
        or_dash(row.throughput_share.map(percent)),
    ];
    let all = row.latency().map(percentiles).unwrap_or_default();
    for shown in SHOWN {
        let found = all.iter().find(|(name, _)| *name == shown).and_then(|(_, ns)| *ns);
        cells.push(or_dash(found.map(|ns| time(ns as f64))));
    }
    cells.push(or_dash(row.cpu_ns_per_packet.map(time)));
    cells.push(time(row.measured.stages.median_ns as f64));
    cells.push(time(row.per_packet.whole_ns));
    cells.push(time(row.per_packet.socket_wait_ns));
    let level = |level| row.per_packet.levels_ns.get(level).filter(|ns| **ns > 0.0);
    cells.extend((0..levels).map(|number| or_dash(level(number).map(|ns| time(*ns)))));
    cells
}

/// The layers with the most time, and the sum of all others; without socket wait.
fn layer_table(comparison: &Comparison) -> String {
    let (shown, rest) = comparison.layers.split_at(comparison.layers.len().min(LAYERS));
    let mut heading = vec!["network"];
    heading.extend(shown.iter().map(String::as_str));
    if !rest.is_empty() {
        heading.push("others");
    }
    heading.push("all");
    let cell = |ns: f64| if ns > 0.0 { time(ns) } else { "-".to_owned() };
    let row = |row: &Row| {
        let mut cells = vec![row.lab.clone()];
        cells.extend(shown.iter().map(|layer| cell(row.per_packet.layer(layer))));
        if !rest.is_empty() {
            cells.push(cell(rest.iter().map(|layer| row.per_packet.layer(layer)).sum()));
        }
        cells.push(cell(row.per_packet.network_ns()));
        cells
    };
    let rows: Vec<Vec<String>> = comparison.rows.iter().map(row).collect();
    lines(&heading, &rows, 1).join("\n")
}
