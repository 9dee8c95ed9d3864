//! What stands above every report for people: what was recorded, and what was lost.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
};

use super::units::{count, percent, time};
use crate::breakdown::Analysis;
use overlay_trace_format::detection::{reasons, sentence};
use overlay_trace_format::{ProbeKind, Sampling};

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
    out += &sampled(analysis);
    let lost = analysis.last.counters.lost_records;
    if lost > 0 {
        let part = percent(lost as f64 / analysis.finished() as f64);
        let _ = writeln!(
            out,
            "          {part} of the finished packets have no record: the rest is what is shown."
        );
    }
    let full = analysis.last.counters.state_full;
    if full > 0 {
        let _ = writeln!(
            out,
            "          {} times a packet came by for which there was no place (--states): such packets are not in\n\
             {:<10}what is shown, or only from where there was one.",
            count(full),
            ""
        );
    }
    if !analysis.complete {
        out += "          The recording ended abruptly: the numbers are those up to its last second.\n";
    }
    let rest = [
        ("networks", networks(analysis)),
        ("unseen", unseen(analysis)),
        ("stages", watched(analysis)),
        ("later", seen_later(analysis)),
        ("probes", probe_costs(analysis)),
    ];
    for (name, text) in rest.iter().filter(|(_, text)| !text.is_empty()) {
        for (number, line) in wrap(text, 110).iter().enumerate() {
            let _ = writeln!(out, "{:<10}{line}", if number == 0 { name } else { "" });
        }
    }
    out
}

/// Which packets have a record of their own, as a line; empty where all have.
pub(super) fn sampled(analysis: &Analysis) -> String {
    let Some(Sampling { above, one_in }) = &analysis.header.sampling else { return String::new() };
    let (left_out, finished) = (analysis.last.counters.left_out, analysis.finished());
    let slow = match analysis.last.counters.slow_from_ns {
        Some(ns) if above.starts_with('p') => format!("{above} (in the end {})", time(ns as f64)),
        Some(ns) => time(ns as f64),
        None => above.clone(),
    };
    format!(
        "sampling  recorded whole: all packets above {slow}, all that were dropped or have parts, what TCP sent behind a\n\
         {:<10}loss, and 1 in {one_in} of the others, which stands for those before it too: {} of {} packets. Totals and\n\
         {:<10}percentiles are of all; what is rare among the others may be missing.\n",
        "",
        count(finished.saturating_sub(left_out)),
        count(finished),
        ""
    )
}

fn networks(analysis: &Analysis) -> String {
    match &analysis.header.networks {
        None => String::new(),
        Some(found) if found.is_empty() => sentence(found),
        Some(found) => format!("{}: {}", sentence(found), reasons(found)),
    }
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
            ("probe misses", Some(_)) if !counters.are_misses_known() => {
                format!("{} {what} (not told of {} probes)", count(number), count(counters.untold_probes))
            }
            _ => format!("{} {what}", count(number)),
        })
        .collect();
    let here = [
        (analysis.cut_paths, "ways too long"),
        (analysis.inconsistent, "inconsistent"),
        (analysis.orphans, "parts without their packet"),
        (analysis.incomplete, "packets without all their parts"),
    ];
    let any = here.iter().filter(|(number, _)| *number > 0);
    parts.extend(any.map(|(number, what)| format!("{} {what}", count(*number))));
    parts.join(", ")
}

