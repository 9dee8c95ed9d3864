//! Runs the table: builds each setting's lab once, records its scenes, checks them.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Instant;

use anyhow::{Result, ensure};
use overlay_trace_lab::dataplanes::{self, Lab, Running, System};
use overlay_trace_lab::traffic::Stop;
use overlay_trace_probe::ProbeSet;

use crate::capture::{self, Standing};
use crate::client_clock;
use crate::comparison;
use crate::drops;
use crate::ends;
use crate::interrupted;
use crate::labs;
use crate::machine;
use crate::nic;
use crate::node;
use crate::overload;
use crate::ownership;
use crate::reasons;
use crate::results::{Outcome, Results, Verdict};
use crate::rows;
use crate::sampled;
use crate::scarce;
use crate::scene::{Scene, Setting};
use crate::seen::Seen;
use crate::settings::SETTINGS;
use crate::shapes;
use crate::tail::one_core;
use crate::taps;
use crate::tc;
use crate::truth;
use crate::untouched;
use crate::witness;

/// How often a scene is recorded if checks fail and the kernel has skipped probes: a kernel that interrupts
/// programs may hide the very thing that a check looks for, and says so.
const ATTEMPTS: u32 = 3;
/// So many labs stand at a time.
const GROUP: usize = 8;

/// A setting, and those of its scenes that are wanted.
struct Wanted {
    setting: &'static Setting,
    lab: &'static Lab,
    scenes: Vec<&'static Scene>,
}

/// Runs everything that is wanted for these probe sets, or with `times` what compares times.
pub fn all(sets: &[ProbeSet], times: bool, place: (&Path, &Stop), results: &mut Results) -> Result<()> {
    if times {
        ensure!(sets.contains(&ProbeSet::Full), "what compares times wants the probe set full");
        truth::run(place, results);
        return Ok(());
    }
    // What it sees is another kind of thing: it has tests of its own, after those of the others.
    let others: Vec<ProbeSet> = sets.iter().copied().filter(|set| *set != ProbeSet::Tc).collect();
    if !others.is_empty() {
        by_functions(&others, place, results)?;
    }
    if sets.contains(&ProbeSet::Tc) {
        tc::run(place, results);
    }
    Ok(())
}

