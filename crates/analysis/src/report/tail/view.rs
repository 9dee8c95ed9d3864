//! The view model of a tail: every sentence and every cell, ready to be laid out.

use overlay_trace_common::record::Outcome;

use super::{sentences, summary, tcp};
use crate::{
    breakdown::Key,
    report::{
        Detail, counters,
        flow::flow,
        heading::{Line, capture, losses_lines, trust},
        place::PlaceCells,
        units::{count, percent, time},
    },
    tail::{Advice, Finding, Of, SlowPacket, Step, Tail, TailRow},
};

/// A tail, ready to be laid out.
pub(super) struct TailView<'a> {
    pub title: String,
    /// The answer, in one sentence or two.
    pub summary: Vec<String>,
    /// What was recorded, and how complete that is.
    pub context: Vec<Line>,
    pub findings: Vec<FindingView<'a>>,
    /// Where the excess is; `None` where there is nothing to compare.
    pub excess: Option<ExcessView<'a>>,
    /// The slowest first.
    pub packets: Vec<PacketView<'a>>,
}

/// A cause.
pub(super) struct FindingView<'a> {
    pub finding: &'a Finding,
    pub severity: &'static str,
    /// The cause, as a clause.
    pub what: &'static str,
    pub confidence: &'static str,
    /// What in the recording shows it.
    pub evidence: String,
    /// What it can come from, if that is more than one thing.
    pub possible: &'static [&'static str],
    /// How to make sure.
    pub check: &'static str,
    pub advice: Vec<&'static Advice>,
}

/// The excess, in total and by row.
pub(super) struct ExcessView<'a> {
    /// By level, and by waiting and working.
    pub parts: String,
    /// The largest excess first.
    pub rows: Vec<(&'a TailRow, RowCells)>,
    pub all: RowCells,
}

/// The numbers of a row, or of several rows together.
pub(super) struct RowCells {
    pub slow: String,
    pub ordinary: String,
    pub excess: String,
    pub share: String,
    pub dominant: String,
}

impl RowCells {
    /// The sums of some rows.
    pub fn of<'a>(tail: &Tail, rows: impl Iterator<Item = &'a TailRow>) -> RowCells {
        let (slow, ordinary, dominant) = rows.fold((0, 0, 0), |(slow, ordinary, dominant), row| {
            (slow + row.slow_ns, ordinary + row.ordinary_ns, dominant + row.dominant)
        });
        let excess = slow - ordinary;
        RowCells {
            slow: time(slow as f64),
            ordinary: time(ordinary as f64),
            excess: microseconds(excess),
            share: percent(tail.share(excess)),
            dominant: count(dominant),
        }
    }
}

/// One of the slowest packets or requests.
pub(super) struct PacketView<'a> {
    pub packet: &'a SlowPacket,
    /// Which packet it is.
    pub heading: String,
    pub steps: Vec<StepView<'a>>,
}

/// A step of its path.
pub(super) struct StepView<'a> {
    pub step: &'a Step,
    pub at: String,
    pub took: String,
    pub share: String,
    pub place: PlaceCells,
    pub cpu: String,
}

