//! The heading of every report for people: what was recorded, and what was lost.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
};

use super::{
    Detail, nics,
    units::{count, percent, time},
};
use crate::breakdown::Analysis;
use overlay_trace_format::detection::{reasons, sentence, sentence_for};
use overlay_trace_format::{Balance, Header, HopName, NicCount, ProbeKind, Sampling};

/// Where the text behind a label begins.
const INDENT: usize = 10;
/// The width of that text.
const WIDTH: usize = 110;

/// Losses below this part of all packets leave the numbers as they are.
const SMALL_LOSS: f64 = 0.01;

/// A line of the heading. Sentences that continue the line above have no label.
pub(super) struct Line {
    pub label: &'static str,
    pub text: String,
}

impl Line {
    pub fn new(label: &'static str, text: impl Into<String>) -> Line {
        Line { label, text: text.into() }
    }
}

/// Lines as text: the labels in a column of their own, long lines wrapped.
pub(super) fn text(lines: &[Line]) -> String {
    let mut out = String::new();
    for Line { label, text } in lines {
        for (number, line) in wrap(text, WIDTH).iter().enumerate() {
            let _ = writeln!(out, "{:<INDENT$}{line}", if number == 0 { label } else { "" });
        }
    }
    out
}

/// A sentence in lines as wide as a terminal.
pub(super) fn wrapped(sentence: &str) -> String {
    wrap(sentence, INDENT + WIDTH).join("\n") + "\n"
}

/// What of [`lines`] fits a screen: of the losses those that there were, of the NICs those with a finding.
pub(super) fn short_lines(analysis: &Analysis) -> Vec<Line> {
    let mut lines = vec![Line::new("capture", capture(analysis))];
    if !analysis.header.filter.is_empty() {
        lines.push(Line::new("filter", &*analysis.header.filter));
    }
    lines.push(Line::new("packets", packets(analysis)));
    lines.extend(losses_lines(analysis, Detail::Short));
    lines.extend(nics_lines(analysis, Detail::Short));
    lines.extend(trust_lines(analysis));
    let unseen = analysis.header.unseen_stages.iter().filter(|unseen| unseen.module.is_none()).count();
    let unseen = (unseen > 0).then(|| {
        let stages = if unseen == 1 { "1 stage has".into() } else { format!("{unseen} stages have") };
        format!("{stages} no probe here: that time counts to the stage before (--full)")
    });
    let rest = [("networks", networks_in_short(analysis)), ("unseen", unseen.unwrap_or_default())];
    lines.extend(
        rest.into_iter().filter(|(_, text)| !text.is_empty()).map(|(name, text)| Line::new(name, text)),
    );
    lines
}

/// What was recorded, what was lost, and what could not be seen.
pub(super) fn lines(analysis: &Analysis) -> Vec<Line> {
    let header = &analysis.header;
    let mut lines = vec![Line::new("capture", capture(analysis))];
    if !header.filter.is_empty() {
        lines.push(Line::new("filter", &*header.filter));
    }
    lines.push(Line::new("packets", packets(analysis)));
    lines.extend(losses_lines(analysis, Detail::Full));
    lines.extend(nics_lines(analysis, Detail::Full));
    lines.extend(trust_lines(analysis));
    let rest = [
        ("networks", networks(analysis)),
        ("unseen", unseen(analysis)),
        ("stages", probed(analysis)),
        ("later", seen_later(analysis)),
        ("probes", probe_costs(analysis)),
    ];
    lines.extend(
        rest.into_iter().filter(|(_, text)| !text.is_empty()).map(|(name, text)| Line::new(name, text)),
    );
    lines
}

/// What to believe, and whether the recording is whole.
fn trust_lines(analysis: &Analysis) -> Vec<Line> {
    let mut lines = vec![Line::new("believe", trust(analysis))];
    if !analysis.complete {
        lines.push(Line::new(
            "",
            match analysis.balance {
                Balance::Unknown => "The recording ended abruptly, before its first checkpoint.",
                _ => "The recording ended abruptly: the numbers are those of its last checkpoint.",
            },
        ));
    }
    lines
}

