//! The report as text that fits a screen: the answer, the path device by device, the largest stages, and what was lost.

use super::{
    Detail, counters, heading,
    overview::{self, Hop, LayerTime, stage_name},
    table::lines_with_values,
    text, traffic,
    units::{count, percent, time},
};
use crate::breakdown::{Analysis, By, Dist, Row};

/// So many rows of each table are shown.
const HOPS: usize = 16;
const STAGES: usize = 15;
const DROPS: usize = 5;
const COUNTERS: usize = 5;
/// Layers with a smaller part of the time are added up.
const LAYER_SHARE_MIN: f64 = 0.01;

/// The percentiles of every table; those that the packets do not support are left out.
const QUANTILES: [(&str, f64); 5] =
    [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999), ("p99.99", 0.9999)];

/// The report as text, short.
pub(super) fn report(analysis: &Analysis) -> String {
    let mut out = heading::wrapped(&overview::sentence(analysis)) + "\n";
    let mut context = heading::short_lines(analysis);
    context.extend(layers(analysis).map(|text| heading::Line::new("layers", text)));
    out += &heading::text(&context);
    if analysis.rows.is_empty() {
        return out;
    }
    out.push('\n');
    out += &end_to_end(analysis);
    if analysis.by == By::Stage {
        out += &path(analysis);
    }
    out += &largest(analysis);
    out += &drops(analysis);
    out += &counters::largest(analysis.kernel_counters.as_ref(), COUNTERS);
    out += &traffic::tables(&analysis.traffic, Detail::Short);
    out
}

/// Mean, the percentiles that there are enough packets for, and the maximum.
pub(super) fn numbers(dist: &Dist) -> Vec<String> {
    let quantiles = QUANTILES
        .map(|(_, quantile)| dist.supported(quantile).map_or_else(|| "-".to_owned(), |ns| time(ns as f64)));
    [vec![time(dist.mean())], quantiles.to_vec(), vec![time(dist.max() as f64)]].concat()
}

/// The headings of [`numbers`].
pub(super) fn numbers_heading() -> Vec<&'static str> {
    [vec!["mean"], QUANTILES.map(|(name, _)| name).to_vec(), vec!["max"]].concat()
}

fn end_to_end(analysis: &Analysis) -> String {
    let heading = [vec![""], numbers_heading(), vec!["net mean"]].concat();
    let net = analysis.net_mean().map_or("-".into(), time);
    let row = |name: &str, dist, net| [vec![name.to_owned()], numbers(dist), vec![net]].concat();
    let mut rows = vec![row("end to end", &analysis.end_to_end, net)];
    if analysis.latency.sum() != analysis.end_to_end.sum() {
        rows.push(row("latency", &analysis.latency, "-".into()));
    }
    let end_to_end = lines_with_values(&heading, &rows, 1).join("\n");
    format!("{end_to_end}\n{}\n{}", text::parts(analysis), text::without_sockets(analysis))
}

/// A line per device and level of the path.
fn path(analysis: &Analysis) -> String {
    let hops = overview::path(analysis);
    let mut sizes: Vec<f64> = hops.iter().map(|hop| hop.share).collect();
    sizes.sort_by(|a, b| b.total_cmp(a));
    let least = sizes.get(HOPS - 1).copied().unwrap_or_default();
    let (shown, rest): (Vec<Hop>, Vec<Hop>) = hops.into_iter().partition(|hop| hop.share >= least);
    let mut rows: Vec<Vec<String>> = shown.iter().map(hop).collect();
    if !rest.is_empty() {
        let share: f64 = rest.iter().map(|hop| hop.share).sum();
        let mean: f64 = rest.iter().map(|hop| hop.mean_ns).sum();
        let name = format!("{} others", count(rest.len() as u64));
        let dash = || "-".to_owned();
        rows.push(vec![name, dash(), dash(), dash(), time(mean), percent(share), dash()]);
    }
    let heading = ["path", "device", "level", "largest stage", "time", "share", "waiting"];
    format!("\n{}\n", lines_with_values(&heading, &rows, 4).join("\n"))
}

