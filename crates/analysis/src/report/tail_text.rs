//! A tail for people: the answer first, then what is the matter, where the excess is, and the slowest
//! packets one by one.

use std::fmt::Write;

use overlay_trace_common::record::Outcome;

use super::{
    flow::flow,
    heading::{losses, sampled},
    table::lines,
    tail_tcp,
    units::{count, percent, signed_time, time},
};
use crate::breakdown::Key;
use crate::tail::{Finding, Of, SlowPacket, Step, Tail, TailRow, Threshold};

/// Rows with less than this part of the excess are told together.
const SMALL: f64 = 0.02;
/// As many rows are named in the answer at most, and no more than make up this part.
const NAMED: usize = 3;
const ENOUGH: f64 = 0.8;

/// The tail as text.
pub(super) fn report(tail: &Tail) -> String {
    let mut out = first_lines(tail) + "\n" + &context(tail);
    out += &findings(tail);
    if tail.is_comparison() {
        out += &parts(tail);
        out.push('\n');
        out += &table(tail);
    }
    for (number, packet) in tail.slowest.iter().enumerate() {
        out.push('\n');
        out += &timeline(tail, number + 1, packet);
    }
    out
}

/// The answer, and before it what TCP has to say.
pub(super) fn first_lines(tail: &Tail) -> String {
    match tail_tcp::answer(tail) {
        Some(about_tcp) => format!("{about_tcp}\n{}\n", answer(tail)),
        None => answer(tail) + "\n",
    }
}

/// What was recorded, and how complete that is.
pub(super) fn context(tail: &Tail) -> String {
    let mut out = String::new();
    let header = &tail.analysis.header;
    let seconds = tail.analysis.last.duration_ns as f64 / 1e9;
    let _ = writeln!(
        out,
        "capture   {}: node {}, kernel {}, probe set {}, {seconds:.1} s{}",
        tail.analysis.file,
        header.node,
        header.kernel,
        header.probe_set,
        if tail.analysis.complete { "" } else { "; the recording ended abruptly" }
    );
    let _ = writeln!(out, "losses    {}", losses(&tail.analysis));
    out += &sampled(&tail.analysis);
    if header.probe_set != "full" {
        let _ = writeln!(
            out,
            "stages    the probe set {} sees only some: the time of a stage is also that of what follows it unseen",
            header.probe_set
        );
    }
    if tail.of == Of::Requests {
        let pairs = tail.slow.packets + tail.ordinary.packets;
        let _ = writeln!(
            out,
            "pairs     {} requests with their answers, {} of which no answer was found",
            count(pairs),
            count(tail.unpaired)
        );
    }
    if let Some(tcp) = tail_tcp::line(tail) {
        let _ = writeln!(out, "tcp       {tcp}");
    }
    out
}

/// The answer in one sentence.
pub(super) fn answer(tail: &Tail) -> String {
    let (above, what) = (time(tail.threshold_ns as f64), tail.of.name());
    let (slow, all) = (tail.slow.units, tail.slow.units + tail.ordinary.units);
    if all == 0 {
        return match tail.of {
            Of::Requests => "No request with its answer was found in the recording.".into(),
            Of::Packets | Of::Flows => "No packet finished its way during the recording.".into(),
        };
    }
    if slow == 0 {
        return format!("None of {} {what} took longer than {above}.", count(all));
    }
    let part = percent(slow as f64 / all as f64);
    let (slow, all) = (count(slow), count(all));
    let each = if tail.of == Of::Flows { " per packet" } else { "" };
    let who = match tail.above {
        Threshold::Quantile(_) => {
            format!("The slowest {part} of {what} ({slow} of {all}, above {above}{each})")
        }
        Threshold::Time(_) => format!("The {part} of {what} above {above}{each} ({slow} of {all})"),
    };
    let took = format!("{who} took {}{each}", time(tail.slow.mean_ns as f64));
    if tail.ordinary.packets == 0 {
        return format!("{took}: there are no others to compare them with.");
    }
    format!("{took} instead of {}; {}.", time(tail.ordinary.mean_ns as f64), largest(tail))
}

/// The places that hold most of the excess.
fn largest(tail: &Tail) -> String {
    let (mut told, mut parts) = (0.0, Vec::new());
    for row in tail.rows.iter().take(NAMED) {
        let share = tail.share(row.excess_ns());
        if told >= ENOUGH || share < 0.1 {
            break;
        }
        told += share;
        let of = if parts.is_empty() { " of the excess is" } else { "" };
        parts.push(format!("{}{of} {}", percent(share), at(&row.key)));
    }
    if parts.is_empty() { "no single stage holds a tenth of the excess".into() } else { parts.join(", ") }
}