/// `node worker-1, kernel 6.12.48-amd64, probe set full, 30.0 s`.
pub(super) fn capture(analysis: &Analysis) -> String {
    let Header { node, kernel, probe_set, .. } = &analysis.header;
    let seconds = analysis.last.duration_ns as f64 / 1e9;
    format!("node {node}, kernel {kernel}, probe set {probe_set}, {seconds:.1} s")
}

/// Whether the recording shows how long packets wait in sockets. The set `device` has no probe where a program reads TCP's
/// data: its paths end when TCP takes a packet.
pub(super) fn shows_socket_waits(analysis: &Analysis) -> bool {
    matches!(&*analysis.header.probe_set, "full" | "light")
}

/// What to believe, in one sentence.
pub(super) fn trust(analysis: &Analysis) -> String {
    let counters = &analysis.last.counters;
    let set = match &*analysis.header.probe_set {
        "full" => "",
        "light" => {
            "; the set light probes only queues and the borders of layers: a stage includes what follows it"
        }
        _ => {
            "; this set does not see sockets, firewalls or routing: nothing is said about them, and a stage includes what follows it"
        }
    };
    // Counters of a broken file may be of any size.
    let lost = counters
        .losses()
        .iter()
        .fold(analysis.balance.missing(), |all, (number, _)| all.saturating_add(*number));
    let finished = analysis.finished();
    let doubt = match lost {
        _ if finished == 0 => return format!("nothing: no packet finished its path{set}"),
        _ if analysis.balance == Balance::Unknown => {
            "shares and places rather than counts: what was lost is unknown".into()
        }
        _ if analysis.balance.surplus() > 0 => {
            "nothing: the file has records that its recorder did not count".into()
        }
        0 if !analysis.complete => {
            "the numbers, up to the last checkpoint: until then nothing was lost".into()
        }
        0 if analysis.header.sampling.is_some() => {
            "counts, sums and percentiles are complete; single ordinary packets are sampled".into()
        }
        0 if analysis.header.sample.is_some() => "every number as an estimate: see the sample".into(),
        0 => "every number: nothing was lost".into(),
        lost if (lost as f64) < SMALL_LOSS * finished as f64 => {
            format!("the numbers, to about {} (the losses above)", percent(lost as f64 / finished as f64))
        }
        _ => "shares and places rather than counts: much was lost (see above)".into(),
    };
    format!("{doubt}{set}")
}

/// The loss counters, how the recording was sampled, and what the losses mean for the numbers.
pub(super) fn losses_lines(analysis: &Analysis, detail: Detail) -> Vec<Line> {
    let counters = &analysis.last.counters;
    let losses = match detail {
        Detail::Full => losses(analysis),
        Detail::Short => losses_found(analysis),
    };
    let mut lines = vec![Line::new("losses", losses)];
    lines.extend(sampling(analysis).map(|text| Line::new("sampling", text)));
    lines.extend(sampling_by_packet(analysis).map(|text| Line::new("sample", text)));
    if counters.lost_records > 0 {
        let part = percent(counters.lost_records as f64 / analysis.finished() as f64);
        lines.push(Line::new(
            "",
            format!("{part} of the finished packets have no record and are missing here."),
        ));
    }
    lines.extend(unbalanced(analysis.balance, analysis.complete).map(|text| Line::new("", text)));
    if counters.state_full > 0 {
        let text = format!(
            "{} times a packet found the packet table full (--states): such packets are missing here, or start where \
             they found a free entry.",
            count(counters.state_full)
        );
        lines.push(Line::new("", text));
    }
    lines
}

/// What is wrong with the number of records; `None` where it is right, or where [`losses`] says that it is unknown.
pub(super) fn unbalanced(balance: Balance, complete: bool) -> Option<String> {
    match balance {
        Balance::Even | Balance::Unknown => None,
        Balance::Missing(missing) if complete => Some(format!(
            "{} packets that the recorder counted are not in the file: it was damaged or changed, and these numbers are \
             without them.",
            count(missing)
        )),
        Balance::Missing(missing) => Some(format!(
            "{} packets whose path had ended were not written any more: these numbers are without them.",
            count(missing)
        )),
        Balance::Surplus(surplus) => Some(format!(
            "The file has {} records more than the recorder counted: it was damaged or changed, and these numbers cannot be \
             trusted.",
            count(surplus)
        )),
    }
}

