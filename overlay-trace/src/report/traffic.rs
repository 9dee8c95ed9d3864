//! The results of traffic that ran during a recording, as far as they have the usual fields.

use serde_json::Value;

use super::{
    table::lines,
    units::{bit_rate, count, time},
};

const HEADING: [&str; 13] = [
    "traffic", "sent", "received", "lost", "rate", "mean", "p50", "p99", "p99.9", "p99.99", "p99.999", "max",
    "jitter",
];

/// A table of results, without the columns that none of them has; empty without results.
pub(super) fn table(results: &[Value]) -> String {
    if results.is_empty() {
        return String::new();
    }
    let rows: Vec<Vec<String>> = results.iter().map(row).collect();
    let columns: Vec<usize> =
        (0..HEADING.len()).filter(|&column| rows.iter().any(|row| row[column] != "-")).collect();
    let heading: Vec<&str> = columns.iter().map(|&column| HEADING[column]).collect();
    let rows: Vec<Vec<String>> =
        rows.iter().map(|row| columns.iter().map(|&column| row[column].clone()).collect()).collect();
    format!("\n{}\n", lines(&heading, &rows, 1).join("\n"))
}

fn row(result: &Value) -> Vec<String> {
    let word = |name: &str| result.get(name).and_then(Value::as_str).unwrap_or_default();
    let number = |name: &str| result.get(name).and_then(Value::as_u64).map(count);
    let ns = |value: Option<&Value>| value.and_then(Value::as_f64).map(time);
    let latency = |name: &str| ns(result.get("latency").and_then(|latency| latency.get(name)));
    let mut row = vec![
        Some(format!("{} {} {} to {}", word("protocol"), word("kind"), word("from"), word("to"))),
        number("sent"),
        number("answered").or_else(|| number("received")),
        number("lost"),
        result.get("throughput_bits_per_s").and_then(Value::as_f64).map(bit_rate),
    ];
    row.extend(["mean", "p50", "p99", "p999", "p9999", "p99999", "max"].map(latency));
    row.push(ns(result.get("jitter_ns")));
    row.into_iter().map(|cell| cell.unwrap_or("-".into())).collect()
}
