//! The comparison as a self-contained HTML page that is readable without scripts.

use maud::{Markup, html};

use super::flame_graph;
use super::summary::{Comparison, Row, percentiles};
use overlay_trace_analysis::report::page::{self, Cell, reading, table};
use overlay_trace_analysis::report::palette::layer as layer_colour;
use overlay_trace_analysis::report::units::{bit_rate, percent, time};

/// The page.
pub fn page(comparison: &Comparison) -> String {
    let title = format!("Container networks compared: {}", comparison.plan.name);
    let body = html! {
        h1 { (title) }
        @for sentence in &comparison.sentences { p { (sentence) } }
        @if !comparison.rows.is_empty() {
            (summary(comparison))
            (graphs(comparison))
            (layers(comparison))
            (runs(comparison))
        }
        @if !comparison.absent.is_empty() { (absent(comparison)) }
    };
    page::page(&title, &body)
}

/// A time in ns.
fn of_ns(ns: Option<u64>) -> Cell {
    Cell::of(ns.map(|ns| ns as f64), time)
}

fn summary(comparison: &Comparison) -> Markup {
    let levels = comparison.levels();
    let mut heading: Vec<String> = vec!["lab".into(), "throughput".into(), "of host".into()];
    heading.extend(percentiles(&Default::default()).iter().map(|(name, _)| (*name).to_owned()));
    heading.extend(["CPU per packet", "time per packet: median", "mean", "socket wait"].map(str::to_owned));
    heading.extend((0..levels).map(|level| format!("level {level}")));
    let row = |row: &Row| {
        let mut cells =
            vec![Cell::of(row.throughput_bits_per_s, bit_rate), Cell::of(row.throughput_share, percent)];
        let latency = row.latency().cloned().unwrap_or_default();
        cells.extend(percentiles(&latency).into_iter().map(|(_, ns)| of_ns(ns)));
        cells.push(Cell::of(row.cpu_ns_per_packet, time));
        cells.push(of_ns(Some(row.measured.stages.median_ns)));
        cells.push(Cell::of(Some(row.per_packet.whole_ns), time));
        cells.push(Cell::of(Some(row.per_packet.socket_wait_ns), time));
        let level = |level: usize| row.per_packet.levels_ns.get(level).copied().filter(|ns| *ns > 0.0);
        cells.extend((0..levels).map(|number| Cell::of(level(number), time)));
        (row.lab.clone(), cells)
    };
    let rows: Vec<_> = comparison.rows.iter().map(row).collect();
    html! {
        h2 { "All labs" }
        p.hint {
            @if let Some(run) = comparison.latency_run() {
                "Percentiles are of the latency of " (run) ", from the scheduled send time of each request to its answer "
                "(open loop, no coordinated omission). A percentile needs enough requests, otherwise it is left out. "
            }
            "\u{201c}Socket wait\u{201d} is the wait for the reading program. The rest of the mean time per packet is divided by level, "
            "the number of encapsulation headers around the packet: level 1 is the cost of the first overlay. "
            "Click a heading to sort."
        }
        (table(&heading, &rows))
    }
}

fn graphs(comparison: &Comparison) -> Markup {
    let scale_ns = comparison.rows.iter().map(|row| row.per_packet.network_ns()).fold(1.0, f64::max);
    html! {
        h2 { "Where a packet's time goes" }
        p.hint {
            "All graphs have one scale: the full width is " (time(scale_ns)) " per packet, without socket wait. From the bottom: lab, direction, "
            "level, layer, stage. Warm colours are work, blue is wait, purple is inside an overlay. "
            "Point at a frame, or tap it, to read it."
        }
        (reading())
        div.graphs {
            @for row in &comparison.rows {
                figure {
                    figcaption {
                        b { (row.lab) } " " (time(row.per_packet.network_ns())) ". " (row.about)
                        @for note in &row.measured.notes { " (" (note) ")" }
                    }
                    (flame_graph::graph(row, scale_ns))
                }
            }
        }
    }
}

/// One row per lab, one column per layer. The bar in a cell is relative to the column's maximum.
fn layers(comparison: &Comparison) -> Markup {
    let most =
        |layer: &str| comparison.rows.iter().map(|row| row.per_packet.layer(layer)).fold(0.0, f64::max);
    let bar = |layer: &str, ns: f64| {
        let colour = layer_colour(layer);
        let part = 100.0 * ns / most(layer).max(1.0);
        format!("--bar: rgb({},{},{}); --part: {part:.0}%", colour.r, colour.g, colour.b)
    };
    html! {
        h2 { "Time per packet by layer, without socket wait" }
        div.wide {
            table.sortable.bars {
                thead { tr { th scope="col" { "lab" } @for layer in &comparison.layers { th scope="col" { (layer) } } } }
                tbody {
                    @for row in &comparison.rows {
                        tr {
                            th scope="row" { (row.lab) }
                            @for layer in &comparison.layers {
                                @let ns = row.per_packet.layer(layer);
                                @if ns > 0.0 {
                                    td data-value=(ns) style=(bar(layer, ns)) { (time(ns)) }
                                } @else {
                                    td { "–" }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Every run of every lab.
fn runs(comparison: &Comparison) -> Markup {
    let mut heading: Vec<String> =
        ["lab and run", "received", "lost", "not sent", "retransmits", "jitter"].map(str::to_owned).to_vec();
    heading.extend(percentiles(&Default::default()).iter().map(|(name, _)| (*name).to_owned()));
    let mut rows = Vec::new();
    for row in &comparison.rows {
        for run in &row.measured.runs {
            let traffic = &run.traffic;
            let counted = run.packets() > 0;
            let mut cells = vec![
                Cell::of(Some(traffic.throughput_bits_per_s), bit_rate),
                Cell::of(counted.then(|| traffic.lost as f64 / traffic.sent.max(1) as f64), percent),
                Cell::of(
                    counted.then(|| traffic.unsent as f64 / (traffic.sent + traffic.unsent).max(1) as f64),
                    percent,
                ),
                Cell::of(traffic.retransmits.map(|count| count as f64), |count| format!("{count:.0}")),
                of_ns(traffic.jitter_ns),
            ];
            let latency = traffic.latency.clone().unwrap_or_default();
            cells.extend(percentiles(&latency).into_iter().map(|(_, ns)| of_ns(ns)));
            rows.push((format!("{}: {}", row.lab, run.name), cells));
        }
    }
    html! {
        h2 { "All runs" }
        (table(&heading, &rows))
    }
}

fn absent(comparison: &Comparison) -> Markup {
    html! {
        h2 { "Not measured" }
        ul {
            @for absent in &comparison.absent {
                li {
                    b { (absent.lab) } @if absent.failed { " failed: " } @else { " is not available here: " }
                    (absent.reason)
                }
            }
        }
    }
}
