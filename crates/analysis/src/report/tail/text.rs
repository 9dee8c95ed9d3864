//! A tail as text: the answer first, then the causes, where the excess is, and the slowest packets one by one.

use std::fmt::Write;

use super::view::{ExcessView, PacketView, RowCells, StepView, TailView};
use crate::{
    report::{
        Detail, heading,
        place::PlaceCells,
        table::lines,
        units::{percent, time},
    },
    tail::{Tail, TailRow},
};

/// Rows with less than this fraction of the excess are shown as one.
const SMALL: f64 = 0.02;

/// What of it fits a screen: so many causes, with so many pieces of advice; rows of the excess; steps of a packet.
const CAUSES: usize = 3;
const ADVICE: usize = 2;
const ROWS: usize = 12;
const STEPS: usize = 8;

/// The tail as text.
pub(super) fn report(tail: &Tail, view: &TailView<'_>, detail: Detail) -> String {
    let is_short = detail == Detail::Short;
    let mut out = match detail {
        Detail::Full => view.summary.join("\n") + "\n",
        Detail::Short => view.summary.iter().map(|sentence| heading::wrapped(sentence)).collect(),
    };
    out.push('\n');
    out += &heading::text(&view.context);
    out += &findings(view, is_short);
    if let Some(excess) = &view.excess {
        let _ = writeln!(out, "\n{}\n", excess.parts);
        out += &table(tail, excess, if is_short { ROWS } else { usize::MAX });
    }
    for packet in &view.packets {
        out.push('\n');
        out += &timeline(packet, if is_short { STEPS } else { usize::MAX });
    }
    out
}

fn findings(view: &TailView<'_>, is_short: bool) -> String {
    if view.findings.is_empty() {
        return "\nNo known cause stands out.\n".into();
    }
    let (causes, advice) = if is_short { (CAUSES, ADVICE) } else { (usize::MAX, usize::MAX) };
    let mut out = String::new();
    for finding in view.findings.iter().take(causes) {
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
        for advice in finding.advice.iter().take(advice) {
            let _ = writeln!(out, "    - {} [{}]", advice.what, advice.source);
        }
    }
    if view.findings.len() > causes {
        let more: Vec<&str> = view.findings[causes..].iter().map(|finding| finding.what).collect();
        let _ = writeln!(out, "\n{} more (--full): {}", more.len(), more.join("; "));
    }
    out
}

/// Every row with a notable part of the excess, the largest first; the others are added up.
fn table(tail: &Tail, excess: &ExcessView<'_>, most: usize) -> String {
    let numbers = |cells: &RowCells| {
        let RowCells { slow, ordinary, excess, share, dominant } = cells;
        [slow, ordinary, excess, share, dominant].map(String::clone).to_vec()
    };
    let mut sizes: Vec<f64> = tail.rows.iter().map(|row| tail.share(row.excess_ns()).abs()).collect();
    sizes.sort_by(|a, b| b.total_cmp(a));
    let least = sizes.get(most.saturating_sub(1)).copied().unwrap_or_default().max(SMALL);
    let is_small = |row: &TailRow| tail.share(row.excess_ns()).abs() < least;
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

/// A packet's path, step by step. Of more than `most` steps the shorter ones between two that are shown are one line.
fn timeline(packet: &PacketView<'_>, most: usize) -> String {
    // The times are one cell, so that they are right-aligned before names that are left-aligned.
    let width = packet.steps.iter().map(|step| step.at.len()).max().unwrap_or(0);
    let mut sizes: Vec<u64> = packet.steps.iter().map(|view| view.step.ns).collect();
    sizes.sort_unstable_by(|a, b| b.cmp(a));
    let least = sizes.get(most.saturating_sub(1)).copied().unwrap_or_default();
    let row = |views: &[StepView<'_>]| {
        let [step] = views else {
            let ns: u64 = views.iter().map(|view| view.step.ns).sum();
            let share = percent(ns as f64 / packet.packet.ns.max(1) as f64);
            let times = format!("{:>width$} {:>6} {:>6}", views[0].at, time(ns as f64), share);
            let name = format!("({} steps)", views.len());
            return [vec![times, name], vec![String::new(); 5]].concat();
        };
        let mut row = vec![format!("{:>width$} {:>6} {:>6}", step.at, step.took, step.share)];
        row.extend(step.place.cells());
        row.push(step.cpu.clone());
        row
    };
    let together = |a: &StepView<'_>, b: &StepView<'_>| a.step.ns < least && b.step.ns < least;
    let rows: Vec<Vec<String>> = packet.steps.chunk_by(together).map(row).collect();
    let times = format!("{:>width$} {:>6} {:>6}", "at µs", "took", "share");
    let table = lines(&[&times, "stage", "kind", "level", "where", "device", "cpu"], &rows, 7);
    format!("{}\n{}\n", packet.heading, table.join("\n"))
}