/// Runs everything that is wanted for the sets that follow packets by functions and tracepoints.
fn by_functions(sets: &[ProbeSet], place: (&Path, &Stop), results: &mut Results) -> Result<()> {
    untouched::run(place.0, results)?;
    ownership::run(place.0, results);
    let system = System::look()?;
    let mut seen = Vec::new();
    // Rows are looked for in everything that is recorded.
    let of_rows: Vec<ProbeSet> = sets.iter().copied().filter(|set| rows::wanted(*set, results)).collect();
    let mut wanted = Vec::new();
    for setting in SETTINGS.iter().chain(shapes::SETTINGS) {
        let scenes = setting.scenes.iter().filter(|scene| sets.contains(&scene.set)).filter(|scene| {
            // What a filter lets through comes by no other rows.
            let shows_rows = of_rows.contains(&scene.set) && !scene.name.contains("filter");
            shows_rows || is_wanted(setting, scene, results)
        });
        let scenes: Vec<&Scene> = scenes.collect();
        if !scenes.is_empty() {
            wanted.push(Wanted { setting, lab: setting.lab()?, scenes });
        }
    }
    let mut labs_tested = BTreeSet::new();
    for group in dataplanes::group_compatible(wanted, GROUP, |one| (one.lab, one.setting.alone)) {
        labs_tested.extend(run_group(&group, &system, place, &mut seen, results));
        place.1.check()?;
    }
    if let Some(set) = sets.first() {
        labs::run(&labs_tested, place.1, results)?;
        comparison::run(place.0, results);
        interrupted::run(*set, place, results);
        ends::run(*set, place.0, results);
        scarce::run(*set, place.0, results);
        node::run(*set, place, results);
        taps::run(*set, place.0, results);
        sampled::run(*set, place.0, results);
        overload::run(*set, place.0, results);
    }
    if sets.contains(&ProbeSet::Full) {
        one_core::run(place, results);
        witness::run(place, results);
        client_clock::run(place, results);
        reasons::run(place, results);
    }
    drops::check_table(results);
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

/// Runs the settings whose nodes have NICs of this machine.
pub fn over_nics(sets: &[ProbeSet], place: (&Path, &Stop), results: &mut Results) -> Result<()> {
    nic::mend_igb()?;
    let system = System::look()?;
    let mut seen = Vec::new();
    for setting in nic::settings() {
        let is_wanted = |scene: &&Scene| sets.contains(&scene.set) && is_wanted(setting, scene, results);
        let scenes: Vec<&Scene> = setting.scenes.iter().filter(is_wanted).collect();
        if !scenes.is_empty() {
            let wanted = Wanted { setting, lab: setting.lab()?, scenes };
            run_group(&[wanted], &system, place, &mut seen, results);
        }
        place.1.check()?;
    }
    Ok(())
}

/// Whether a test of this recording is wanted.
fn is_wanted(setting: &Setting, scene: &Scene, results: &Results) -> bool {
    scene.checks().any(|check| results.wants(&format!("{}/{}/{}", setting.name, scene.name, check.name)))
}

/// Brings up the labs of the settings, records and checks the scenes, and tests the labs that stand as they are by
/// default; gives the names of these.
fn run_group(
    group: &[Wanted],
    system: &System,
    place: (&Path, &Stop),
    seen: &mut Vec<Seen>,
    results: &mut Results,
) -> Vec<&'static str> {
    let before = machine::state();
    let mut standing = Vec::new();
    for Wanted { setting, lab, scenes } in group {
        let test = format!("{}/lab", setting.name);
        match up(lab, setting, system, place.1) {
            Ok(Ok(running)) => match (setting.prepare)(&running) {
                Ok(lacks) => {
                    let mut scenes = scenes.clone();
                    scenes.retain(|scene| is_possible(setting, scene, results));
                    standing.push((Standing { setting, running, lacks }, scenes));
                }
                Err(error) => results.add(&format!("{}/prepare", setting.name), Err(error)),
            },
            Ok(Err(lack)) => results.add(&test, Ok(Verdict::Skipped(lack))),
            Err(error) => results.add(&test, Err(error)),
        }
    }
    together(&mut standing, place, seen, results);
    for (standing, scenes) in &standing {
        in_setting(standing, scenes, place, seen, results);
    }
    let mut labs = Vec::new();
    for (Standing { setting, running, .. }, _) in &mut standing {
        if setting.is_plain() && labs::is_wanted(running.lab(), results) {
            let alone = labs::while_it_stands(running, &before, (system, place.1), results);
            labs.push((running.lab(), alone));
        }
    }
    let down: Vec<_> = standing.into_iter().map(|(one, _)| (one.setting, one.running.down())).collect();
    for (setting, down) in down {
        let gone = down.and_then(|()| machine::is_without(setting.lab, &before));
        results.add(&format!("{}/lab", setting.name), gone);
    }
    let names = labs.iter().map(|(lab, _)| lab.name).collect();
    labs.into_iter().for_each(|(lab, alone)| labs::afterwards(lab, alone, &before, results));
    names
}

/// Whether this kernel can do it; if not, that is said.
fn is_possible(setting: &Setting, scene: &Scene, results: &mut Results) -> bool {
    let Some(lack) = scene.lack() else { return true };
    results.add(&format!("{}/{}/record", setting.name, scene.name), Ok(Verdict::Skipped(lack)));
    false
}

