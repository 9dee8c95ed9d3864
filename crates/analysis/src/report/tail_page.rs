//! A tail as a page: the answer, what is the matter, where the excess is, the slowest packets over time, and every
//! stage.

use maud::{Markup, html};

use super::{
    frames::{Tells, stack},
    page::{
        self, Cell,
        graph::{Frame, graph},
        lanes::{Bar, lanes},
        reading, table,
    },
    palette::{PLACE, colour},
    tail_text::{at, context, cpu, evidence, first_lines, heading, microseconds, names, parts},
    units::{count, percent, signed_time, time},
};
use crate::tail::{Finding, SlowPacket, Step, Tail, TailRow};

/// The page.
pub(super) fn report(tail: &Tail) -> String {
    let node = &tail.analysis.header.node;
    let title = format!("Slow {} of {} (node {node})", tail.of.name(), tail.analysis.file);
    let body = html! {
        h1 { (title) }
        @for line in first_lines(tail).lines() { p.answer { (line) } }
        (findings(tail))
        @if tail.is_comparison() { (difference(tail)) } @else { (reading()) }
        @if !tail.slowest.is_empty() { (slowest(tail)) }
        @if tail.is_comparison() { (stages(tail)) }
        h2 { "The recording" }
        @for line in context(tail).lines().filter(|line| !line.is_empty()) { p.hint { (line) } }
    };
    page::page(&title, &body)
}

fn findings(tail: &Tail) -> Markup {
    html! {
        h2 { "What is the matter" }
        @if tail.findings.is_empty() { p { "No known cause stands out." } }
        @for finding in &tail.findings { (cause(tail, finding)) }
    }
}

fn cause(tail: &Tail, finding: &Finding) -> Markup {
    let severity = finding.severity.name();
    html! {
        div class={ "finding " (severity) } {
            p { b { (severity) ": " } (finding.rule.what) "." }
            p.hint { (evidence(tail, finding)) }
            ul { @for advice in finding.rule.advice { li { (advice.what) " " span.hint { "[" (advice.source) "]" } } } }
        }
    }
}

/// Every row, the largest excess first; they add up to the last line.
fn stages(tail: &Tail) -> Markup {
    let heading = ["where", "excess µs", "of all", "slow", "ordinary", "leads"].map(str::to_owned);
    let cell = |value: f64, shown: String| Cell(Some(value), shown);
    let row = |row: &TailRow| {
        let excess = row.excess_ns();
        let cells = vec![
            cell(excess as f64, microseconds(excess)),
            cell(tail.share(excess), percent(tail.share(excess))),
            cell(row.slow_ns as f64, time(row.slow_ns as f64)),
            cell(row.ordinary_ns as f64, time(row.ordinary_ns as f64)),
            cell(row.leads as f64, count(row.leads)),
        ];
        (format!("{}{}", at(&row.key), if row.key.kind == "wait" { ", wait" } else { "" }), cells)
    };
    let mut rows: Vec<_> = tail.rows.iter().map(row).collect();
    // Without a value: however the table is sorted, it stays below.
    let all = [
        microseconds(tail.excess_ns()),
        percent(tail.share(tail.excess_ns())),
        time(tail.slow.mean_ns as f64),
        time(tail.ordinary.mean_ns as f64),
        count(tail.slow.packets),
    ];
    rows.push(("all".into(), all.map(|shown| Cell(None, shown)).into()));
    html! {
        h2 { "All stages" }
        p.hint {
            "Per packet; the rows add up to the last line to the nanosecond. \u{201c}Leads\u{201d}: slow packets that lost "
            "more here than anywhere else. Click a heading to sort."
        }
        (table(&heading, &rows))
    }
}

/// The flame graph of the slow ones, beside the ordinary ones.
fn difference(tail: &Tail) -> Markup {
    let mut root = Frame::new(format!("node {}", tail.analysis.header.node), PLACE);
    for row in tail.by_path() {
        let frames: Vec<_> =
            stack("", &row.key).into_iter().skip(1).map(|(_, name): (Tells, String)| (name, PLACE)).collect();
        root.add(&frames, row.slow_ns as f64, row.ordinary_ns as f64);
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
        p { (parts(tail).trim()) }
        p.hint {
            "Width is time per slow packet, left to right is the packets' path: red is slower than in ordinary packets, "
            "blue is faster. From the bottom: node, network namespace and direction, level (encapsulation headers around "
            "the packet), device, layer, stage. Point at a frame, or tap it, to read it."
        }
        (reading())
        figure { (graph(&root, root.ns, "Flame graph of the slow packets", &tell)) }
    }
}

fn slowest(tail: &Tail) -> Markup {
    html! {
        h2 { "The slowest, one by one" }
        p.hint { "A lane for each device on the way, in the order in which the packet came there; blue is waiting." }
        @for (number, packet) in tail.slowest.iter().enumerate() { (timeline(tail, number + 1, packet)) }
    }
}

fn timeline(tail: &Tail, number: usize, packet: &SlowPacket) -> Markup {
    let heading = heading(tail, number, packet);
    let bars: Vec<Bar> = packet.steps.iter().map(|step| bar(packet, step)).collect();
    html! {
        figure.packet {
            figcaption { (heading) }
            (lanes(&bars, packet.ns, &heading))
            details open[number == 1] {
                summary { "step by step" }
                (steps(packet))
            }
        }
    }
}

fn bar(packet: &SlowPacket, step: &Step) -> Bar {
    let name = step.key.stage.clone().unwrap_or_default();
    let [_, kind, level, netns, device] = names(&step.key);
    Bar {
        place: format!("{} of {netns}", if device == "-" { "no device" } else { &device }),
        at_ns: step.at_ns,
        ns: step.ns,
        colour: colour(Tells::Stage, &name, &step.key),
        tells: format!(
            "at {} µs: {name} ({kind}, {level}) {}, {}{}",
            microseconds(step.at_ns.into()),
            time(step.ns as f64),
            percent(step.ns as f64 / packet.ns.max(1) as f64),
            step.cpu.map_or_else(String::new, |cpu| format!(", CPU {cpu}"))
        ),
        name,
    }
}

fn steps(packet: &SlowPacket) -> Markup {
    html! {
        div.wide {
            table.steps {
                thead { tr { @for name in ["stage", "at µs", "took", "share", "kind", "level", "where", "device", "cpu"] { th scope="col" { (name) } } } }
                tbody {
                    @for step in &packet.steps {
                        @let [stage, kind, level, netns, device] = names(&step.key);
                        tr {
                            th scope="row" { (stage) }
                            td { (microseconds(step.at_ns.into())) }
                            td { (time(step.ns as f64)) }
                            td { (percent(step.ns as f64 / packet.ns.max(1) as f64)) }
                            @for name in [kind, level, netns, device, cpu(step)] { td.name { (name) } }
                        }
                    }
                }
            }
        }
    }
}