/// `backlog-wait at eth0 of node2 (level 1)`.
pub(super) fn at(key: &Key) -> String {
    let stage = key.stage.as_deref().unwrap_or_default();
    let named = |name: &Option<String>| name.clone().filter(|name| !name.is_empty());
    let place = match (named(&key.device), named(&key.netns)) {
        (Some(device), Some(netns)) => format!(" at {device} of {netns}"),
        (Some(device), None) => format!(" at {device}"),
        (None, Some(netns)) => format!(" in {netns}"),
        (None, None) => String::new(),
    };
    format!("{stage}{place} (level {})", key.level.unwrap_or(0))
}

fn findings(tail: &Tail) -> String {
    if tail.findings.is_empty() {
        return "\nNo known cause stands out.\n".into();
    }
    let mut out = String::new();
    for finding in &tail.findings {
        let _ = writeln!(out, "\n{}: {}.", finding.severity.name(), finding.rule.what);
        let _ = writeln!(out, "    {}", evidence(tail, finding));
        for advice in finding.rule.advice {
            let _ = writeln!(out, "    - {} [{}]", advice.what, advice.source);
        }
    }
    out
}

/// By what a finding is known.
pub(super) fn evidence(tail: &Tail, finding: &Finding) -> String {
    let again = tail_tcp::sent_again(&finding.again);
    let place = at(&finding.key);
    match (&finding.drop, finding.share) {
        _ if finding.rule.is_of_no_time() => {
            format!("{} segments, most in {place}{again}", count(finding.packets))
        }
        _ if finding.rule.is_of_copies() => {
            format!("{} copies were made, most in {place}", count(finding.packets))
        }
        (Some((reason, location)), _) => {
            let told = [reason.as_str(), location.as_str()];
            let told: Vec<&str> = told.into_iter().filter(|told| !told.is_empty()).collect();
            format!(
                "{} packets dropped, most in {place}: {}{again}",
                count(finding.packets),
                told.join(" in ")
            )
        }
        (None, Some(share)) if finding.rule.is_of_all() => {
            format!("{} of all packets' time, most in {place}", percent(share))
        }
        (None, share) if let Some(core) = finding.core => format!(
            "{} of the excess, from {place} on: packets of {} flows, all on CPU {} of {}",
            percent(share.unwrap_or(0.0)),
            count(core.flows),
            core.cpu,
            tail.analysis.header.cpus.unwrap_or(0)
        ),
        (None, share) if !finding.rule.spread_over().is_empty() => {
            format!("{} of the excess, from {place} on", percent(share.unwrap_or(0.0)))
        }
        (None, share) => format!(
            "{} of the excess, most in {place}; for {} of {} slow packets it is the largest part",
            percent(share.unwrap_or(0.0)),
            count(finding.packets),
            count(tail.slow.packets)
        ),
    }
}

/// The excess by level, and by work and wait.
pub(super) fn parts(tail: &Tail) -> String {
    let part = |name: &str, matches: &dyn Fn(&Key) -> bool| {
        let excess = tail.rows.iter().filter(|row| matches(&row.key)).map(TailRow::excess_ns).sum();
        format!("{name} {} ({})", signed_time(excess as f64), percent(tail.share(excess)))
    };
    let mut levels: Vec<u8> = tail.rows.iter().filter_map(|row| row.key.level).collect();
    levels.sort_unstable();
    levels.dedup();
    let mut parts: Vec<String> = levels
        .iter()
        .map(|&level| part(&format!("level {level}"), &|key| key.level == Some(level)))
        .collect();
    let levels = parts.join(", ");
    parts = vec![part("waiting", &|key| key.kind == "wait"), part("working", &|key| key.kind == "work")];
    let dropped = match tail.slow_dropped {
        0 => String::new(),
        dropped => format!(" | {} of the slow packets were dropped in the end", count(dropped)),
    };
    format!("\nexcess: {levels} | {}{dropped}\n", parts.join(", "))
}

