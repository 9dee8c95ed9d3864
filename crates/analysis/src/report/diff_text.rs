//! A difference as text.

use super::{
    heading,
    table::lines,
    units::{count, percent, signed_time, time},
};
use crate::breakdown::{Analysis, Diff, DiffRow};

/// The difference as text: end to end, then by level, by layer, and every stage.
pub(super) fn report(diff: &Diff) -> String {
    let mut out = String::new();
    for (place, analysis) in [("FIRST", &diff.first), ("SECOND", &diff.second)] {
        out += &format!("{place}: {}\n{}\n", analysis.file, heading::text(&heading::lines(analysis)));
    }
    out += &verdict(diff);
    for part in
        [groups(diff, "level", &level, usize::MAX), groups(diff, "layer", &layer, usize::MAX), stages(diff)]
    {
        out.push('\n');
        out += &part;
    }
    out
}

/// The difference in one sentence.
pub(super) fn verdict(diff: &Diff) -> String {
    if let Some(empty) = without_packets(diff) {
        return empty;
    }
    let total = diff.total();
    let ratio = total.second.each(diff.per) / total.first.each(diff.per).max(1.0);
    let packets = |analysis: &Analysis| count(analysis.packets());
    let delta = total.delta(diff.per);
    format!(
        "The second recording takes {} {} {}: {} instead of {} ({ratio:.2} times; {} and {} packets).\n",
        time(delta.abs()),
        if delta < 0.0 { "less" } else { "more" },
        diff.per.name(),
        time(total.second.each(diff.per)),
        time(total.first.each(diff.per)),
        packets(&diff.second),
        packets(&diff.first)
    ) + &without_sockets(diff)
}

/// That there is nothing to compare, if one of the recordings is empty.
fn without_packets(diff: &Diff) -> Option<String> {
    let empty: Vec<&str> = [("first", &diff.first), ("second", &diff.second)]
        .into_iter()
        .filter(|(_, analysis)| analysis.packets() == 0)
        .map(|(name, _)| name)
        .collect();
    let which = match empty[..] {
        [] => return None,
        [one] => format!("The {one} recording has no packets"),
        _ => "Neither recording has packets".into(),
    };
    Some(format!(
        "{which}, so there is nothing to compare: its filter or its probes may have let nothing through (see above).\n"
    ))
}

/// The same without the time that packets wait in sockets for the receiving program; empty where one of the recordings
/// does not show it.
fn without_sockets(diff: &Diff) -> String {
    if !heading::shows_socket_waits(&diff.first) || !heading::shows_socket_waits(&diff.second) {
        return String::new();
    }
    let (mut first, mut second) = (0.0, 0.0);
    for row in diff.rows.iter().filter(|row| !row.key.is_socket_wait()) {
        first += row.first.each(diff.per);
        second += row.second.each(diff.per);
    }
    format!(
        "Without waiting in sockets: {}, {} instead of {} ({:.2} times).\n",
        signed_time(second - first),
        time(second),
        time(first),
        second / f64::max(first, 1.0)
    )
}

pub(super) fn level(row: &DiffRow) -> String {
    format!("level {}", row.key.level.unwrap_or(0))
}

pub(super) fn layer(row: &DiffRow) -> String {
    row.key.layer.clone().unwrap_or_default()
}

/// Sums of rows by name, the largest addition first. Of more than `most` those that change least are one line.
pub(super) fn groups(diff: &Diff, heading: &str, name: &dyn Fn(&DiffRow) -> String, most: usize) -> String {
    let mut sums: Vec<(String, f64, f64)> = Vec::new();
    for row in
        diff.rows.iter().filter(|row| row.first.each(diff.per) > 0.0 || row.second.each(diff.per) > 0.0)
    {
        let name = name(row);
        let at = sums.iter().position(|sum| sum.0 == name).unwrap_or_else(|| {
            sums.push((name, 0.0, 0.0));
            sums.len() - 1
        });
        sums[at].1 += row.first.each(diff.per);
        sums[at].2 += row.second.each(diff.per);
    }
    if sums.len() > most {
        sums.sort_by(|a, b| (b.2 - b.1).abs().total_cmp(&(a.2 - a.1).abs()));
        let rest = sums.split_off(most);
        let others = format!("{} others", rest.len());
        let sum = |of: fn(&(String, f64, f64)) -> f64| rest.iter().map(of).sum();
        sums.push((others, sum(|sum| sum.1), sum(|sum| sum.2)));
    }
    sums.sort_by(|a, b| (b.2 - b.1).total_cmp(&(a.2 - a.1)));
    let total = diff.total();
    sums.push(("all".into(), total.first.each(diff.per), total.second.each(diff.per)));
    let rows: Vec<Vec<String>> = sums
        .iter()
        .map(|(name, first, second)| {
            vec![name.clone(), or_dash(*first), or_dash(*second), signed_time(second - first)]
        })
        .collect();
    lines(&[heading, "first", "second", "added"], &rows, 1).join("\n") + "\n"
}

fn stages(diff: &Diff) -> String {
    let added = diff.total().delta(diff.per);
    let row = |row: &DiffRow| {
        let key = &row.key;
        vec![
            key.stage.clone().unwrap_or_default(),
            key.layer.clone().unwrap_or_default(),
            key.kind.into(),
            key.level.unwrap_or(0).to_string(),
            key.direction.map(|direction| direction.name()).unwrap_or_default().into(),
            or_dash(row.first.each(diff.per)),
            or_dash(row.second.each(diff.per)),
            signed_time(row.delta(diff.per)),
            if added.abs() < 0.5 { "-".into() } else { percent(row.delta(diff.per) / added) },
            if row.first.packets == 0 { "-".into() } else { time(row.first.p99 as f64) },
            if row.second.packets == 0 { "-".into() } else { time(row.second.p99 as f64) },
        ]
    };
    // Rows without time in both recordings are left out.
    let any = |row: &&DiffRow| row.first.each(diff.per) > 0.0 || row.second.each(diff.per) > 0.0;
    let rows: Vec<Vec<String>> = diff.rows.iter().filter(any).map(row).collect();
    let heading = [
        "stage",
        "layer",
        "kind",
        "level",
        "direction",
        "first",
        "second",
        "added",
        "of all",
        "first p99",
        "second p99",
    ];
    lines(&heading, &rows, 5).join("\n") + "\n"
}

/// A time; a dash where there is none.
fn or_dash(ns: f64) -> String {
    if ns == 0.0 { "-".into() } else { time(ns) }
}