fn hop(hop: &Hop) -> Vec<String> {
    let Hop { netns, device, level, mean_ns, share, waiting, largest } = hop;
    let waiting = if *waiting > 0.0 { percent(waiting / share) } else { "-".into() };
    let name = |name: &str| if name.is_empty() { "-".to_owned() } else { name.to_owned() };
    let level = level.to_string();
    vec![name(netns), name(device), level, largest.clone(), time(*mean_ns), percent(*share), waiting]
}

/// Time by layer, in a line.
fn layers(analysis: &Analysis) -> Option<String> {
    if analysis.by != By::Stage || analysis.rows.is_empty() {
        return None;
    }
    let mean = analysis.end_to_end.mean();
    let part = |name: &str, share: f64| format!("{name} {} {}", time(share * mean), percent(share));
    let layers = overview::layers(analysis);
    let (mut large, mut small): (Vec<&LayerTime>, Vec<&LayerTime>) = layers
        .iter()
        .filter(|layer| !layer.layer.is_empty())
        .partition(|layer| layer.share >= LAYER_SHARE_MIN);
    if small.len() == 1 {
        large.append(&mut small);
    }
    let mut parts: Vec<String> = large.iter().map(|layer| part(&layer.layer, layer.share)).collect();
    if !small.is_empty() {
        let rest: f64 = small.iter().map(|layer| layer.share).sum();
        parts.push(part(&format!("{} others", small.len()), rest));
    }
    Some(parts.join(", "))
}

/// The rows with the most time. An analysis that does not tell stages apart has few: all of them.
fn largest(analysis: &Analysis) -> String {
    let is_stages = analysis.by == By::Stage;
    let mut rows: Vec<&Row> = analysis.rows.iter().filter(|row| row.raw.sum() > 0).collect();
    let of = rows.len();
    if is_stages {
        rows.sort_by_key(|row| std::cmp::Reverse(row.raw.sum()));
        rows.truncate(STAGES);
    }
    let names: &[&str] = match analysis.by {
        By::Stage => &["largest stages", "kind", "level", "namespace", "device"],
        by => text::columns(by),
    };
    let prefix = analysis.netns_prefix();
    let cells = |row: &&Row| {
        let mut cells = text::name_cells(&row.key, names);
        if is_stages {
            cells[0] = stage_name(&row.key).unwrap_or_default();
            cells[3] = cells[3].strip_prefix(&*prefix).unwrap_or(&cells[3]).to_owned();
        }
        cells.push(percent(row.share));
        cells.extend(numbers(&row.raw));
        cells
    };
    let rows: Vec<Vec<String>> = rows.iter().map(cells).collect();
    let heading = [names, &["share"], &*numbers_heading()].concat();
    let mut out = format!("\n{}\n", lines_with_values(&heading, &rows, names.len()).join("\n"));
    if of > rows.len() {
        let share: f64 = analysis.rows.iter().map(|row| row.share).sum::<f64>() - shown_share(analysis);
        out += &format!("({} more stages, {}: --full)\n", count((of - rows.len()) as u64), percent(share));
    }
    out
}

/// The part of the time that the largest rows have.
fn shown_share(analysis: &Analysis) -> f64 {
    let mut shares: Vec<f64> = analysis.rows.iter().map(|row| row.share).collect();
    shares.sort_by(|a, b| b.total_cmp(a));
    shares.iter().take(STAGES).sum()
}

/// What was lost; what nobody waited for stands apart.
fn drops(analysis: &Analysis) -> String {
    let (mut lost, harmless) = overview::drops(analysis);
    lost.sort_by_key(|drop| std::cmp::Reverse(drop.packets));
    let mut out = String::new();
    if !lost.is_empty() {
        let rows: Vec<Vec<String>> = lost.iter().take(DROPS).map(|drop| text::drop_cells(drop)).collect();
        let table = lines_with_values(&["dropped", "reason", "location", "stage", "where"], &rows, 5);
        out += &format!("\n{}\n", table.join("\n"));
        if lost.len() > DROPS {
            let packets: u64 = lost.iter().skip(DROPS).map(|drop| drop.packets).sum();
            out += &format!("({} more at {} places: --full)\n", count(packets), lost.len() - DROPS);
        }
    }
    if let Some(sentence) = overview::harmless(&harmless) {
        out += &format!("\n{}", heading::text(&[heading::Line::new("apart", sentence)]));
    }
    out
}
