//! The whole report as text: what was recorded and lost, the largest stages, then every stage.

use std::collections::HashMap;

use super::{
    Detail, Sort, counters, heading,
    overview::{self, LayerTime, levels, stage_name},
    table::lines,
    traffic,
    units::{count, percent, time},
};
use crate::breakdown::{Analysis, By, Completion, Dist, Drop, Key, Part, Row};

/// This many stages are named at the top.
const LARGEST: usize = 6;

/// The whole report as text, at most 120 columns wide with names of usual length.
pub(super) fn report(analysis: &Analysis, sort: Sort) -> String {
    let mut out = heading::text(&heading::lines(analysis));
    if analysis.rows.is_empty() {
        out += "\nNo packet finished its path during the recording.\n";
        return out;
    }
    out.push('\n');
    out += &summary(analysis);
    if analysis.by == By::Stage {
        out.push('\n');
        out += &layers(analysis);
    }
    out.push('\n');
    out += &stages(analysis, sort);
    out += &completions(analysis);
    out += &drops(analysis);
    out += &counters::tables(analysis.kernel_counters.as_ref());
    out += &traffic::tables(&analysis.traffic, Detail::Full);
    out
}

/// End-to-end times, and their main parts.
fn summary(analysis: &Analysis) -> String {
    let heading = ["", "mean", "p50", "p90", "p99", "p99.9", "p99.99", "max", "net mean"];
    let mut row = vec!["end to end".to_string()];
    row.extend(numbers(&analysis.end_to_end));
    row.push(analysis.net_mean().map_or("-".into(), time));
    let mut rows = vec![row];
    if analysis.latency.sum() != analysis.end_to_end.sum() {
        // Packets were segmented: a segment inherits the path of its packet, so latencies add up to more than the time spent.
        let mut row = vec!["latency".to_string()];
        row.extend(numbers(&analysis.latency));
        row.push("-".into());
        rows.push(row);
    }
    let table = lines(&heading, &rows, 1).join("\n");
    format!("{table}\n{}\n{}{}", parts(analysis), largest(analysis), without_sockets(analysis))
}

/// The shares of levels, of waiting and working, and of no stage, in a line.
pub(super) fn parts(analysis: &Analysis) -> String {
    let parts = |name: fn(&Key) -> String| {
        let mut shares = analysis.shares(name);
        shares.sort_by(|a, b| a.0.cmp(&b.0));
        shares
            .iter()
            .map(|(name, share)| format!("{name} {}", percent(*share)))
            .collect::<Vec<_>>()
            .join(", ")
    };
    let mut shares = vec![match overview::is_undivided(analysis) {
        true => "working and waiting not told apart".into(),
        false => parts(|key| match key.kind {
            "wait" => "waiting".into(),
            _ => "working".into(),
        }),
    }];
    if analysis.by != By::Device {
        shares.insert(0, parts(|key| format!("level {}", key.level.unwrap_or(0))));
    }
    shares.push(format!("in no stage {}", percent(analysis.other_share())));
    shares.join(" | ")
}

/// The stages with the most time.
fn largest(analysis: &Analysis) -> String {
    let mut stages = analysis.shares(|key| match (&key.stage, &key.layer) {
        (Some(_), _) => stage_name(key).unwrap_or_default(),
        (None, layer) => layer.clone().unwrap_or_default(),
    });
    stages.retain(|(name, share)| !name.is_empty() && *share >= 0.0005);
    if stages.len() < 2 {
        return String::new();
    }
    stages.sort_by(|a, b| b.1.total_cmp(&a.1));
    let parts: Vec<String> =
        stages.iter().take(LARGEST).map(|(name, share)| format!("{name} {}", percent(*share))).collect();
    format!("largest: {}\n", parts.join(", "))
}

