//! Making a recording of a scene.

use std::ops::Range;
use std::path::Path;

use anyhow::{Context, Result, bail};
use overlay_trace_format::Recording;
use overlay_trace_lab::dataplanes::{self, Knobs, Running, System};
use overlay_trace_lab::traffic::{Stop, TrafficReport};
use overlay_trace_probe::sys::clock::monotonic_ns;
use overlay_trace_probe::{FilterOptions, ProbeSet, Session, SessionOptions};

use crate::counters::{self, Counted};
use crate::in_flight::InFlight;
use crate::machine;
use crate::scene::{Lack, Scene, Setting};
use crate::seen::Seen;

/// What else this machine sends while the lab stands is none of its business.
fn in_the_lab(filter: FilterOptions, running: &Running) -> FilterOptions {
    if !filter.netns.is_empty() {
        return filter;
    }
    FilterOptions { netns: running.filter().netns, ..filter }
}

/// Brings up the lab of this name, as it is by default.
pub fn stand(name: &str, stop: &Stop) -> Result<Running> {
    let lab = dataplanes::find(name).context("the lab is missing")?;
    if let Some(lack) = System::look()?.lack(lab, &Knobs::default())? {
        bail!("the lab is not possible here: {lack}");
    }
    Running::up(lab, Knobs::default(), stop)
}

/// Begins to record all of the lab, with the probe set full.
pub fn begin(running: &Running, path: &Path) -> Result<Session> {
    let options = SessionOptions {
        set: Some(ProbeSet::Full),
        filter: running.filter(),
        output: path.to_path_buf(),
        force: true,
        ..SessionOptions::default()
    };
    Ok(Session::start(options)?)
}

/// A setting that stands.
pub struct Standing {
    pub setting: &'static Setting,
    pub running: Running,
    pub lacks: Vec<Lack>,
}

fn file_name(setting: &Setting, scene: &Scene) -> String {
    format!("{}-{}.otr", setting.name.replace('/', "-"), scene.name)
}

/// Records the scene in the lab that stands, and reads the recording back.
pub fn record(standing: &Standing, scene: &'static Scene, folder: &Path, stop: &Stop) -> Result<Seen> {
    let Standing { setting, running, lacks } = standing;
    let before = if scene.in_flight { Some(InFlight::begin(running)?) } else { None };
    let path = folder.join(file_name(setting, scene));
    let mut session = Session::start(SessionOptions {
        set: Some(scene.set),
        filter: in_the_lab((scene.filter)(), running),
        output: path.clone(),
        force: true,
        ..SessionOptions::default()
    })?;
    let (set, _) = session.set();
    let counters_before = counters::of(running)?;
    let driven = (scene.drive)(running, stop);
    let counted = counters::growth(&counters_before, &counters::at_rest(running)?);
    before.map_or(Ok(()), InFlight::end)?;
    if session.failed() {
        bail!("the recording gave up before its end");
    }
    if let Ok(reports) = &driven {
        session.traffic(reports.iter().map(serde_json::to_value).collect::<Result<Vec<_>, _>>()?);
    }
    session.stop().context("the recording could not be finished")?;
    let seen = Seen::read(&path, setting.lab, set, driven?, lacks.clone())?;
    Ok(Seen { counted, ipv6: running.knobs().ipv6, ..seen })
}

/// Records one scene after the other, each in its lab, in one recording, and reads back what each has of it: to
/// attach the probes takes longer than the traffic. Scenes in one lab are told apart by when their packets began.
pub fn record_together(
    set: ProbeSet,
    scenes: &[(&Standing, &'static Scene)],
    folder: &Path,
    stop: &Stop,
) -> Result<Vec<Result<Seen>>> {
    let in_flight = scenes.iter().filter(|(_, scene)| scene.in_flight);
    let in_flight =
        in_flight.map(|(standing, _)| InFlight::begin(&standing.running)).collect::<Result<Vec<_>>>()?;
    let whole = folder.join(format!("{}.otr", set.name()));
    let session = Session::start(SessionOptions {
        set: Some(set),
        output: whole.clone(),
        force: true,
        ..SessionOptions::default()
    })?;
    let mut driven = Vec::new();
    for (Standing { running, .. }, scene) in scenes {
        let begin_ns = monotonic_ns();
        let before = counters::of(running)?;
        let reports = (scene.drive)(running, stop);
        driven.push((begin_ns, reports, counters::growth(&before, &counters::at_rest(running)?)));
    }
    in_flight.into_iter().try_for_each(InFlight::end)?;
    if let Some((standing, _)) = scenes.first() {
        // No scene need change a device, and the row of that is to fire.
        let client = standing.running.client()?.netns;
        for what in ["add name passing type bridge", "del dev passing"] {
            machine::run_in(&client, &format!("ip link {what}"))?;
        }
    }
    if session.failed() {
        bail!("the recording gave up before its end");
    }
    session.stop().context("the recording could not be finished")?;
    let recording = Recording::open(&whole)?;
    let times: Vec<Range<u64>> = (0..scenes.len()).map(|number| time_of(number, scenes, &driven)).collect();
    let read =
        |(((standing, scene), (_, reports, counted)), time): (((&Standing, &Scene), Driven), Range<u64>)| {
            let (Standing { setting, running, lacks }, reports) = (standing, reports?);
            let path = folder.join(file_name(setting, scene));
            running.extract(&recording, recording.header.clone(), (time, &reports), &path)?;
            let seen = Seen::read(&path, setting.lab, set, reports, lacks.clone())?;
            Ok(Seen { counted, ipv6: running.knobs().ipv6, ..seen })
        };
    let seen = scenes.iter().copied().zip(driven).zip(times).map(read).collect();
    std::fs::remove_file(&whole)?;
    Ok(seen)
}

/// When a scene's traffic began, what it reports, and how much the kernel's counters grew.
type Driven = (u64, Result<Vec<TrafficReport>>, Counted);

/// When the packets of a scene begin: until the next one in its lab, and the first one's since ever.
fn time_of(number: usize, scenes: &[(&Standing, &'static Scene)], driven: &[Driven]) -> Range<u64> {
    let is_here = |other: &usize| std::ptr::eq(scenes[*other].0, scenes[number].0);
    let begin_ns = if (0..number).any(|other| is_here(&other)) { driven[number].0 } else { 0 };
    let next = (number + 1..scenes.len()).find(is_here);
    begin_ns..next.map_or(u64::MAX, |next| driven[next].0)
}
