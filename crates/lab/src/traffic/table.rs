//! Traffic reports as a table.

use comfy_table::{CellAlignment, Table, presets};

use super::distribution::Distribution;
use super::report::TrafficReport;
use super::spec::Kind;

/// The explanation under a table with latencies.
const OPEN_LOOP_NOTE: &str = "\
Latency is measured from the scheduled send time (open loop), which avoids coordinated omission.
sched delay: scheduling delay of the load generator, from the scheduled send time to the send call.
";

/// One row per run.
pub fn table(reports: &[TrafficReport]) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header([
        "traffic",
        "offered/s",
        "sent",
        "lost",
        "Mbit/s",
        "retrans",
        "jitter",
        "mean",
        "p50",
        "p90",
        "p99",
        "p99.9",
        "p99.99",
        "max",
        "sched delay p99",
    ]);
    for report in reports {
        table.add_row(row(report));
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    let lines: Vec<String> = table.lines().map(|line| line.trim_end().to_string()).collect();
    let has_latency = reports.iter().any(|report| report.latency.is_some());
    format!("{}\n{}", lines.join("\n"), if has_latency { OPEN_LOOP_NOTE } else { "" })
}

fn row(report: &TrafficReport) -> Vec<String> {
    let bulk = report.kind == Kind::Bulk;
    let count = |number: u64| if bulk { dash() } else { number.to_string() };
    let mut row = vec![
        report.name(),
        report.offered_per_s.map_or_else(dash, |rate| format!("{rate:.0}")),
        match report.unsent {
            0 => count(report.sent),
            unsent => format!("{} of {}", report.sent, report.sent + unsent),
        },
        count(report.lost),
        format!("{:.2}", report.throughput_bits_per_s / 1e6),
        report.retransmits.map_or_else(dash, |count| count.to_string()),
        report.jitter_ns.map_or_else(dash, time),
    ];
    match &report.latency {
        Some(Distribution { mean, p50, p90, p99, p999, p9999, max, count, .. }) if *count > 0 => {
            row.push(time(*mean as u64));
            row.extend([*p50, *p90, *p99, *p999, *p9999, *max].map(time));
        }
        _ => row.extend((0..7).map(|_| dash())),
    }
    row.push(report.scheduling_delay.as_ref().map_or_else(dash, |delay| time(delay.p99)));
    row
}

fn dash() -> String {
    "–".to_string()
}

/// Nanoseconds with three digits and a unit.
fn time(ns: u64) -> String {
    let (value, unit) = match ns {
        0..1_000 => return format!("{ns} ns"),
        1_000..1_000_000 => (ns as f64 / 1e3, "µs"),
        1_000_000..1_000_000_000 => (ns as f64 / 1e6, "ms"),
        _ => (ns as f64 / 1e9, "s"),
    };
    let digits = if value < 10.0 { 2 } else { usize::from(value < 100.0) };
    format!("{value:.digits$} {unit}")
}
