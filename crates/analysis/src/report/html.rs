//! The report as a page: the answer, the flame graph, the path, layers and levels, every stage with its distribution, what
//! was lost, the traffic's latency, and the course of time.

use maud::{Markup, html};

use super::{
    Detail, counters,
    frames::stack,
    heading,
    overview::{self, Hop, LayerTime, stage_name},
    page::{
        self, Cell,
        chart::{self, Scale},
        drawn_table,
        graph::{Frame, graph},
        lines, reading, table, words,
    },
    palette::{PLACE, colour},
    text, traffic,
    units::{count, percent, time},
};
use crate::breakdown::{Analysis, By, Dist, Key, Row};

/// So many devices of the path, those with most time, and so many drops are shown.
const HOPS: usize = 40;
const DROPS: usize = 200;

/// The page; `preface` stands behind the answer.
pub(super) fn report(analysis: &Analysis, preface: &[String]) -> String {
    let title = format!("{} (node {})", analysis.file, analysis.header.node);
    let has_packets = !analysis.rows.is_empty();
    let body = html! {
        h1 { (title) }
        p.answer { (overview::sentence(analysis)) }
        @for line in preface { p.hint { (line) } }
        @if has_packets {
            (flame(analysis))
            @if analysis.by == By::Stage { (path(analysis)) (layers(analysis)) }
            (stages(analysis))
            (whole(analysis))
        }
        (lost(analysis))
        (load(analysis))
        h2 { "The recording" }
        (lines(&heading::lines(analysis)))
    };
    page::page(&title, &body)
}

fn flame(analysis: &Analysis) -> Markup {
    let prefix = analysis.netns_prefix();
    let mut root = Frame::new(format!("node {}", analysis.header.node), PLACE);
    for row in &analysis.rows {
        let netns = row.key.netns.as_ref().map(|netns| netns.strip_prefix(&prefix).unwrap_or(netns).into());
        let key = Key { netns, ..row.key.clone() };
        let frames: Vec<_> = stack("", &key)
            .into_iter()
            .skip(1)
            .map(|(tells, name)| {
                let colour = colour(tells, &name, &key);
                (name, colour)
            })
            .collect();
        root.add(&frames, row.raw.sum() as f64, 0.0);
    }
    let packets = analysis.packets().max(1) as f64;
    let whole = root.ns.max(1.0);
    let tell =
        |frame: &Frame| format!("{} per packet, {}", time(frame.ns / packets), percent(frame.ns / whole));
    html! {
        h2 { "Where the time goes" }
        p.hint {
            "Width is time, left to right is the packets' path. From the bottom: node, network namespace and direction, level "
            "(encapsulation headers around the packet), device, layer, stage. Warm colours are work, blue is waiting."
            @if !prefix.is_empty() { " All namespaces begin with " (prefix) "…" }
        }
        (reading())
        figure { (graph(&root, root.ns, "Flame graph of the recording; the tables below have the same numbers", &tell)) }
    }
}

/// The path as a line of devices, those inside an overlay raised.
fn path(analysis: &Analysis) -> Markup {
    let mut hops = overview::path(analysis);
    let all = hops.len();
    let mut sizes: Vec<f64> = hops.iter().map(|hop| hop.share).collect();
    sizes.sort_by(|a, b| b.total_cmp(a));
    let least = sizes.get(HOPS - 1).copied().unwrap_or_default();
    hops.retain(|hop| hop.share >= least);
    html! {
        h2 { "The path, device by device" }
        p.hint {
            "Time per packet, over all packets; what is inside an overlay stands higher. Requests and answers that pass the "
            "same device share it."
            @if all > hops.len() { " Shown are the " (hops.len()) " of " (count(all as u64)) " with most time." }
        }
        ol.path { @for one in &hops { (hop(one)) } }
    }
}

fn hop(hop: &Hop) -> Markup {
    let Hop { netns, device, level, mean_ns, share, waiting, largest } = hop;
    let device = if device.is_empty() { "no device" } else { device };
    html! {
        li class={ "l" ((*level).min(3)) } {
            span.hint { (netns) }
            b { (device) }
            span { (time(*mean_ns)) ", " (percent(*share)) }
            span.hint { "level " (level) @if *waiting > 0.0 { ", " (percent(waiting / share)) " waiting" } }
            @if !largest.is_empty() { span.hint { "most: " (largest) } }
        }
    }
}

fn layers(analysis: &Analysis) -> Markup {
    let mean = analysis.end_to_end.mean();
    let some = |share: f64| (share > 0.0).then_some(share * mean);
    let mut heading: Vec<String> = vec!["layer".into(), "share".into(), "time".into()];
    heading.extend(overview::levels(analysis).iter().map(|level| format!("level {level}")));
    heading.push("waiting".into());
    let row = |layer: LayerTime| {
        let LayerTime { layer, share, by_level, waiting } = layer;
        if layer.is_empty() {
            // Without values: it stays at the bottom however the table is sorted.
            let shown = |share: f64| Cell(None, some(share).map_or("–".into(), time));
            let cells =
                [vec![Cell(None, percent(share)), shown(share)], by_level.into_iter().map(shown).collect()];
            return (
                "all".to_owned(),
                [cells.into_iter().flatten().collect(), vec![shown(waiting)]].into_iter().flatten().collect(),
            );
        }
        let mut cells = vec![Cell::of(Some(share), percent), Cell::of(some(share), time)];
        cells.extend(by_level.into_iter().chain([waiting]).map(|share| Cell::of(some(share), time)));
        (layer, cells)
    };
    let rows: Vec<(String, Vec<Cell>)> = overview::layers(analysis).into_iter().map(row).collect();
    html! {
        h2 { "Time by layer and level" }
        p.hint { "Per packet, over all packets. Level 1 is the price of the first overlay." }
        (table(&heading, &rows))
    }
}

