//! A difference as text that fits a screen: the sentences, the percentiles end to end, and the largest changes.

use super::{
    diff_text::{groups, layer, level, verdict},
    heading,
    table::lines_with_values,
    units::{count, percent, signed_time, time},
};
use crate::breakdown::{Analysis, Diff, DiffRow, Dist, Side};

/// So many layers, and so many stages, are shown: those that change most.
const LAYERS: usize = 8;
const STAGES: usize = 15;

/// The difference as text, short.
pub(super) fn report(diff: &Diff) -> String {
    let mut out: String = verdict(diff).lines().map(heading::wrapped).collect();
    out.push('\n');
    for (place, analysis) in [("first", &diff.first), ("second", &diff.second)] {
        out += &heading::text(&recording(place, analysis));
    }
    if diff.first.packets() == 0 || diff.second.packets() == 0 {
        return out;
    }
    out += &format!("\n{}\n{}", end_to_end(diff), groups(diff, "level", &level, usize::MAX));
    out += &format!("\n{}", groups(diff, "layer", &layer, LAYERS));
    out + "\n" + &stages(diff)
}

fn recording(place: &'static str, analysis: &Analysis) -> Vec<heading::Line> {
    let mut lines =
        vec![heading::Line::new(place, format!("{}: {}", analysis.file, heading::capture(analysis)))];
    lines.push(heading::Line::new("", format!("believe {}", heading::trust(analysis))));
    lines
}

/// A figure of a distribution, in ns; `None` where there are too few packets for it.
type Figure<'a> = &'a dyn Fn(&Dist) -> Option<f64>;

/// The distributions end to end; percentiles that not both have enough packets for are left out.
fn end_to_end(diff: &Diff) -> String {
    let (first, second) = (&diff.first.end_to_end, &diff.second.end_to_end);
    let quantile = |of: f64| move |dist: &Dist| dist.supported(of).map(|ns| ns as f64);
    let figures: [(&str, Figure<'_>); 6] = [
        ("p50", &quantile(0.5)),
        ("p99", &quantile(0.99)),
        ("p99.9", &quantile(0.999)),
        ("p99.99", &quantile(0.9999)),
        ("mean", &|dist| Some(dist.mean())),
        ("max", &|dist| Some(dist.max() as f64)),
    ];
    let row = |(name, of): (&str, Figure<'_>)| {
        let (first, second) = (of(first)?, of(second)?);
        let times = format!("{:.2} times", second / first.max(1.0));
        Some(vec![name.to_owned(), time(first), time(second), signed_time(second - first), times])
    };
    let rows: Vec<Vec<String>> = figures.into_iter().filter_map(row).collect();
    lines_with_values(&["per packet", "first", "second", "added", ""], &rows, 1).join("\n") + "\n"
}

/// The stages that change most, the largest addition first.
fn stages(diff: &Diff) -> String {
    let size = |row: &DiffRow| row.delta(diff.per);
    let mut rows: Vec<&DiffRow> = diff.rows.iter().filter(|row| size(row) != 0.0).collect();
    rows.sort_by(|a, b| size(b).abs().total_cmp(&size(a).abs()));
    let (more, rest) = rows.split_at(rows.len().min(STAGES));
    let mut shown = more.to_vec();
    shown.sort_by(|a, b| size(b).total_cmp(&size(a)));
    let added = diff.total().delta(diff.per);
    let rows: Vec<Vec<String>> = shown.iter().map(|row| cells(diff, row, added)).collect();
    let heading = [
        "stage",
        "kind",
        "level",
        "direction",
        "namespace",
        "device",
        "added",
        "of all",
        "p50",
        "then",
        "p99",
        "then",
        "first",
        "second",
    ];
    let mut out = lines_with_values(&heading, &rows, 6).join("\n") + "\n";
    if !rest.is_empty() {
        let all: f64 = rest.iter().map(|row| size(row)).sum();
        let number = count(rest.len() as u64);
        out += &format!("({number} more stages, {} together: --full)\n", signed_time(all));
    }
    out
}

fn cells(diff: &Diff, row: &DiffRow, added: f64) -> Vec<String> {
    let key = &row.key;
    let name = |name: &Option<String>| name.clone().filter(|name| !name.is_empty()).unwrap_or("-".into());
    let quantile = |ns: Option<u64>| ns.map_or_else(|| "-".to_owned(), |ns| time(ns as f64));
    let each = |side: &Side| if side.packets == 0 { "-".to_owned() } else { time(side.each(diff.per)) };
    vec![
        name(&key.stage),
        key.kind.into(),
        key.level.unwrap_or(0).to_string(),
        key.direction.map_or("-", |direction| direction.name()).into(),
        name(&key.netns),
        name(&key.device),
        signed_time(row.delta(diff.per)),
        if added.abs() < 0.5 { "-".into() } else { percent(row.delta(diff.per) / added) },
        quantile(row.first.supported_p50),
        quantile(row.second.supported_p50),
        quantile(row.first.supported_p99),
        quantile(row.second.supported_p99),
        each(&row.first),
        each(&row.second),
    ]
}