/// What passed the NICs, and what an early version may have missed.
pub(super) fn nics_lines(analysis: &Analysis, detail: Detail) -> Vec<Line> {
    let mut lines = Vec::new();
    let is_told = |(_, counts): &&(HopName, NicCount)| detail == Detail::Full || counts.has_gap();
    for (nic, counts) in analysis.nics.iter().filter(is_told) {
        let label = if lines.is_empty() { "nics" } else { "" };
        lines.push(Line::new(label, nics::sentence(nic, counts)));
        lines.extend(nics::finding(nic, counts).map(|text| Line::new("", format!("finding: {text}"))));
    }
    if !analysis.doubtful_nics.is_empty() {
        let names: BTreeSet<&str> = analysis.doubtful_nics.iter().map(|nic| nic.device.as_str()).collect();
        let text = format!(
            "overlay-trace {} made this recording: it may lack packets that came in through NICs ({}), or have them under \
             their outer addresses, as it did not read headers outside the linear part. Record again.",
            analysis.header.overlay_trace,
            Vec::from_iter(names).join(", ")
        );
        lines.push(Line::new("nics", text));
    }
    lines
}

/// Which packets have a record of their own; `None` where all have.
fn sampling(analysis: &Analysis) -> Option<String> {
    let Sampling { above, one_in } = analysis.header.sampling.as_ref()?;
    let (left_out, finished) = (analysis.last.counters.left_out, analysis.finished());
    let slow = match analysis.last.counters.slow_from_ns {
        Some(ns) if above.starts_with('p') => format!("{above} ({} at the end)", time(ns as f64)),
        Some(ns) => time(ns as f64),
        None => above.clone(),
    };
    Some(format!(
        "recorded were all packets above {slow}, all that were dropped, segmented, fragmented or cloned, TCP segments \
         after a loss, and 1 in {one_in} of the rest, each weighted by the packets that it stands for: {} of {} packets. \
         Totals and percentiles are of all packets; rare events among the rest can be missing.",
        count(finished.saturating_sub(left_out)),
        count(finished)
    ))
}

/// Which packets were followed, and how exact what is estimated from them is; `None` where all were.
fn sampling_by_packet(analysis: &Analysis) -> Option<String> {
    let one_in = analysis.header.sample?;
    let (all, samples) = (&analysis.end_to_end, analysis.records);
    let quantile = |quantile: f64| {
        let (low, high) = all.quantile_interval(quantile, samples);
        format!("{} to {}", time(low as f64), time(high as f64))
    };
    let error = all.mean_error(samples);
    Some(match error.is_finite() {
        false => {
            format!("1 in {one_in} packets was followed, and too few came by to estimate anything from them")
        }
        true => format!(
            "1 in {one_in} packets was followed: {} have records, {} others were seen. Counts and totals are estimates. Of \
             all packets, in 95 of 100 such samples, the end-to-end time has a mean of {} to {}, p50 of {}, p99 of {}",
            count(samples),
            count(analysis.last.counters.unsampled),
            time((all.mean() - error).max(0.0)),
            time(all.mean() + error),
            quantile(0.5),
            quantile(0.99),
        ),
    })
}

fn networks(analysis: &Analysis) -> String {
    match analysis.header.networks.as_deref() {
        Some(found @ [_, ..]) => format!("{}: {}", sentence(found), reasons(found)),
        _ => networks_in_short(analysis),
    }
}

