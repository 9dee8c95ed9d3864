//! A tail as text: the answer first, then the causes, where the excess is, and the slowest packets one by one.

use std::fmt::Write;

use super::view::{ExcessView, PacketView, RowCells, StepView, TailView};
use crate::{
    report::{heading, place::PlaceCells, table::lines},
    tail::{Tail, TailRow},
};

/// Rows with less than this fraction of the excess are shown as one.
const SMALL: f64 = 0.02;

/// The tail as text.
pub(super) fn report(tail: &Tail, view: &TailView<'_>) -> String {
    let mut out = view.summary.join("\n") + "\n\n";
    out += &heading::text(&view.context);
    out += &findings(view);
    if let Some(excess) = &view.excess {
        let _ = writeln!(out, "\n{}\n", excess.parts);
        out += &table(tail, excess);
    }
    for packet in &view.packets {
        out.push('\n');
        out += &timeline(packet);
    }
    out
}

fn findings(view: &TailView<'_>) -> String {
    if view.findings.is_empty() {
        return "\nNo known cause stands out.\n".into();
    }
    let mut out = String::new();
    for finding in &view.findings {
        let _ = writeln!(out, "\n{} ({}): {}.", finding.severity, finding.confidence, finding.what);
        let _ = writeln!(out, "    {}", finding.evidence);
        if finding.possible.len() > 1 {
            out += "    it can come from:\n";
        }
        for cause in finding.possible.iter().filter(|_| finding.possible.len() > 1) {
            let _ = writeln!(out, "    * {cause}");
        }
        if !finding.check.is_empty() {
            let _ = writeln!(out, "    make sure: {}", finding.check);
        }
        for advice in &finding.advice {
            let _ = writeln!(out, "    - {} [{}]", advice.what, advice.source);
        }
    }
    out
}

/// Every row with a notable part of the excess, the largest first; the others are added up.
fn table(tail: &Tail, excess: &ExcessView<'_>) -> String {
    let numbers = |cells: &RowCells| {
        let RowCells { slow, ordinary, excess, share, dominant } = cells;
        [slow, ordinary, excess, share, dominant].map(String::clone).to_vec()
    };
    let is_small = |row: &TailRow| tail.share(row.excess_ns()).abs() < SMALL;
    let large = excess.rows.iter().filter(|(row, _)| !is_small(row));
    let mut rows: Vec<Vec<String>> = large
        .map(|(row, cells)| [PlaceCells::of(&row.key).cells().to_vec(), numbers(cells)].concat())
        .collect();
    let total = |name: String, cells: &RowCells| {
        let name: Vec<String> = [name, String::new(), String::new(), String::new(), String::new()].into();
        [name, numbers(cells)].concat()
    };
    let small: Vec<&TailRow> = tail.rows.iter().filter(|row| is_small(row)).collect();
    if !small.is_empty() {
        rows.push(total(format!("{} others", small.len()), &RowCells::of(tail, small.iter().copied())));
    }
    rows.push(total("all".into(), &excess.all));
    let heading =
        ["stage", "kind", "level", "where", "device", "slow", "ordinary", "excess µs", "of all", "dominant"];
    lines(&heading, &rows, 5).join("\n")
        + "\n(per packet; dominant: number of slow packets whose largest excess is in this stage)\n"
}

/// A packet's path, step by step.
fn timeline(packet: &PacketView<'_>) -> String {
    // The times are one cell, so that they are right-aligned before names that are left-aligned.
    let width = packet.steps.iter().map(|step| step.at.len()).max().unwrap_or(0);
    let row = |step: &StepView<'_>| {
        let mut row = vec![format!("{:>width$} {:>6} {:>6}", step.at, step.took, step.share)];
        row.extend(step.place.cells());
        row.push(step.cpu.clone());
        row
    };
    let rows: Vec<Vec<String>> = packet.steps.iter().map(row).collect();
    let times = format!("{:>width$} {:>6} {:>6}", "at µs", "took", "share");
    let table = lines(&[&times, "stage", "kind", "level", "where", "device", "cpu"], &rows, 7);
    format!("{}\n{}\n", packet.heading, table.join("\n"))
}
