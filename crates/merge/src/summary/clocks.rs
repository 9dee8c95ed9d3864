//! What there is to say about the machines' clocks.

use std::ops::Range;

use serde::Serialize;

use crate::{
    links::{Clocks, Method},
    machine::Machine,
    wall,
};

/// The shortest piece of time that an interval is told for, in ns, and the most pieces of an epoch.
const PIECE_NS: u64 = 1_000_000_000;
const PIECES_MAX: u64 = 64;

/// A machine's clock in terms of the reference.
#[derive(Clone, Debug, Serialize)]
pub struct ClockSummary {
    pub node: String,
    /// `reference`, `packets`, `realtime`, or `unknown`.
    pub method: &'static str,
    /// The machine that it was compared with.
    pub compared_with: String,
    pub packets: u64,
    pub contradictions: u64,
    pub epochs: Vec<EpochSummary>,
    /// The offset's intervals, piece by piece.
    pub intervals: Vec<IntervalSummary>,
    /// How wide they are, in ns: half of the time more, half of it less.
    pub median_width_ns: Option<u64>,
    /// What the wall clocks say about the offset, where both recordings have them, in ns; and whether it lies, within its
    /// error, inside the interval that the packets leave. It is used where packets leave none.
    pub wall_offset_ns: Option<i128>,
    /// How far that may be off; `None` where a kernel says that nobody keeps its wall clock.
    pub wall_error_ns: Option<u64>,
    pub wall_agrees: Option<bool>,
}

/// A time during which one line holds between a clock and the reference.
#[derive(Clone, Debug, Serialize)]
pub struct EpochSummary {
    /// On the machine's own clock, in ns.
    pub from_ns: u64,
    pub drift_ppm: f64,
    /// What is added to the machine's clock in the middle of the epoch, in ns, at least and at most.
    pub offset_low_ns: i128,
    pub offset_high_ns: i128,
}

/// What is added to the machine's clock, in ns, at least and at most: in between no more than a straight line says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct IntervalSummary {
    /// On the machine's own clock, in ns.
    pub from_ns: u64,
    pub to_ns: u64,
    /// At `from_ns`.
    pub offset_low_ns: i128,
    pub offset_high_ns: i128,
    /// At `to_ns`.
    pub offset_low_end_ns: i128,
    pub offset_high_end_ns: i128,
}

/// What is known of a machine's clock.
pub(super) fn summary(machines: &[Machine], clocks: &Clocks, machine: u16) -> ClockSummary {
    let own = &machines[usize::from(machine)];
    let recorded = own.recorded();
    let mut summary = ClockSummary {
        node: own.name.clone(),
        method: match clocks.methods[usize::from(machine)] {
            Method::Reference => "reference",
            Method::Packets => "packets",
            Method::Realtime => "realtime",
            Method::Unknown => "unknown",
        },
        compared_with: machines[usize::from(clocks.base[usize::from(machine)])].name.clone(),
        packets: 0,
        contradictions: 0,
        epochs: Vec::new(),
        intervals: Vec::new(),
        median_width_ns: None,
        wall_offset_ns: None,
        wall_error_ns: None,
        wall_agrees: None,
    };
    let Some(clock) = clocks.clocks[usize::from(machine)].as_ref().filter(|clock| !clock.epochs.is_empty())
    else {
        return summary;
    };
    (summary.packets, summary.contradictions) = (clock.constraints, clock.contradictions);
    for (number, epoch) in clock.epochs.iter().enumerate().filter(|(_, epoch)| epoch.is_bounded()) {
        let from = epoch.from_ns.max(recorded.from_ns);
        let is_last = number + 1 == clock.epochs.len();
        let to = if is_last { recorded.to_ns } else { epoch.last_ns }.max(from);
        let (offset_low_ns, offset_high_ns) = offset(clocks, machine, from + (to - from) / 2);
        let drift_ppm = epoch.drift_ppm();
        summary.epochs.push(EpochSummary { from_ns: from, drift_ppm, offset_low_ns, offset_high_ns });
        summary.intervals.extend(intervals(clocks, machine, from..to));
    }
    summary.median_width_ns = median_width(&summary.intervals);
    let reference = &machines[usize::from(clocks.reference)];
    summary.wall_offset_ns = wall_offset(own, reference);
    let points = wall::points(&own.recording.clocks, &reference.recording.clocks);
    summary.wall_error_ns = points.last().map(|point| point.error_ns);
    summary.wall_agrees = summary.wall_offset_ns.and_then(|offset| {
        let (last, error) = (summary.epochs.last()?, i128::from(summary.wall_error_ns.unwrap_or(0)));
        Some(last.offset_low_ns <= offset + error && offset - error <= last.offset_high_ns)
    });
    summary
}

/// What is added to a machine's clock at a moment of it, in ns, at least and at most.
fn offset(clocks: &Clocks, machine: u16, ns: u64) -> (i128, i128) {
    let offset = clocks.map(machine, ns).unwrap_or_default() - i128::from(ns);
    let (late, early) = clocks.uncertainty(machine, ns);
    (offset - i128::from(late), offset + i128::from(early))
}

fn intervals(clocks: &Clocks, machine: u16, time: Range<u64>) -> impl Iterator<Item = IntervalSummary> {
    let piece = ((time.end - time.start) / PIECES_MAX).max(PIECE_NS);
    time.clone().step_by(piece as usize).map(move |from_ns| {
        let to_ns = from_ns.saturating_add(piece).min(time.end);
        // One nanosecond earlier another epoch has not begun.
        let (begin, end) = (offset(clocks, machine, from_ns), offset(clocks, machine, to_ns - 1));
        IntervalSummary {
            from_ns,
            to_ns,
            offset_low_ns: begin.0,
            offset_high_ns: begin.1,
            offset_low_end_ns: end.0,
            offset_high_end_ns: end.1,
        }
    })
}

fn median_width(intervals: &[IntervalSummary]) -> Option<u64> {
    let mut widths: Vec<i128> = intervals.iter().map(|one| one.offset_high_ns - one.offset_low_ns).collect();
    widths.sort_unstable();
    widths.get(widths.len() / 2).map(|&width| u64::try_from(width).unwrap_or(u64::MAX))
}

/// What is added to a machine's clock to get the reference's, if both machines' wall clocks agree.
fn wall_offset(own: &Machine, reference: &Machine) -> Option<i128> {
    let ahead = |machine: &Machine| {
        let reading = machine.recording.clocks.last()?;
        Some(i128::from(reading.realtime_ns) - i128::from(reading.monotonic_ns))
    };
    Some(ahead(own)? - ahead(reference)?)
}
