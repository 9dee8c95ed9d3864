//! What stands above every report for people: what was recorded, and what was lost.

use std::fmt::Write;

use super::units::{count, percent, time};
use crate::analysis::Analysis;

/// What was recorded, and what was lost.
pub(super) fn heading(analysis: &Analysis) -> String {
    let header = &analysis.header;
    let seconds = analysis.last.duration_ns as f64 / 1e9;
    let mut out = format!(
        "capture   node {}, kernel {}, probe set {}, {seconds:.1} s\n",
        header.node, header.kernel, header.probe_set,
    );
    if !header.filter.is_empty() {
        let _ = writeln!(out, "filter    {}", header.filter);
    }
    let _ = writeln!(out, "packets   {}", packets(analysis));
    let _ = writeln!(out, "losses    {}", losses(analysis));
    let lost = analysis.last.counters.lost_records;
    if lost > 0 {
        let part = percent(lost as f64 / analysis.finished() as f64);
        let _ = writeln!(
            out,
            "          {part} of the finished packets have no record: the rest is what is shown."
        );
    }
    if !analysis.complete {
        out += "          The recording ended abruptly: the numbers are those up to its last second.\n";
    }
    for (number, line) in wrap(&unseen(analysis), 110).iter().enumerate() {
        let _ = writeln!(out, "{:<10}{line}", if number == 0 { "unseen" } else { "" });
    }
    let _ = writeln!(out, "probes    {}", probe_costs(analysis));
    out
}

fn packets(analysis: &Analysis) -> String {
    let outcomes = &analysis.outcomes;
    let mut text = format!(
        "{} finished: {} delivered, {} dropped, {} forwarded",
        count(analysis.finished()),
        count(outcomes.delivered),
        count(outcomes.dropped),
        count(outcomes.forwarded)
    );
    for (number, what) in [(outcomes.merged, "merged"), (outcomes.split, "split")] {
        if number > 0 {
            let _ = write!(text, ", {} {what}", count(number));
        }
    }
    let _ = write!(text, "; {} unfinished", count(analysis.unfinished()));
    text
}

/// Every loss counter in words; the same in every output for people.
pub(super) fn losses(analysis: &Analysis) -> String {
    let counters = &analysis.last.counters;
    let mut parts: Vec<String> = counters
        .losses()
        .into_iter()
        .map(|(number, what)| match (what, counters.probe_misses) {
            ("probe misses", None) => "probe misses not told by this kernel".into(),
            _ => format!("{} {what}", count(number)),
        })
        .collect();
    let here = [
        (analysis.cut_ways, "ways too long"),
        (analysis.inconsistent, "inconsistent"),
        (analysis.orphans, "parts without their packet"),
        (analysis.incomplete, "packets without all their parts"),
    ];
    let any = here.iter().filter(|(number, _)| *number > 0);
    parts.extend(any.map(|(number, what)| format!("{} {what}", count(*number))));
    parts.join(", ")
}

/// The stages that could not be watched and why, each reason once.
fn unseen(analysis: &Analysis) -> String {
    let mut reasons: Vec<(&str, Vec<&str>)> = Vec::new();
    for unseen in &analysis.header.unseen_stages {
        match reasons.iter_mut().find(|(reason, _)| *reason == unseen.reason) {
            Some((_, stages)) => stages.push(&unseen.stage),
            None => reasons.push((&unseen.reason, vec![&unseen.stage])),
        }
    }
    let parts: Vec<String> =
        reasons.iter().map(|(reason, stages)| format!("{} ({reason})", stages.join(", "))).collect();
    if parts.is_empty() {
        "nothing: every stage of the probe set was watched".into()
    } else {
        parts.join("; ")
    }
}

/// A sentence in lines of at most `width` characters, the further ones set in.
fn wrap(sentence: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in sentence.split_whitespace() {
        let full = lines.last().is_some_and(|line| line.chars().count() + word.chars().count() >= width);
        if full {
            lines.push("  ".into());
        }
        if let Some(line) = lines.last_mut() {
            if !line.trim().is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines
}

fn probe_costs(analysis: &Analysis) -> String {
    let cost = &analysis.header.probe_cost_ns;
    let costs: Vec<String> =
        [("entry", cost.entry), ("exit", cost.exit), ("tracepoint", cost.tracepoint), ("tc", cost.tc)]
            .into_iter()
            .filter_map(|(name, ns)| Some(format!("{} {name}", time(ns?))))
            .collect();
    let hits = analysis.last.counters.hits as f64 / analysis.started().max(1) as f64;
    if costs.is_empty() {
        return format!("{hits:.1} hits per packet; their cost was not measured");
    }
    format!("{hits:.1} hits per packet at {}; \"net\" is with that taken off", costs.join(", "))
}