/// Takes the scenes that can share a recording out of the labs' lists, and records and checks them.
fn together(
    standing: &mut [(Standing, Vec<&'static Scene>)],
    place: (&Path, &Stop),
    seen: &mut Vec<Seen>,
    results: &mut Results,
) {
    for (set, in_flight) in [(ProbeSet::Full, false), (ProbeSet::Light, false), (ProbeSet::Full, true)] {
        let fits =
            |scene: &&&'static Scene| scene.set == set && scene.in_flight == in_flight && scene.shares();
        let sharing: Vec<(usize, &'static Scene)> = (0..)
            .zip(standing.iter())
            .flat_map(|(number, (_, scenes))| scenes.iter().filter(fits).map(move |scene| (number, *scene)))
            .collect();
        if sharing.len() < 2 {
            continue;
        }
        let begin = Instant::now();
        let scenes: Vec<_> = sharing.iter().map(|(number, scene)| (&standing[*number].0, *scene)).collect();
        let recorded = match capture::record_together(set, &scenes, place.0, place.1) {
            Ok(recorded) => recorded,
            // Each by itself will tell what is wrong.
            Err(error) => {
                eprintln!(
                    "{}  {} scenes cannot be recorded together: {error:#}",
                    results.kernel(),
                    scenes.len()
                );
                for (one, scene) in &scenes {
                    results.note_recorded_again(&format!("{}/{}", one.setting.name, scene.name));
                }
                continue;
            }
        };
        let seconds = begin.elapsed().as_secs_f64();
        eprintln!("{}  {} scenes recorded together in {seconds:.1} s", results.kernel(), scenes.len());
        for ((number, scene), recorded) in sharing.into_iter().zip(recorded) {
            let (one, scenes) = &mut standing[number];
            if checked(one.setting, scene, recorded, true, seen, results) {
                scenes.retain(|other| !std::ptr::eq(*other, scene));
            }
        }
    }
}

/// The lab, or why it cannot be had here.
fn up(lab: &'static Lab, setting: &Setting, system: &System, stop: &Stop) -> Result<Result<Running, String>> {
    let knobs = (setting.knobs)();
    if let Some(lack) = system.lack(lab, &knobs)? {
        return Ok(Err(lack));
    }
    Running::up(lab, knobs, stop).map(Ok)
}

fn in_setting(
    standing: &Standing,
    scenes: &[&'static Scene],
    (folder, stop): (&Path, &Stop),
    seen: &mut Vec<Seen>,
    results: &mut Results,
) {
    for scene in scenes {
        for attempt in 1..=ATTEMPTS {
            let begin = Instant::now();
            let recorded = capture::record(standing, scene, folder, stop);
            let seconds = begin.elapsed().as_secs_f64();
            eprintln!(
                "{}  {}/{}/ recorded in {seconds:.1} s",
                results.kernel(),
                standing.setting.name,
                scene.name
            );
            if checked(standing.setting, scene, recorded, attempt < ATTEMPTS, seen, results) {
                break;
            }
        }
        if stop.is_set() {
            return;
        }
    }
}

/// Checks a recording. With `again` false is returned and the scene is to be recorded again where a check fails and the
/// kernel has skipped probes; and for one scene of a run whatever the reason, which is printed: on a busy machine some
/// things happen once in some thousand scenes.
fn checked(
    setting: &Setting,
    scene: &'static Scene,
    recorded: Result<Seen>,
    again: bool,
    seen: &mut Vec<Seen>,
    results: &mut Results,
) -> bool {
    let name = |check: &str| format!("{}/{}/{check}", setting.name, scene.name);
    let recorded = match recorded {
        Ok(recorded) => recorded,
        Err(error) => {
            results.add(&name("record"), Err(error));
            return true;
        }
    };
    let outcomes: Vec<Outcome> = scene.checks().map(|check| (check.run)(&recorded, seen)).collect();
    let skipped = recorded.skipped();
    let failed =
        scene.checks().zip(&outcomes).find_map(|(check, outcome)| Some((check, outcome.as_ref().err()?)));
    if let Some((check, error)) = failed
        && again
        && (skipped > 0 || results.may_doubt())
    {
        println!(
            "{}  {} is recorded again: {skipped} probes were skipped; {}: {}",
            results.kernel(),
            name(""),
            check.name,
            format!("{error:#}").replace('\n', " ")
        );
        results.note_recorded_again(&format!("{}/{}", setting.name, scene.name));
        return false;
    }
    for (check, outcome) in scene.checks().zip(outcomes) {
        results.add(&name(check.name), outcome);
    }
    seen.push(recorded);
    true
}
