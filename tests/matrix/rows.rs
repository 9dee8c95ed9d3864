//! Every row of the stage map fires somewhere in the run.

use std::collections::{BTreeSet, HashSet};

use anyhow::{Result, bail};
use overlay_trace::probe::ProbeSet;
use overlay_trace_common::record::{FLAG_CHILD, Outcome as End};
use overlay_trace_common::stage::{Sets, Stage};
use overlay_trace_common::stage_map::STAGES;

use crate::results::{Outcome, Results, Verdict};
use crate::seen::Seen;

/// TCP packets of up to this length have no data.
const EMPTY_TCP: u32 = 80;

/// Whether any row's test is wanted.
pub fn wanted(set: ProbeSet, results: &Results) -> bool {
    rows(set).any(|row| results.wants(&name(set, row)))
}

/// Checks every row of the set.
pub fn check(set: ProbeSet, all: &[Seen], results: &mut Results) {
    let all: Vec<&Seen> = all.iter().filter(|seen| seen.set == set).collect();
    let fired = fired(set, &all);
    for row in rows(set) {
        let outcome = match &fired {
            Ok(fired) if fired.contains(row.name) => Ok(Verdict::Passed),
            Ok(_) => missing(row, &all),
            Err(error) => Err(anyhow::anyhow!("{error:#}")),
        };
        results.add(&name(set, row), outcome);
    }
}

fn rows(set: ProbeSet) -> impl Iterator<Item = &'static Stage> {
    let bits = match set {
        ProbeSet::Full => Sets::FULL,
        ProbeSet::Light => Sets::LIGHT,
        ProbeSet::Device => Sets::DEVICE,
    };
    STAGES.iter().filter(move |stage| stage.sets.contains(bits) && !stage.points.is_empty())
}

fn name(set: ProbeSet, row: &Stage) -> String {
    format!("rows/{}/{}", set.name(), row.name)
}

/// A row that did not fire: because this machine does not have it, or because something is wrong.
fn missing(row: &Stage, all: &[&Seen]) -> Outcome {
    let unseen = |seen: &&Seen| {
        let unseen = seen.recording.header.unseen_stages.iter().find(|unseen| unseen.stage == row.name);
        unseen.map(|unseen| unseen.reason.clone())
    };
    let lack = all.iter().flat_map(|seen| &seen.lacks).find(|lack| lack.stage == row.name);
    match (lack, all.iter().map(unseen).collect::<Option<Vec<_>>>()) {
        (Some(lack), _) => Ok(Verdict::Skipped(lack.why.clone())),
        (None, Some(reasons)) if !reasons.is_empty() => Ok(Verdict::Skipped(reasons[0].clone())),
        _ => bail!("it was probed, and never fired"),
    }
}

/// The names of the rows that packets came by.
fn fired(set: ProbeSet, all: &[&Seen]) -> Result<BTreeSet<String>> {
    let mut fired = BTreeSet::new();
    for seen in all {
        let (mut stages, mut ends) = ([false; 256], BTreeSet::new());
        let (mut parents, mut split) = (HashSet::new(), HashSet::new());
        seen.recording.for_each_record(|record| {
            record.segments().for_each(|step| stages[usize::from(step.stage)] = true);
            let header = record.header;
            let empty = header.flow.protocol == 6 && header.bytes <= EMPTY_TCP;
            ends.extend(
                End::from_u8(header.outcome).and_then(|end| end_row(set, end, header.flow.protocol, empty)),
            );
            if header.flags & FLAG_CHILD != 0 {
                parents.insert(header.parent);
            }
            if header.outcome == End::Split as u8 {
                split.insert(header.id);
            }
        })?;
        // Whose parent was not cut is a copy.
        if parents.difference(&split).next().is_some() {
            ends.insert("copy");
        }
        let rows = seen.recording.header.stages.iter().zip(stages);
        fired.extend(rows.filter(|(_, fired)| *fired).map(|(row, _)| row.name.clone()));
        fired.extend(ends.into_iter().map(String::from));
    }
    Ok(fired)
}

/// The row that ended a way so.
fn end_row(set: ProbeSet, end: End, protocol: u8, empty: bool) -> Option<&'static str> {
    Some(match (end, set) {
        (End::Dropped, _) => "end-dropped",
        (End::Merged, _) => "end-merged",
        (End::Split, _) => return None,
        (End::Freed, ProbeSet::Device) => "end-consumed",
        // Which of the two it was no record says. Pings end in consume_skb, which frees by itself; TCP frees.
        (End::Freed, _) if protocol == 1 || protocol == 58 => "end-consumed",
        (End::Freed, _) if protocol == 6 => "end-freed",
        (End::Freed, _) => return None,
        (End::Delivered, ProbeSet::Device) if empty => "end-acknowledged",
        (End::Delivered, ProbeSet::Device) if protocol == 6 => "end-copied",
        (End::Delivered, ProbeSet::Device) => "end-queued",
        (End::Delivered, _) => "end-read",
    })
}