/// The mean without the time that packets wait in sockets for the receiving program: the network's own part.
pub(super) fn without_sockets(analysis: &Analysis) -> String {
    let rows = |matches: &dyn Fn(&Key) -> bool| -> f64 {
        analysis.rows.iter().filter(|row| matches(&row.key)).map(|row| row.share).sum()
    };
    let waits = rows(&Key::is_socket_wait);
    let is_known = analysis.by == By::Stage && heading::shows_socket_waits(analysis);
    if !is_known || waits == 0.0 || waits > 0.9999 {
        return String::new();
    }
    let rest = 1.0 - waits;
    let parts: Vec<String> = levels(analysis)
        .iter()
        .map(|&level| {
            let share = rows(&|key| key.level == Some(level) && !key.is_socket_wait()) / rest;
            format!("level {level} {}", percent(share))
        })
        .collect();
    let mean = time(rest * analysis.end_to_end.mean());
    format!("without waiting in sockets: {mean} per packet, {}\n", parts.join(", "))
}

/// Mean and share by layer and level, over all packets.
fn layers(analysis: &Analysis) -> String {
    let mean = analysis.end_to_end.mean();
    let cell = |share: f64| if share == 0.0 { "-".into() } else { time(share * mean) };
    let row = |layer: LayerTime| {
        let LayerTime { layer, share, by_level, waiting } = layer;
        let name = if layer.is_empty() { "all".into() } else { layer };
        let mut row = vec![name, percent(share), cell(share)];
        row.extend(by_level.into_iter().chain([waiting]).map(cell));
        row
    };
    let rows: Vec<Vec<String>> = overview::layers(analysis).into_iter().map(row).collect();
    let names: Vec<String> =
        overview::levels(analysis).iter().map(|level| format!("level {level}")).collect();
    let mut heading = vec!["per packet", "share", "time"];
    heading.extend(names.iter().map(String::as_str));
    heading.push("waiting");
    lines(&heading, &rows, 1).join("\n") + "\n"
}

/// The table of all rows. In path order it has a heading wherever namespace, direction or level change.
fn stages(analysis: &Analysis, sort: Sort) -> String {
    let parts = analysis.by == By::Stage && sort == Sort::Path;
    let names: &[&str] = if parts { &["stage", "layer", "kind", "device"] } else { columns(analysis.by) };
    let heading = [names, &["share", "mean", "p50", "p90", "p99", "p99.9", "p99.99", "max", "net"]].concat();
    // Rows without time are left out.
    let shown: Vec<&Row> = analysis.rows.iter().filter(|row| row.raw.sum() > 0).collect();
    let cells: Vec<Vec<String>> = shown.iter().map(|row| cells(row, names)).collect();
    let lines = lines(&heading, &cells, names.len());
    let shares = part_shares(analysis);
    let mut out = format!("{}\n", lines[0]);
    for (at, (row, line)) in shown.iter().zip(&lines[1..]).enumerate() {
        if parts && (at == 0 || !shown[at - 1].key.same_part(&row.key)) {
            out += &part_heading(analysis, &shares, &row.key);
        }
        out += line;
        out.push('\n');
    }
    out
}

/// The columns that say what a row is of.
pub(super) fn columns(by: By) -> &'static [&'static str] {
    match by {
        By::Stage | By::Anywhere => &["stage", "kind", "where"],
        By::Layer => &["layer", "kind", "level"],
        By::Device => &["namespace", "device", "direction", "kind"],
        By::Level => &["level", "kind"],
    }
}

fn cells(row: &Row, names: &[&str]) -> Vec<String> {
    let mut cells = name_cells(&row.key, names);
    cells.push(percent(row.share));
    cells.extend(numbers(&row.raw));
    cells.push(row.net.as_ref().map_or("-".into(), |net| time(net.mean())));
    cells
}