/// What a row is of, in one cell.
fn name(by: By, key: &Key, prefix: &str) -> String {
    if by != By::Stage {
        return text::name_cells(key, text::columns(by)).join(" ");
    }
    let netns = key.netns.as_deref().unwrap_or_default();
    let place = [key.device.as_deref().unwrap_or_default(), netns.strip_prefix(prefix).unwrap_or(netns)];
    let place: Vec<&str> = place.into_iter().filter(|name| !name.is_empty()).collect();
    let direction = key.direction.map_or("", |direction| direction.name());
    format!(
        "{}, {} (level {}, {direction})",
        stage_name(key).unwrap_or_default(),
        place.join(" of "),
        key.level.unwrap_or(0)
    )
}

fn stages(analysis: &Analysis) -> Markup {
    let heading =
        ["stage", "share", "mean", "p50", "p90", "p99", "p99.9", "p99.99", "max", "net mean", "packets"];
    let mut rows: Vec<&Row> = analysis.rows.iter().filter(|row| row.raw.sum() > 0).collect();
    rows.sort_by_key(|row| std::cmp::Reverse(row.raw.sum()));
    let scale = Scale::of(rows.iter().map(|row| &row.raw));
    let pictures: Vec<Markup> =
        rows.iter().map(|row| chart::small(&row.raw, &scale, row.key.kind == "wait")).collect();
    let prefix = analysis.netns_prefix();
    let row = |row: &&Row| {
        let mut cells = vec![Cell::of(Some(row.share), percent)];
        cells.extend(numbers(&row.raw));
        cells.push(Cell::of(row.net.as_ref().map(Dist::mean), time));
        cells.push(Cell::of(Some(row.raw.count() as f64), |packets| count(packets as u64)));
        (name(analysis.by, &row.key, &prefix), cells)
    };
    let rows: Vec<(String, Vec<Cell>)> = rows.iter().map(row).collect();
    html! {
        h2 { "Every stage" }
        p.hint {
            "Times are of the packets that passed the stage; a percentile needs at least ten packets above it. The last column "
            "draws the distribution, on one logarithmic scale for all rows. Click a heading to sort."
        }
        (drawn_table(&heading.map(str::to_owned), &rows, Some(("distribution", &pictures))))
    }
}

/// Mean, supported percentiles, maximum.
pub(super) fn numbers(dist: &Dist) -> Vec<Cell> {
    let quantile = |part| Cell::of(dist.supported(part).map(|ns| ns as f64), time);
    let mut cells = vec![Cell::of(Some(dist.mean()), time)];
    cells.extend([0.5, 0.9, 0.99, 0.999, 0.9999].map(quantile));
    cells.push(Cell::of(Some(dist.max() as f64), time));
    cells
}

/// The distribution end to end, and its course.
fn whole(analysis: &Analysis) -> Markup {
    let heading = ["", "mean", "p50", "p90", "p99", "p99.9", "p99.99", "max"].map(str::to_owned);
    let mut rows = vec![("end to end".to_owned(), numbers(&analysis.end_to_end))];
    if analysis.latency.sum() != analysis.end_to_end.sum() {
        rows.push(("latency of segments".to_owned(), numbers(&analysis.latency)));
    }
    html! {
        h2 { "End to end" }
        p { (text::parts(analysis)) }
        p { (text::without_sockets(analysis)) }
        (table(&heading, &rows))
        figure {
            figcaption { "Distribution: packets by their time. Heights are square roots, so that what is rare can be seen." }
            (chart::distribution(&analysis.end_to_end, "Distribution of the end-to-end time; the table above has its percentiles"))
        }
        @if let Some(course) = &analysis.over_time {
            figure {
                figcaption { "Over time: median (blue), p99 and maximum (red) of the packets that began then" }
                (chart::over_time(course, "Median, p99 and maximum over the recording's time"))
            }
        }
    }
}

fn lost(analysis: &Analysis) -> Markup {
    let (mut drops, harmless) = overview::drops(analysis);
    drops.sort_by_key(|drop| std::cmp::Reverse(drop.packets));
    let rows: Vec<Vec<String>> = drops.iter().take(DROPS).map(|drop| text::drop_cells(drop)).collect();
    let counters = counters::tables(analysis.kernel_counters.as_ref());
    html! {
        h2 { "Drops and losses" }
        @if rows.is_empty() { p { "No packet that somebody waited for was dropped." } }
        @else { (words(&["dropped", "reason", "location", "stage", "where"], &rows)) }
        @if let Some(sentence) = overview::harmless(&harmless) { p.hint { "Apart: " (sentence) "." } }
        (lines(&heading::losses_lines(analysis, Detail::Short)))
        (lines(&heading::nics_lines(analysis, Detail::Full)))
        @if !counters.is_empty() { h3 { "The kernel's own counters" } pre { (counters.trim()) } }
    }
}

fn load(analysis: &Analysis) -> Markup {
    let tables = traffic::tables(&analysis.traffic, Detail::Short);
    html! { @if !tables.is_empty() { h2 { "The traffic and its latency" } pre { (tables.trim()) } } }
}