/// The stages that could not be watched and why, each reason once; of those whose modules were not loaded, only
/// the modules.
fn unseen(analysis: &Analysis) -> String {
    let mut reasons: Vec<(&str, Vec<&str>)> = Vec::new();
    let mut modules = BTreeSet::new();
    for unseen in &analysis.header.unseen_stages {
        if let Some(module) = &unseen.module {
            modules.insert(module.as_str());
            continue;
        }
        match reasons.iter_mut().find(|(reason, _)| *reason == unseen.reason) {
            Some((_, stages)) => stages.push(&unseen.stage),
            None => reasons.push((&unseen.reason, vec![&unseen.stage])),
        }
    }
    let mut parts: Vec<String> =
        reasons.iter().map(|(reason, stages)| format!("{} ({reason})", stages.join(", "))).collect();
    if !modules.is_empty() {
        let modules = Vec::from_iter(modules).join(", ");
        parts.push(format!("what needs a module that was not loaded: {modules}"));
    }
    if parts.is_empty() {
        "nothing: every stage of the probe set was watched".into()
    } else {
        parts.join("; ")
    }
}

/// By which kinds of probes stages were watched; those that had to be content with kprobes are named.
fn watched(analysis: &Analysis) -> String {
    let mut kinds: BTreeMap<ProbeKind, Vec<&str>> = BTreeMap::new();
    for row in &analysis.header.stages {
        if let Some(probe) = row.probe {
            kinds.entry(probe).or_default().push(&row.name);
        }
    }
    let has_fentry = kinds.contains_key(&ProbeKind::Fentry);
    let parts: Vec<String> = kinds
        .iter()
        .map(|(kind, stages)| match kind {
            ProbeKind::Kprobe if has_fentry => {
                format!("{} by kprobe ({})", stages.len(), stages.join(", "))
            }
            _ => format!("{} by {}", stages.len(), kind.name()),
        })
        .collect();
    if parts.is_empty() { "not told".into() } else { parts.join(", ") }
}

/// The stages that were not watched from the beginning on, those of the same moment together; empty if all
/// were.
fn seen_later(analysis: &Analysis) -> String {
    let header = &analysis.header;
    let mut moments: BTreeMap<u64, Vec<&str>> = BTreeMap::new();
    for later in &header.seen_later {
        moments.entry(later.since_ns).or_default().push(&later.stage);
    }
    let parts: Vec<String> = moments
        .iter()
        .map(|(since_ns, stages)| {
            let seconds = since_ns.saturating_sub(header.start_monotonic_ns) as f64 / 1e9;
            format!(
                "{} (watched from {seconds:.1} s on: what they are in was not loaded before)",
                stages.join(", ")
            )
        })
        .collect();
    parts.join("; ")
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
    let kinds = [
        ("entry", cost.entry),
        ("exit", cost.exit),
        ("kprobe", cost.kprobe),
        ("tracepoint", cost.tracepoint),
        ("tc", cost.tc),
        ("more at a birth", cost.birth),
        ("more for the headers", cost.headers),
        ("more at another device", cost.hop),
    ];
    let costs: Vec<String> =
        kinds.into_iter().filter_map(|(name, ns)| Some(format!("{} {name}", time(ns?)))).collect();
    let hits = analysis.last.counters.hits as f64 / analysis.started().max(1) as f64;
    if costs.is_empty() {
        return format!("{hits:.1} hits per packet; their cost was not measured");
    }
    format!("{hits:.1} hits per packet at {}; \"net\" is with that taken off", costs.join(", "))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::breakdown::{By, Collector};
    use overlay_trace_format::{Header, Names};

    fn losses_with(probe_misses: Option<u64>, untold_probes: u64) -> String {
        let mut analysis =
            Collector::new(&Header::new(), &BTreeMap::new(), By::Stage).finish(&Names::default());
        let counters = &mut analysis.last.counters;
        (counters.probe_misses, counters.untold_probes) = (probe_misses, untold_probes);
        losses(&analysis)
    }

    #[test]
    fn what_the_kernel_tells_of_misses_is_said_and_of_how_many_probes_it_does_not() {
        assert!(losses_with(Some(3), 0).starts_with("0 records, 3 probe misses, 0 state full"));
        assert!(losses_with(Some(3), 12).contains(", 3 probe misses (not told of 12 probes), "));
        assert!(losses_with(None, 90).contains("probe misses not told by this kernel"));
    }
}
