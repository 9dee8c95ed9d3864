//! Runs the table: builds each setting's lab once, records its scenes, checks them.

use std::path::Path;

use anyhow::{Result, ensure};
use overlay_trace::lab::{Running, System};
use overlay_trace::probe::ProbeSet;
use overlay_trace::traffic::Stop;

use crate::capture;
use crate::comparison;
use crate::drops;
use crate::interrupted;
use crate::labs;
use crate::machine;
use crate::node;
use crate::overload;
use crate::results::{Outcome, Results, Verdict};
use crate::rows;
use crate::scene::{Scene, Setting};
use crate::seen::Seen;
use crate::settings::SETTINGS;
use crate::shapes;
use crate::truth;

/// How often a scene is recorded if checks fail and the kernel has skipped probes: a kernel that interrupts
/// programs may hide the very thing that a check looks for, and says so.
const ATTEMPTS: u32 = 3;

/// Runs everything that is wanted for these probe sets, or with `times` what compares times.
pub fn all(sets: &[ProbeSet], times: bool, place: (&Path, &Stop), results: &mut Results) -> Result<()> {
    if times {
        ensure!(sets.contains(&ProbeSet::Full), "what compares times wants the probe set full");
        truth::run(place, results);
        return Ok(());
    }
    let system = System::inspect()?;
    let mut seen = Vec::new();
    // Rows are looked for in everything that is recorded.
    let of_rows: Vec<ProbeSet> = sets.iter().copied().filter(|set| rows::wanted(*set, results)).collect();
    for setting in SETTINGS.iter().chain(shapes::SETTINGS) {
        let scenes: Vec<&Scene> = setting
            .scenes
            .iter()
            .filter(|scene| sets.contains(&scene.set))
            .filter(|scene| {
                // What a filter lets through comes by no other rows.
                let shows_rows = of_rows.contains(&scene.set) && !scene.name.contains("filter");
                shows_rows || is_wanted(setting, scene, results)
            })
            .collect();
        if !scenes.is_empty() {
            run_setting(setting, &scenes, &system, place, &mut seen, results);
            place.1.check()?;
        }
    }
    if let Some(set) = sets.first() {
        labs::run(place.1, results)?;
        comparison::run(place.0, results);
        interrupted::run(*set, place, results);
        node::run(*set, place, results);
        overload::run(*set, place.0, results);
    }
    for set in sets {
        drops::run(*set, place.0, results);
    }
    for set in of_rows {
        rows::check(set, &seen, results);
    }
    if sets.contains(&ProbeSet::Full) {
        rows::check_points(results);
    }
    Ok(())
}

/// Whether a test of this recording is wanted.
fn is_wanted(setting: &Setting, scene: &Scene, results: &Results) -> bool {
    scene.checks().any(|check| results.wants(&format!("{}/{}/{}", setting.name, scene.name, check.name)))
}

fn run_setting(
    setting: &'static Setting,
    scenes: &[&'static Scene],
    system: &System,
    place: (&Path, &Stop),
    seen: &mut Vec<Seen>,
    results: &mut Results,
) {
    let lab = format!("{}/lab", setting.name);
    let before = machine::state();
    match up(setting, system, place.1) {
        Ok(Ok(running)) => {
            in_setting(setting, scenes, &running, place, seen, results);
            let down = running.down().and_then(|()| is_gone(setting, &before?));
            results.add(&lab, down);
        }
        Ok(Err(lack)) => results.add(&lab, Ok(Verdict::Skipped(lack))),
        Err(error) => results.add(&lab, Err(error)),
    }
}

/// The lab, or why it cannot be had here.
fn up(setting: &Setting, system: &System, stop: &Stop) -> Result<Result<Running, String>> {
    let (lab, knobs) = (setting.lab()?, (setting.knobs)());
    if let Some(lack) = system.lack(lab, &knobs)? {
        return Ok(Err(lack));
    }
    Running::up(lab, knobs, stop).map(Ok)
}

/// Nothing of a lab is left.
fn is_gone(setting: &Setting, before: &std::collections::BTreeSet<String>) -> Outcome {
    let left = machine::namespaces(&format!("ot-{}-", setting.lab));
    ensure!(left.is_empty(), "namespaces are left: {left:?}");
    let after = machine::state()?;
    let changed: Vec<_> = before.symmetric_difference(&after).collect();
    ensure!(changed.is_empty(), "of the machine itself this has come or gone: {changed:?}");
    Ok(Verdict::Passed)
}

fn in_setting(
    setting: &'static Setting,
    scenes: &[&'static Scene],
    running: &Running,
    (folder, stop): (&Path, &Stop),
    seen: &mut Vec<Seen>,
    results: &mut Results,
) {
    let lacks = match (setting.prepare)(running) {
        Ok(lacks) => lacks,
        Err(error) => return results.add(&format!("{}/prepare", setting.name), Err(error)),
    };
    for scene in scenes {
        let name = |check: &str| format!("{}/{}/{check}", setting.name, scene.name);
        for attempt in 1..=ATTEMPTS {
            let begin = std::time::Instant::now();
            let recorded = match capture::record(setting, scene, running, &lacks, folder, stop) {
                Ok(recorded) => recorded,
                Err(error) => {
                    results.add(&name("record"), Err(error));
                    break;
                }
            };
            let (kernel, seconds) = (results.kernel(), begin.elapsed().as_secs_f64());
            eprintln!("{kernel}  {} recorded in {seconds:.1} s", name(""));
            let outcomes: Vec<Outcome> = scene.checks().map(|check| (check.run)(&recorded, seen)).collect();
            let skipped = recorded.skipped();
            if skipped > 0 && attempt < ATTEMPTS && outcomes.iter().any(Result::is_err) {
                eprintln!("{kernel}  {} is recorded anew: {skipped} probes were skipped", name(""));
                continue;
            }
            for (check, outcome) in scene.checks().zip(outcomes) {
                results.add(&name(check.name), outcome);
            }
            seen.push(recorded);
            break;
        }
        if stop.is_set() {
            return;
        }
    }
}
