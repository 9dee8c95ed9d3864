//! Every row of the stage map resolves, is attached, and fires somewhere in the run.

use std::collections::{BTreeMap, HashSet};

use anyhow::{Result, bail, ensure};
use overlay_trace_common::stage::{Action, Sets, Stage};
use overlay_trace_common::stage_map::STAGES;
use overlay_trace_common::{flags::RecordFlags, record::Outcome as End};
use overlay_trace_probe::ProbeSet;

use crate::absent;
use crate::attached::Attached;
use crate::results::{Outcome, Results, Verdict};
use crate::seen::Seen;

/// Whether any row's test is wanted.
pub fn wanted(set: ProbeSet, results: &Results) -> bool {
    rows(set).any(|row| results.wants(&name(set, row)))
}

/// The name of the test of the map's points.
const POINTS: &str = "rows/points";

/// Checks that every point of the map is probed, if that is wanted; it needs no recordings.
pub fn check_points(results: &mut Results) {
    if results.wants(POINTS) {
        let outcome = Attached::of(ProbeSet::Full).and_then(|attached| points(&attached));
        results.add(POINTS, outcome);
    }
}

/// Checks every row of the set: it resolves, it is attached, it has fired.
pub fn check(set: ProbeSet, all: &[Seen], results: &mut Results) {
    let all: Vec<&Seen> = all.iter().filter(|seen| seen.set == set).collect();
    let found = Attached::of(set).and_then(|attached| Ok((attached, fired(set, &all)?)));
    let (attached, fired) = match found {
        Ok(found) => found,
        Err(error) => return results.add(&format!("rows/{}", set.name()), Err(error)),
    };
    for row in rows(set) {
        let fired = fired.get(row.name).copied().unwrap_or(0);
        let outcome = match (attached.kinds(row.name), fired) {
            (by, 1..) if !by.is_empty() => Ok(Verdict::With(format!("by {by}, fired {fired} times"))),
            // Nobody can be made to interrupt a packet at a certain place.
            (by, 0) if !by.is_empty() && is_by_chance(row) => Ok(Verdict::With(format!("by {by}"))),
            (by, _) => missing(set, row, &by, &all),
        };
        results.add(&name(set, row), outcome);
    }
}

/// Every point of the map is probed, but for what is known to be absent from this kernel.
fn points(attached: &Attached) -> Outcome {
    let mut wrong = Vec::new();
    for (stage, point, reason) in &attached.missing {
        let point = &STAGES[usize::from(*stage)].points[*point];
        if absent::declared(point).is_none() {
            wrong.push(format!("{} is missing: {reason}", absent::place(point)));
        }
    }
    for (number, stage) in STAGES.iter().enumerate() {
        for (index, point) in stage.points.iter().enumerate() {
            let is_missing = attached.missing.iter().any(|one| (one.0 as usize, one.1) == (number, index));
            if absent::declared(point).is_some() && !is_missing {
                wrong.push(format!("{} is there, and declared absent", absent::place(point)));
            }
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("; "));
    Ok(Verdict::With(format!("{} probed, {} absent as declared", attached.points, attached.missing.len())))
}

fn rows(set: ProbeSet) -> impl Iterator<Item = &'static Stage> {
    let bits = match set {
        ProbeSet::Full => Sets::FULL,
        ProbeSet::Light => Sets::LIGHT,
        ProbeSet::Device => Sets::DEVICE,
        ProbeSet::Tc => Sets::TC,
    };
    STAGES.iter().filter(move |stage| stage.sets.contains(bits) && !stage.points.is_empty())
}

/// Whether no record need show the row: it is of what interrupts packets, or of a NIC, which the labs do without.
fn is_by_chance(row: &Stage) -> bool {
    use Action::{HandOver, Interrupt, Poll, Raise, Resume};
    row.points.iter().all(|point| matches!(point.action, Interrupt | Resume | HandOver | Poll | Raise))
}

fn name(set: ProbeSet, row: &Stage) -> String {
    format!("rows/{}/{}", set.name(), row.name)
}

/// A row that is not attached or did not fire: because this kernel is known not to have it, because (of the
/// machine's own kernel) it lacks what exercises it, or because something is wrong.
fn missing(set: ProbeSet, row: &Stage, by: &str, all: &[&Seen]) -> Outcome {
    let absent: Option<Vec<_>> = row.points.iter().map(absent::declared).collect();
    if let Some(absent) = absent {
        ensure!(by.is_empty(), "it is declared absent, and attached by {by}");
        return Ok(Verdict::Skipped(format!("absent: {}", absent[0].why)));
    }
    let lack = all.iter().flat_map(|seen| &seen.lacks).find(|lack| lack.stage == row.name);
    match lack {
        Some(lack) if set == ProbeSet::Device => Ok(Verdict::Skipped(lack.why.clone())),
        Some(lack) => bail!("it cannot be exercised: {}", lack.why),
        None if by.is_empty() => bail!("it cannot be attached, and is not declared absent from this kernel"),
        None => bail!("it is attached by {by}, and never fired"),
    }
}

/// How often packets came by each row.
fn fired(set: ProbeSet, all: &[&Seen]) -> Result<BTreeMap<String, u64>> {
    let mut fired: BTreeMap<String, u64> = BTreeMap::new();
    for seen in all {
        let (mut stages, mut ends) = ([0u64; 256], Vec::new());
        let (mut children, mut split) = (Vec::new(), HashSet::new());
        seen.recording.for_each_record(|record| {
            record.spans().for_each(|step| stages[usize::from(step.stage)] += 1);
            let header = record.header;
            ends.extend(End::from_u8(header.outcome).and_then(|end| end_row(set, end, header.flow.protocol)));
            if header.flags.has(RecordFlags::CHILD) {
                children.push(header.parent);
            }
            if header.outcome == End::Split as u8 {
                split.insert(header.id);
            }
        })?;
        // Whose parent was not cut is a copy.
        ends.extend(children.iter().filter(|parent| !split.contains(parent)).map(|_| "copy"));
        *fired.entry("device-change".into()).or_default() += seen.recording.last.counters.device_changes;
        for (row, count) in seen.recording.header.stages.iter().zip(stages) {
            *fired.entry(row.name.clone()).or_default() += count;
        }
        ends.iter().for_each(|row| *fired.entry((*row).to_owned()).or_default() += 1);
    }
    Ok(fired)
}

/// The row of the stage map at which a path ended so.
fn end_row(set: ProbeSet, end: End, protocol: u8) -> Option<&'static str> {
    Some(match (end, set) {
        (End::Dropped, _) => "end-dropped",
        (End::Merged, ProbeSet::Device) => "end-gro-merged",
        (End::Merged, _) => "end-merged",
        (End::Split, _) => return None,
        (End::Freed, ProbeSet::Device) => "end-consumed",
        // Which of the two it was no record says. Pings end in consume_skb, which frees by itself; TCP frees.
        (End::Freed, _) if protocol == 1 || protocol == 58 => "end-consumed",
        (End::Freed, _) if protocol == 6 => "end-freed",
        (End::Freed, _) => return None,
        (End::Delivered, ProbeSet::Device) if protocol == 6 => "end-taken-up",
        (End::Delivered, ProbeSet::Device) => "end-queued",
        (End::Delivered, _) => "end-read",
    })
}
