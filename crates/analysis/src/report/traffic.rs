//! The results of the load generator that ran during a recording, as far as they have the usual fields.

use serde_json::Value;

use crate::breakdown::SUPPORT;

use super::{
    Detail,
    table::lines_with_values,
    units::{bit_rate, count, time},
};

const COUNTS: [&str; 9] =
    ["traffic", "from", "to", "sent", "received", "lost", "retransmits", "rate", "jitter"];
const LATENCY: [&str; 9] = ["latency", "mean", "p50", "p90", "p99", "p99.9", "p99.99", "p99.999", "max"];

/// Tables of results, without columns that no result has; empty without results. The short ones are also without
/// percentiles that a result has too few answers for.
pub(super) fn tables(results: &[Value], detail: Detail) -> String {
    let counts: Vec<Vec<String>> = results.iter().map(counts).collect();
    let latencies: Vec<Vec<String>> = results.iter().flat_map(|result| latencies(result, detail)).collect();
    table(&COUNTS, &counts, 3) + &table(&LATENCY, &latencies, 1)
}

/// The figures of a distribution in JSON, with the part of all values that must lie beyond them.
const FIGURES: [(&str, f64); 8] = [
    ("mean", f64::INFINITY),
    ("p50", 0.5),
    ("p90", 0.1),
    ("p99", 1e-2),
    ("p999", 1e-3),
    ("p9999", 1e-4),
    ("p99999", 1e-5),
    ("max", f64::INFINITY),
];

fn table(heading: &[&str], rows: &[Vec<String>], numbers: usize) -> String {
    if rows.is_empty() {
        return String::new();
    }
    format!("\n{}\n", lines_with_values(heading, rows, numbers).join("\n"))
}

fn counts(result: &Value) -> Vec<String> {
    let number = |name: &str| result.get(name).and_then(Value::as_u64).map(count);
    let measure = |name: &str, show: fn(f64) -> String| result.get(name).and_then(Value::as_f64).map(show);
    let cells = [
        Some(name(result)),
        Some(word(result, "from").into()),
        Some(word(result, "to").into()),
        number("sent"),
        number("received").or_else(|| number("answered")),
        number("lost"),
        number("retransmits"),
        measure("throughput_bits_per_s", bit_rate),
        measure("jitter_ns", time),
    ];
    cells.into_iter().map(|cell| cell.unwrap_or("-".into())).collect()
}

/// The distribution of a result's latency and, where present, of the load generator's scheduling delay: how much later
/// than planned requests were sent. The load is open loop and latency counts from the planned time, so that delay is part
/// of it and coordinated omission is avoided.
fn latencies(result: &Value, detail: Detail) -> Vec<Vec<String>> {
    let row = |key: &str, what: &str| {
        let dist = result.get(key).filter(|dist| dist.is_object())?;
        let mut cells = vec![format!("{}{what}", name(result))];
        let count = dist.get("count").and_then(Value::as_u64).filter(|_| detail == Detail::Short);
        let is_supported = |beyond: f64| count.is_none_or(|count| count as f64 * beyond >= SUPPORT - 1e-6);
        let cell = |(name, beyond): (&str, f64)| match dist.get(name).and_then(Value::as_f64) {
            Some(ns) if is_supported(beyond) => time(ns),
            _ => "-".into(),
        };
        cells.extend(FIGURES.map(cell));
        Some(cells)
    };
    [row("latency", ""), row("lateness", ", scheduling delay")].into_iter().flatten().collect()
}

fn name(result: &Value) -> String {
    format!("{} {}", word(result, "protocol"), word(result, "kind"))
}

fn word<'a>(result: &'a Value, name: &str) -> &'a str {
    result.get(name).and_then(Value::as_str).unwrap_or_default()
}