impl<'a> TailView<'a> {
    pub fn of(tail: &'a Tail, detail: Detail) -> TailView<'a> {
        let node = &tail.analysis.header.node;
        TailView {
            title: format!("Slow {} of {} (node {node})", tail.of.name(), tail.analysis.file),
            summary: summary::summary(tail),
            context: context(tail, detail),
            findings: tail.findings.iter().map(|finding| finding_view(tail, finding)).collect(),
            excess: tail.is_comparison().then(|| excess(tail)),
            packets: (1..)
                .zip(&tail.slowest)
                .map(|(number, packet)| packet_view(tail, number, packet))
                .collect(),
        }
    }
}

/// A time to the nanosecond, so that a column can be added up: `+1,234.567`.
pub(super) fn microseconds(ns: i128) -> String {
    let sign = if ns < 0 { '-' } else { '+' };
    let size = u64::try_from(ns.unsigned_abs()).unwrap_or(u64::MAX);
    format!("{sign}{}.{:03}", count(size / 1000), size % 1000)
}

fn context(tail: &Tail, detail: Detail) -> Vec<Line> {
    let analysis = &tail.analysis;
    let end = if analysis.complete { "" } else { "; the recording ended abruptly" };
    let mut lines = vec![Line::new("capture", format!("{}: {}{end}", analysis.file, capture(analysis)))];
    lines.extend(losses_lines(analysis, detail));
    lines.push(Line::new("believe", trust(analysis)));
    if tail.of == Of::Requests {
        let pairs = tail.slow.packets + tail.ordinary.packets;
        let text = format!(
            "{} requests with their answers, {} requests without an answer",
            count(pairs),
            count(tail.unpaired)
        );
        lines.push(Line::new("pairs", text));
    }
    lines.extend(tcp::line(tail).map(|text| Line::new("tcp", text)));
    lines.extend(summary::drops(tail).map(|text| Line::new("drops", text)));
    let counters = counters::line(analysis.kernel_counters.as_ref());
    lines.extend(counters.map(|text| Line::new("counters", text)));
    lines
}

fn finding_view<'a>(tail: &Tail, finding: &'a Finding) -> FindingView<'a> {
    FindingView {
        finding,
        severity: finding.severity.name(),
        confidence: finding.confidence.name(),
        what: finding.what(),
        evidence: sentences::evidence(tail, finding),
        possible: finding.possible(),
        check: finding.check(),
        advice: finding.advice(),
    }
}

fn excess(tail: &Tail) -> ExcessView<'_> {
    ExcessView {
        parts: excess_parts(tail),
        rows: tail.rows.iter().map(|row| (row, RowCells::of(tail, [row].into_iter()))).collect(),
        all: RowCells::of(tail, tail.rows.iter()),
    }
}

fn excess_parts(tail: &Tail) -> String {
    let part = |name: &str, matches: &dyn Fn(&Key) -> bool| sentences::excess_part(tail, name, matches);
    let mut levels: Vec<u8> = tail.rows.iter().filter_map(|row| row.key.level).collect();
    levels.sort_unstable();
    levels.dedup();
    let levels: Vec<String> = levels
        .iter()
        .map(|&level| part(&format!("level {level}"), &|key| key.level == Some(level)))
        .collect();
    let kinds = [part("waiting", &|key| key.kind == "wait"), part("working", &|key| key.kind == "work")];
    let dropped = match tail.slow_dropped {
        0 => String::new(),
        dropped => format!(" | {} of the slow packets were dropped", count(dropped)),
    };
    format!("excess: {} | {}{dropped}", levels.join(", "), kinds.join(", "))
}

fn packet_view<'a>(tail: &Tail, number: usize, packet: &'a SlowPacket) -> PacketView<'a> {
    let step = |step: &'a Step| StepView {
        step,
        at: microseconds(step.at_ns.into()),
        took: time(step.ns as f64),
        share: percent(step.ns as f64 / packet.ns.max(1) as f64),
        place: PlaceCells::of(&step.key),
        cpu: step.cpu.map_or("-".into(), |cpu| cpu.to_string()),
    };
    PacketView {
        packet,
        heading: heading(tail, number, packet),
        steps: packet.steps.iter().map(step).collect(),
    }
}

/// `slow packet 1: 600µs, udp 10.244.1.2:47890 > 10.244.2.2:7700, 128 bytes; …`.
fn heading(tail: &Tail, number: usize, packet: &SlowPacket) -> String {
    let header = &packet.header;
    let outcome = match Outcome::from_u8(header.outcome) {
        Some(Outcome::Dropped) => "dropped",
        Some(Outcome::Merged) => "merged into another packet",
        Some(Outcome::Split) => "segmented",
        _ => "finished",
    };
    let start_ns = packet.start_ns.saturating_sub(tail.analysis.header.start_monotonic_ns);
    format!(
        "slow {} {number}: {}, {}, {} bytes; started {:.6} s into the recording, {outcome} on CPU {}",
        if tail.of == Of::Requests { "request" } else { "packet" },
        time(packet.ns as f64),
        flow(&header.flow),
        count(header.bytes.into()),
        start_ns as f64 / 1e9,
        header.cpu
    )
}
