//! Known causes, each in one place, and what a recording says of them: each must appear in its place, by its
//! known size, and nowhere else.
//!
//! All causes are injected one after the other in one lab and in one recording, each during a [`Window`]
//! of time, next to a window without the cause; then the windows are compared. Compared are medians, so these
//! tests want a machine whose clock counts instructions: there a cause of some nanoseconds stands out.

mod classifier;
mod compare;
mod cost;
mod cut;
mod delay;
pub mod fixture;
pub mod flow;
mod ftrace;
mod inclusive;
mod leaves;
pub mod neighbour;
mod prediction;
mod reader;
pub mod rules;
mod untracked;

use std::path::Path;

use anyhow::{Context, Result};
use overlay_trace_lab::traffic::Stop;
use overlay_trace_probe::ProbeSet;

use crate::capture;
use crate::invariants::EXACT;
use crate::results::{Outcome, Results, Verdict};
use crate::seen::Seen;
use compare::Recorded;
use fixture::{Fixture, Window};

const LAB: &str = "flannel-vxlan";

/// Something that is known to cost time in one place.
pub struct Cause {
    /// The name of its test, after `truth/`.
    name: &'static str,
    /// Sends traffic with the cause and without; or says what this machine lacks for it.
    inject: fn(&Fixture) -> Result<Injected>,
    /// Further windows, of the same lab without a recording.
    untraced: Option<fn(&Fixture) -> Result<Injected>>,
    /// What the recording must say of the windows.
    check: fn(&Recorded, &[Window]) -> Outcome,
}

/// The windows of a cause, or what this machine lacks for it.
type Injected = Result<Vec<Window>, String>;

const CAUSES: &[&[Cause]] = &[
    delay::CAUSES,
    rules::CAUSES,
    untracked::CAUSES,
    classifier::CAUSES,
    reader::CAUSES,
    neighbour::CAUSES,
    cut::CAUSES,
    inclusive::CAUSES,
    leaves::CAUSES,
    cost::CAUSES,
    prediction::CAUSES,
];

/// Runs all causes that are wanted.
pub fn run(place: (&Path, &Stop), results: &mut Results) {
    let test = |cause: &Cause| format!("truth/{}", cause.name);
    let causes: Vec<&Cause> =
        CAUSES.iter().flat_map(|group| group.iter()).filter(|cause| results.wants(&test(cause))).collect();
    if causes.is_empty() {
        return;
    }
    match record(&causes, place) {
        Ok((recorded, all)) => {
            for check in EXACT {
                results.add(&format!("truth/{}", check.name), (check.run)(&recorded.seen, &[]));
            }
            for (cause, injected) in causes.iter().zip(all) {
                let outcome = match injected {
                    Ok(Ok(windows)) => (cause.check)(&recorded, &windows),
                    Ok(Err(lack)) => Ok(Verdict::Skipped(lack)),
                    Err(error) => Err(error.context("the cause could not be injected")),
                };
                results.add(&test(cause), outcome);
            }
        }
        Err(error) => results.add("truth/record", Err(error)),
    }
}

/// One recording with the windows of all causes.
fn record(causes: &[&Cause], (folder, stop): (&Path, &Stop)) -> Result<(Recorded, Vec<Result<Injected>>)> {
    let running = capture::stand(LAB, stop)?;
    let fixture = Fixture::new(&running, folder, stop);
    fixture.settle()?;
    rules::prepare(&fixture)?;
    delay::prepare();
    let path = folder.join("truth.otr");
    let session = capture::begin(&running, &path)?;
    let mut all = Vec::new();
    for cause in causes {
        let begin = std::time::Instant::now();
        all.push((cause.inject)(&fixture));
        eprintln!("truth/{} took {:.1} s", cause.name, begin.elapsed().as_secs_f64());
        stop.check()?;
    }
    session.stop().context("the recording could not be finished")?;
    for (cause, recorded) in causes.iter().zip(&mut all) {
        if let (Some(untraced), Ok(Ok(windows))) = (cause.untraced, &mut *recorded) {
            match untraced(&fixture) {
                Ok(Ok(more)) => windows.extend(more),
                other => *recorded = other,
            }
            stop.check()?;
        }
    }
    let seen = Seen::read(&path, LAB, ProbeSet::Full, Vec::new(), Vec::new())?;
    running.down()?;
    Ok((Recorded::new(seen)?, all))
}
