//! A difference as a page: the sentence, the stages, and the flame graph of the second recording.

use maud::{Markup, html};

use super::{
    diff_text::verdict,
    frames::names,
    heading,
    page::{
        self, Cell,
        graph::{Frame, graph},
        lines, reading, table,
    },
    palette::PLACE,
    place::place,
    units::{signed_time, time},
};
use crate::breakdown::{Diff, DiffRow};

/// The page.
pub(super) fn report(diff: &Diff) -> String {
    let title = format!("{} compared with {}", diff.second.file, diff.first.file);
    let body = html! {
        h1 { (title) }
        @for sentence in verdict(diff).lines() { p.answer { (sentence) } }
        (difference(diff))
        (stages(diff))
        h2 { "The recordings" }
        @for (place, analysis) in [("First", &diff.first), ("Second", &diff.second)] {
            p { b { (place) ": " (analysis.file) } }
            (lines(&heading::lines(analysis)))
        }
    };
    page::page(&title, &body)
}

fn stages(diff: &Diff) -> Markup {
    let heading = ["stage", "added", "first", "second", "first p50", "second p50", "first p99", "second p99"]
        .map(str::to_owned);
    let row = |row: &DiffRow| {
        let key = &row.key;
        let wait = if key.kind == "wait" { ", wait" } else { "" };
        let direction = key.direction.map_or(String::new(), |direction| format!(", {}", direction.name()));
        let name = format!("{}{direction}{wait}", place(key));
        let some = |value: f64| (value != 0.0).then_some(value);
        let quantile = |ns: Option<u64>| Cell::of(ns.map(|ns| ns as f64), time);
        let cells = vec![
            Cell::of(Some(row.delta(diff.per)), signed_time),
            Cell::of(some(row.first.each(diff.per)), time),
            Cell::of(some(row.second.each(diff.per)), time),
            quantile(row.first.supported_p50),
            quantile(row.second.supported_p50),
            quantile(row.first.supported_p99),
            quantile(row.second.supported_p99),
        ];
        (name, cells)
    };
    let any = |row: &&DiffRow| row.first.sum > 0 || row.second.sum > 0;
    let mut rows: Vec<&DiffRow> = diff.rows.iter().filter(any).collect();
    rows.sort_by(|a, b| b.delta(diff.per).total_cmp(&a.delta(diff.per)));
    html! {
        h2 { "Added by the second recording, stage by stage" }
        p.hint { "Times are " (diff.per.name()) ". Click a heading to sort." }
        (table(&heading, &rows.into_iter().map(row).collect::<Vec<_>>()))
    }
}

fn difference(diff: &Diff) -> Markup {
    let mut root = Frame::new("packet", PLACE);
    for row in &diff.rows {
        root.add_row(names(&row.key), row.second.each(diff.per), row.first.each(diff.per));
    }
    root.colour_by_change();
    let tell = |frame: &Frame| {
        format!(
            "{} {} in the second, {} in the first: {}",
            time(frame.ns),
            diff.per.name(),
            time(frame.other_ns),
            signed_time(frame.ns - frame.other_ns)
        )
    };
    html! {
        h2 { "The second recording compared with the first" }
        p.hint {
            "Width is time " (diff.per.name()) " in the second recording: red is slower there, blue is faster. Stages that only "
            "the first has are in the table. Point at a frame, or tap it, to read it."
        }
        (reading())
        figure { (graph(&root, root.ns, "Flame graph of the second recording", &tell)) }
    }
}
