//! A tail as a page: the answer, the causes, where the excess is, the slowest packets over time, and every stage.

use maud::{Markup, html};

use super::view::{ExcessView, FindingView, PacketView, StepView, TailView};
use crate::{
    report::{
        frames::{Tells, names},
        page::{
            self, Cell,
            graph::{Frame, graph},
            lanes::{Bar, lanes},
            lines, reading, table,
        },
        palette::{PLACE, colour},
        place::place,
        units::{signed_time, time},
    },
    tail::{Tail, TailRow},
};

/// The page.
pub(super) fn report(tail: &Tail, view: &TailView<'_>) -> String {
    let body = html! {
        h1 { (view.title) }
        @for sentence in &view.summary { p.answer { (sentence) } }
        (findings(view))
        @if let Some(excess) = &view.excess { (difference(tail, excess)) } @else { (reading()) }
        @if !view.packets.is_empty() { (slowest(view)) }
        @if let Some(excess) = &view.excess { (stages(excess)) }
        h2 { "The recording" }
        (lines(&view.context))
    };
    page::page(&view.title, &body)
}

fn findings(view: &TailView<'_>) -> Markup {
    html! {
        h2 { "Causes" }
        @if view.findings.is_empty() { p { "No known cause stands out." } }
        @for finding in &view.findings { (cause(finding)) }
    }
}

fn cause(finding: &FindingView<'_>) -> Markup {
    html! {
        div class={ "finding " (finding.severity) } {
            p { b { (finding.severity) " (" (finding.confidence) "): " } (finding.what) "." }
            p.hint { (finding.evidence) }
            @if finding.possible.len() > 1 {
                p { "It can come from:" }
                ul { @for cause in finding.possible { li { (cause) } } }
            }
            @if !finding.check.is_empty() { p { "Make sure: " (finding.check) } }
            ul { @for advice in &finding.advice { li { (advice.what) " " span.hint { "[" (advice.source) "]" } } } }
        }
    }
}

/// Every row, the largest excess first; they add up to the last line.
fn stages(excess: &ExcessView<'_>) -> Markup {
    let heading = ["where", "excess µs", "of all", "slow", "ordinary", "dominant"].map(str::to_owned);
    let excess_ns = |row: &TailRow| row.excess_ns() as f64;
    let mut rows: Vec<_> = excess
        .rows
        .iter()
        .map(|(row, shown)| {
            let values = [
                excess_ns(row),
                excess_ns(row),
                row.slow_ns as f64,
                row.ordinary_ns as f64,
                row.dominant as f64,
            ];
            let cells = [&shown.excess, &shown.share, &shown.slow, &shown.ordinary, &shown.dominant];
            let cells = values.into_iter().zip(cells).map(|(value, shown)| Cell(Some(value), shown.clone()));
            let name = format!("{}{}", place(&row.key), if row.key.kind == "wait" { ", wait" } else { "" });
            (name, cells.collect())
        })
        .collect();
    // Without a value: it stays at the bottom however the table is sorted.
    let all = &excess.all;
    let all = [&all.excess, &all.share, &all.slow, &all.ordinary, &all.dominant];
    rows.push(("all".into(), all.map(|shown| Cell(None, shown.clone())).into()));
    html! {
        h2 { "All stages" }
        p.hint {
            "Per packet; the rows add up to the last line to the nanosecond. \u{201c}Dominant\u{201d}: number of slow packets "
            "whose largest excess is in this stage. Click a heading to sort."
        }
        (table(&heading, &rows))
    }
}

/// The flame graph of the slow packets, coloured by the difference to the ordinary ones.
fn difference(tail: &Tail, excess: &ExcessView<'_>) -> Markup {
    let mut root = Frame::new(format!("node {}", tail.analysis.header.node), PLACE);
    for row in tail.by_path() {
        root.add_row(names(&row.key), row.slow_ns as f64, row.ordinary_ns as f64);
    }
    root.colour_by_change();
    let tell = |frame: &Frame| {
        format!(
            "{} per slow packet, {} in ordinary ones: {}",
            time(frame.ns),
            time(frame.other_ns),
            signed_time(frame.ns - frame.other_ns)
        )
    };
    html! {
        h2 { "Where the excess is" }
        p { (excess.parts) }
        p.hint {
            "Width is time per slow packet, left to right is the packets' path. Red is slower than in ordinary packets, "
            "blue is faster. From the bottom: node, network namespace and direction, level (encapsulation headers around "
            "the packet), device, layer, stage. Point at a frame, or tap it, to read it."
        }
        (reading())
        figure { (graph(&root, root.ns, "Flame graph of the slow packets", &tell)) }
    }
}

fn slowest(view: &TailView<'_>) -> Markup {
    html! {
        h2 { "The slowest, one by one" }
        p.hint { "One lane per device of the path, in the order of the packet's arrival there; blue is waiting." }
        @for (number, packet) in view.packets.iter().enumerate() { (timeline(packet, number == 0)) }
    }
}

fn timeline(packet: &PacketView<'_>, is_open: bool) -> Markup {
    let bars: Vec<Bar> = packet.steps.iter().map(bar).collect();
    html! {
        figure.packet {
            figcaption { (packet.heading) }
            (lanes(&bars, packet.packet.ns, &packet.heading))
            details open[is_open] {
                summary { "step by step" }
                (steps(packet))
            }
        }
    }
}

fn bar(view: &StepView<'_>) -> Bar {
    let StepView { step, at, took, share, place, .. } = view;
    let name = step.key.stage.clone().unwrap_or_default();
    let cpu = step.cpu.map_or_else(String::new, |cpu| format!(", CPU {cpu}"));
    Bar {
        place: format!(
            "{} of {}",
            if place.device == "-" { "no device" } else { &place.device },
            place.netns
        ),
        at_ns: step.at_ns,
        ns: step.ns,
        colour: colour(Tells::Stage, &name, &step.key),
        tells: format!("at {at} µs: {name} ({}, {}) {took}, {share}{cpu}", place.kind, place.level),
        name,
    }
}

fn steps(packet: &PacketView<'_>) -> Markup {
    let heading = ["stage", "at µs", "took", "share", "kind", "level", "where", "device", "cpu"];
    html! {
        div.wide {
            table.steps {
                thead { tr { @for name in heading { th scope="col" { (name) } } } }
                tbody {
                    @for StepView { at, took, share, place, cpu, .. } in &packet.steps {
                        tr {
                            th scope="row" { (place.stage) }
                            @for time in [at, took, share] { td { (time) } }
                            @for name in [place.kind, &place.level, &place.netns, &place.device, cpu] { td.name { (name) } }
                        }
                    }
                }
            }
        }
    }
}