/// The cells of these columns.
pub(super) fn name_cells(key: &Key, names: &[&str]) -> Vec<String> {
    let text = |name: &Option<String>| match name.as_deref() {
        None | Some("") => "-".to_string(),
        Some(name) => name.to_string(),
    };
    let cell = |name: &&str| match *name {
        "layer" => text(&key.layer),
        "kind" => key.kind.into(),
        "device" => text(&key.device),
        "namespace" => text(&key.netns),
        "direction" => key.direction.map(|direction| direction.name()).unwrap_or_default().into(),
        "level" => key.level.unwrap_or(0).to_string(),
        "where" => place(key),
        _ => text(&key.stage),
    };
    names.iter().map(cell).collect()
}

/// The place of a row, in one cell.
fn place(key: &Key) -> String {
    let direction = key.direction.map(|direction| direction.name()).unwrap_or_default();
    let device = key.device.as_deref().filter(|device| !device.is_empty());
    let level = key.level.unwrap_or(0);
    [Some(format!("L{level}")), Some(direction.into()), key.netns.clone(), device.map(String::from)]
        .into_iter()
        .flatten()
        .filter(|part| !part.is_empty())
        .collect::<Vec<_>>()
        .join(" ")
}

/// The share of each part of the path.
fn part_shares(analysis: &Analysis) -> HashMap<Part<'_>, f64> {
    let mut shares = HashMap::new();
    for row in &analysis.rows {
        *shares.entry(row.key.part()).or_default() += row.share;
    }
    shares
}

/// `[node-1, forward, level 0: 2.09µs per packet, 4.2%]`: a part of the path with its sub-total over all packets.
fn part_heading(analysis: &Analysis, shares: &HashMap<Part<'_>, f64>, key: &Key) -> String {
    let share = shares.get(&key.part()).copied().unwrap_or_default();
    let netns = key.netns.as_deref().filter(|netns| !netns.is_empty()).unwrap_or("unknown namespace");
    let direction = key.direction.map(|direction| direction.name()).unwrap_or_default();
    let level = key.level.unwrap_or(0);
    let total = format!("{} per packet, {}", time(share * analysis.end_to_end.mean()), percent(share));
    format!("\n[{netns}, {direction}, level {level}: {total}]\n")
}

fn numbers(dist: &Dist) -> Vec<String> {
    let mut numbers = vec![time(dist.mean())];
    numbers.extend([0.5, 0.9, 0.99, 0.999, 0.9999].map(|quantile| time(dist.quantile(quantile) as f64)));
    numbers.push(time(dist.max() as f64));
    numbers
}

/// How long drivers kept what their device had.
fn completions(analysis: &Analysis) -> String {
    if analysis.completions.is_empty() {
        return String::new();
    }
    let heading =
        ["tx-completion", "device", "packets", "mean", "p50", "p90", "p99", "p99.9", "p99.99", "max"];
    let row = |completion: &Completion| {
        let mut row = vec![completion.netns.clone(), completion.device.clone(), count(completion.ns.count())];
        row.extend(numbers(&completion.ns));
        row
    };
    let rows: Vec<Vec<String>> = analysis.completions.iter().map(row).collect();
    let table = lines(&heading, &rows, 2).join("\n");
    format!(
        "\nFrom the end of a path at a device until its driver frees the packet, outside of end to end:\n{table}\n"
    )
}

fn drops(analysis: &Analysis) -> String {
    if analysis.drops.is_empty() {
        return String::new();
    }
    let rows: Vec<Vec<String>> = analysis.drops.iter().map(drop_cells).collect();
    format!("\n{}\n", lines(&["dropped", "reason", "location", "stage", "where"], &rows, 5).join("\n"))
}

/// Packets, reason, location, stage and place of a drop.
pub(super) fn drop_cells(drop: &Drop) -> Vec<String> {
    let or_dash = |text: &str| if text.is_empty() { "-".to_string() } else { text.to_string() };
    let stage = drop.key.stage.clone().unwrap_or_default();
    vec![count(drop.packets), or_dash(&drop.reason), or_dash(&drop.location), stage, place(&drop.key)]
}