/// Every row with a part of the excess, the largest first; what the small ones add up to in one.
fn table(tail: &Tail) -> String {
    let is_small = |row: &&TailRow| tail.share(row.excess_ns()).abs() < SMALL;
    let (small, large): (Vec<&TailRow>, Vec<&TailRow>) = tail.rows.iter().partition(is_small);
    let cells = |first: Vec<String>, slow: i128, ordinary: i128, leads: u64| {
        let excess = slow - ordinary;
        let numbers = [
            time(slow as f64),
            time(ordinary as f64),
            microseconds(excess),
            percent(tail.share(excess)),
            count(leads),
        ];
        [first, numbers.to_vec()].concat()
    };
    let mut rows: Vec<Vec<String>> = large
        .iter()
        .map(|row| cells(names(&row.key).into(), row.slow_ns, row.ordinary_ns, row.leads))
        .collect();
    let total = |name: String, rows: &mut dyn Iterator<Item = &TailRow>| {
        let sums = rows.fold((0, 0, 0), |(slow, ordinary, leads), row| {
            (slow + row.slow_ns, ordinary + row.ordinary_ns, leads + row.leads)
        });
        let mut first = vec![name];
        first.resize(names(&Key::default()).len(), String::new());
        cells(first, sums.0, sums.1, sums.2)
    };
    if !small.is_empty() {
        rows.push(total(format!("{} others", small.len()), &mut small.iter().copied()));
    }
    rows.push(total("all".into(), &mut tail.rows.iter()));
    let heading =
        ["stage", "kind", "level", "where", "device", "slow", "ordinary", "excess µs", "of all", "leads"];
    lines(&heading, &rows, 5).join("\n")
        + "\n(per packet; leads: slow packets that lost more here than anywhere else)\n"
}

/// A row's place in the cells of a table.
pub(super) fn names(key: &Key) -> [String; 5] {
    let or_dash = |name: &Option<String>| match name.as_deref() {
        None | Some("") => "-".to_string(),
        Some(name) => name.to_string(),
    };
    let direction = key.direction.map(|direction| direction.name()).unwrap_or_default();
    [
        or_dash(&key.stage),
        key.kind.into(),
        format!("L{}", key.level.unwrap_or(0)),
        format!("{} {direction}", or_dash(&key.netns)).trim_end().into(),
        or_dash(&key.device),
    ]
}

/// A time to the nanosecond, so that a column can be added up: `+1,234.567`.
pub(super) fn microseconds(ns: i128) -> String {
    let sign = if ns < 0 { '-' } else { '+' };
    let size = u64::try_from(ns.unsigned_abs()).unwrap_or(u64::MAX);
    format!("{sign}{}.{:03}", count(size / 1000), size % 1000)
}

/// Which packet it is, in one line.
pub(super) fn heading(tail: &Tail, number: usize, packet: &SlowPacket) -> String {
    let header = &packet.header;
    let outcome = match Outcome::from_u8(header.outcome) {
        Some(Outcome::Dropped) => "dropped",
        Some(Outcome::Merged) => "merged into another packet",
        Some(Outcome::Split) => "cut",
        _ => "finished",
    };
    let began = packet.start_ns.saturating_sub(tail.analysis.header.start_monotonic_ns);
    format!(
        "slow {} {number}: {}, {}, {} bytes; began {:.6} s after the recording, {outcome} on CPU {}",
        if tail.of == Of::Requests { "request" } else { "packet" },
        time(packet.ns as f64),
        flow(&header.flow),
        count(header.bytes.into()),
        began as f64 / 1e9,
        header.cpu
    )
}

/// The CPU of a step.
pub(super) fn cpu(step: &Step) -> String {
    step.cpu.map_or("-".into(), |cpu| cpu.to_string())
}

/// A packet's way, step by step.
fn timeline(tail: &Tail, number: usize, packet: &SlowPacket) -> String {
    // The times stand to the right, before names that stand to the left.
    let at: Vec<String> = packet.steps.iter().map(|step| microseconds(step.at_ns.into())).collect();
    let width = at.iter().map(String::len).max().unwrap_or(0);
    let row = |(at, step): (&String, &Step)| {
        let share = percent(step.ns as f64 / packet.ns.max(1) as f64);
        let mut row = vec![format!("{at:>width$} {:>6} {share:>6}", time(step.ns as f64))];
        row.extend(names(&step.key));
        row.push(cpu(step));
        row
    };
    let rows: Vec<Vec<String>> = at.iter().zip(&packet.steps).map(row).collect();
    let times = format!("{:>width$} {:>6} {:>6}", "at µs", "took", "share");
    let table = lines(&[&times, "stage", "kind", "level", "where", "device", "cpu"], &rows, 7);
    format!("{}\n{}\n", heading(tail, number, packet), table.join("\n"))
}