/// The detected networks without what led to them.
fn networks_in_short(analysis: &Analysis) -> String {
    match &analysis.header.networks {
        None => String::new(),
        Some(found) => sentence_for(found, &analysis.header.filter),
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
    let counters = &analysis.last.counters;
    let _ = write!(
        text,
        "; not recorded: {} not IP, {} rejected by the filter",
        count(counters.not_ip),
        count(counters.filtered)
    );
    text
}

/// What is said of the losses where they were never counted.
pub(super) const LOSSES_UNKNOWN: &str = "unknown: the recording ended before its counters were written";

/// The loss counters that are not 0.
fn losses_found(analysis: &Analysis) -> String {
    let mut parts = loss_parts(analysis);
    parts.retain(|part| !part.starts_with("0 ") || part.contains("(unknown"));
    if parts.is_empty() { "none: every loss counter is 0".into() } else { parts.join(", ") }
}

/// Every loss counter by name; the same in every output for people.
pub(super) fn losses(analysis: &Analysis) -> String {
    loss_parts(analysis).join(", ")
}

fn loss_parts(analysis: &Analysis) -> Vec<String> {
    let counters = &analysis.last.counters;
    let counted = counters.losses().into_iter().filter(|_| analysis.balance != Balance::Unknown);
    let mut parts: Vec<String> = counted
        .map(|(number, what)| match (what, counters.probe_misses) {
            ("probe misses", None) => "unknown probe misses (not counted by this kernel)".into(),
            ("probe misses", Some(_)) if !counters.are_misses_known() => {
                format!("{} {what} (unknown for {} probes)", count(number), count(counters.untold_probes))
            }
            _ => format!("{} {what}", count(number)),
        })
        .collect();
    if analysis.balance == Balance::Unknown {
        parts.push(LOSSES_UNKNOWN.into());
    }
    let here = [
        (analysis.cut_paths, "paths too long"),
        (analysis.inconsistent, "inconsistent records"),
        (analysis.orphans, "segments without their parent"),
        (analysis.incomplete, "packets with missing segments"),
        (analysis.balance.missing(), "records missing in the file"),
        (analysis.balance.surplus(), "records too many in the file"),
    ];
    let any = here.iter().filter(|(number, _)| *number > 0);
    parts.extend(any.map(|(number, what)| format!("{} {what}", count(*number))));
    parts
}

/// The stages without a probe and why, each reason once. Stages of modules that were not loaded are told by module.
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
        parts.push(format!("stages of modules that were not loaded: {modules}"));
    }
    if parts.is_empty() { "none: every stage of the probe set has a probe".into() } else { parts.join("; ") }
}

/// The number of stages by kind of probe. Stages that fell back to kprobes are named.
fn probed(analysis: &Analysis) -> String {
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
    if parts.is_empty() { "unknown".into() } else { parts.join(", ") }
}

/// The stages whose probes were attached during the recording, by time; empty if there are none.
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
            format!("{} (probed from {seconds:.1} s on, when their module was loaded)", stages.join(", "))
        })
        .collect();
    parts.join("; ")
}

/// Lines break behind a comma if there is one among this many last characters.
const COMMA_WITHIN: usize = 24;

/// A sentence in lines of at most `width` characters, from the second one on indented.
fn wrap(sentence: &str, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = String::new();
    for word in sentence.split_whitespace() {
        if line.chars().count() + word.chars().count() >= width {
            let comma = line.rfind(", ").filter(|at| line[*at..].chars().count() <= COMMA_WITHIN);
            let rest = comma.map_or(String::new(), |at| line.split_off(at + 1));
            lines.push(line);
            line = format!("  {}", rest.trim_start());
        }
        if !line.trim().is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    lines.push(line);
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
        ("extra at the start of a path", cost.birth),
        ("extra to parse headers", cost.headers),
        ("extra at a change of device", cost.hop),
        ("extra to look at the device by kprobe", cost.look),
    ];
    let costs: Vec<String> =
        kinds.into_iter().filter_map(|(name, ns)| Some(format!("{} {name}", time(ns?)))).collect();
    let hits = analysis.last.counters.hits as f64 / analysis.started().max(1) as f64;
    if costs.is_empty() {
        return format!("{hits:.1} hits per packet; their cost was not measured");
    }
    format!("{hits:.1} hits per packet at {}; \"net\" times are net of that overhead", costs.join(", "))
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
    fn long_lines_break_behind_a_comma_if_one_is_near() {
        assert_eq!(wrap("", 20), [""]);
        assert_eq!(wrap("no more than this", 20), ["no more than this"]);
        assert_eq!(wrap("one list, of two parts", 20), ["one list,", "  of two parts"]);
        assert_eq!(wrap("a, b and many more words than one line can hold", 40).len(), 2);
        assert_eq!(wrap("a, b and many more words than one line can hold", 40)[1], "  can hold");
    }

    #[test]
    fn probe_misses_are_told_with_the_probes_whose_misses_are_unknown() {
        assert!(losses_with(Some(3), 0).starts_with("0 records, 3 probe misses, 0 packet table full"));
        assert!(losses_with(Some(3), 12).contains(", 3 probe misses (unknown for 12 probes), "));
        assert!(losses_with(None, 90).contains("unknown probe misses (not counted by this kernel)"));
    }
}
