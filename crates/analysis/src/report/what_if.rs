//! Predicted times without a part of the network, as text and as one JSON object.

use anyhow::Result;
use serde::Serialize;

use overlay_trace_format::Balance;

use super::{
    heading::{LOSSES_UNKNOWN, unbalanced},
    json::pretty,
    table::lines,
    units::{count, percent, time},
};
use crate::breakdown::Dist;
use crate::what_if::{Gain, Prediction, WhatIf};

/// A figure of a distribution.
type Figure = fn(&Dist) -> f64;
const FIGURES: [(&str, Figure); 6] = [
    ("mean", Dist::mean),
    ("p50", |dist| dist.quantile(0.5) as f64),
    ("p90", |dist| dist.quantile(0.9) as f64),
    ("p99", |dist| dist.quantile(0.99) as f64),
    ("p99.9", |dist| dist.quantile(0.999) as f64),
    ("p99.99", |dist| dist.quantile(0.9999) as f64),
];
/// The version of the schema.
const SCHEMA: u32 = 1;

/// The predictions as text.
pub(super) fn text(what_if: &WhatIf) -> String {
    let WhatIf { file, node, kernel, probe_set, now, predictions, balance, complete } = what_if;
    let mut out = answer(what_if);
    out += &format!(
        "\n\ncapture   {file}: node {node}, kernel {kernel}, probe set {probe_set}, {} packets; times are net of probe overhead\n",
        count(now.count())
    );
    let losses = match balance {
        Balance::Unknown => Some(LOSSES_UNKNOWN.to_owned()),
        &balance => unbalanced(balance, *complete),
    };
    out += &losses.map_or_else(String::new, |losses| format!("losses    {losses}\n"));
    if predictions.is_empty() {
        return out;
    }
    let mut heading = vec!["per packet"];
    heading.extend(FIGURES.map(|(name, _)| name));
    let mut rows = vec![row("now", FIGURES.map(|(_, of)| time(of(now))))];
    for prediction in predictions {
        let gains = FIGURES.map(|(_, of)| prediction.gain(now, of));
        rows.push(row(&prediction.change.to_string(), FIGURES.map(|(_, of)| time(of(&prediction.then)))));
        rows.push(row("  saving", gains.map(|gain| time(gain.estimate))));
        rows.push(row("  at least", gains.map(|gain| time(gain.least))));
        rows.push(row("  at most", gains.map(|gain| time(gain.most))));
    }
    out + "\n"
        + &lines(&heading, &rows, 1).join("\n")
        + "\n(at least: only the work of the removed stages is saved, all waiting stays; at most: all waiting that depends on them\n \
           is saved too. The cost of a replacement, and a change of the load, are not included.)\n"
}

fn row<const N: usize>(name: &str, cells: [String; N]) -> Vec<String> {
    [vec![name.to_owned()], cells.to_vec()].concat()
}

/// The largest saving in one sentence.
pub(super) fn answer(what_if: &WhatIf) -> String {
    let now = &what_if.now;
    let mean = |prediction: &Prediction| prediction.gain(now, Dist::mean);
    let largest = what_if.predictions.iter().max_by(|a, b| mean(a).estimate.total_cmp(&mean(b).estimate));
    let Some(largest) = largest else {
        return match now.count() {
            0 => "No packet finished its path during the recording.".into(),
            _ => "The packets pass nothing that could be removed.".into(),
        };
    };
    let Gain { estimate, least, most } = mean(largest);
    let part = |ns: f64| percent(ns / now.mean().max(1.0));
    format!(
        "Packets would be fastest {}: {} instead of {}, {} less ({}; between {} and {}).",
        largest.change,
        time(largest.then.mean()),
        time(now.mean()),
        time(estimate),
        part(estimate),
        part(least),
        part(most)
    )
}

#[derive(Serialize)]
struct Report<'a> {
    schema: u32,
    file: &'a str,
    node: &'a str,
    kernel: &'a str,
    probe_set: &'a str,
    packets: u64,
    /// As in the JSON report.
    missing_records: u64,
    surplus_records: u64,
    now_ns: &'a Dist,
    predictions: Vec<Predicted<'a>>,
}

#[derive(Serialize)]
struct Predicted<'a> {
    change: String,
    then_ns: &'a Dist,
    slowest_ns: &'a Dist,
    fastest_ns: &'a Dist,
}

fn predicted(prediction: &Prediction) -> Predicted<'_> {
    let Prediction { change, then, slowest, fastest } = prediction;
    Predicted { change: change.to_string(), then_ns: then, slowest_ns: slowest, fastest_ns: fastest }
}

/// The predictions as one JSON object.
pub(super) fn json(what_if: &WhatIf) -> Result<Vec<u8>> {
    pretty(&Report {
        schema: SCHEMA,
        file: &what_if.file,
        node: &what_if.node,
        kernel: &what_if.kernel,
        probe_set: &what_if.probe_set,
        packets: what_if.now.count(),
        missing_records: what_if.balance.missing(),
        surplus_records: what_if.balance.surplus(),
        now_ns: &what_if.now,
        predictions: what_if.predictions.iter().map(predicted).collect(),
    })
}
