//! Making a recording of a scene.

use std::path::Path;

use anyhow::{Context, Result, bail};
use overlay_trace::lab::{self, Knobs, Running, System};
use overlay_trace::probe::{FilterOptions, ProbeSet, Session, SessionOptions};
use overlay_trace::trace::Recording;
use overlay_trace::traffic::Stop;

use crate::counters;
use crate::scene::{Lack, Scene, Setting};
use crate::seen::Seen;
use crate::under_way::UnderWay;

/// What else this machine sends while the lab stands is none of its business.
fn in_the_lab(filter: FilterOptions, running: &Running) -> FilterOptions {
    if !filter.netns.is_empty() {
        return filter;
    }
    FilterOptions { netns: running.filter().netns, ..filter }
}

/// Brings up the lab of this name, as it is by default.
pub fn stand(name: &str, stop: &Stop) -> Result<Running> {
    let lab = lab::find(name).context("the lab is missing")?;
    if let Some(lack) = System::inspect()?.lack(lab, &Knobs::default())? {
        bail!("the lab is not possible here: {lack}");
    }
    Running::up(lab, Knobs::default(), stop)
}

/// Begins to record all of the lab, with the probe set full.
pub fn begin(running: &Running, path: &Path) -> Result<Session> {
    Session::start(SessionOptions {
        set: Some(ProbeSet::Full),
        filter: running.filter(),
        output: path.to_path_buf(),
        force: true,
        ..SessionOptions::default()
    })
}

/// A setting that stands.
pub struct Standing {
    pub setting: &'static Setting,
    pub running: Running,
    pub lacks: Vec<Lack>,
}

/// Records the scene in the lab that stands, and reads the recording back.
pub fn record(standing: &Standing, scene: &'static Scene, folder: &Path, stop: &Stop) -> Result<Seen> {
    let Standing { setting, running, lacks } = standing;
    let before = if scene.under_way { Some(UnderWay::begin(running)?) } else { None };
    let path = folder.join(format!("{}-{}.otr", setting.name, scene.name));
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
    let counted = counters::growth(&counters_before, &counters::of(running)?);
    before.map_or(Ok(()), UnderWay::end)?;
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

/// Records one scene after the other, each in its lab, in one recording, and reads back what each lab has of it:
/// to attach the probes takes longer than the traffic.
pub fn record_together(
    set: ProbeSet,
    scenes: &[(&Standing, &'static Scene)],
    folder: &Path,
    stop: &Stop,
) -> Result<Vec<Result<Seen>>> {
    let whole = folder.join(format!("{}.otr", set.name()));
    let session = Session::start(SessionOptions {
        set: Some(set),
        output: whole.clone(),
        force: true,
        ..SessionOptions::default()
    })?;
    let mut driven = Vec::new();
    for (Standing { running, .. }, scene) in scenes {
        let before = counters::of(running)?;
        let reports = (scene.drive)(running, stop);
        driven.push((reports, counters::growth(&before, &counters::of(running)?)));
    }
    if session.failed() {
        bail!("the recording gave up before its end");
    }
    session.stop().context("the recording could not be finished")?;
    let recording = Recording::open(&whole)?;
    let read = |((standing, scene), (reports, counted)): (&(&Standing, &Scene), (Result<Vec<_>>, _))| {
        let (Standing { setting, running, lacks }, reports) = (standing, reports?);
        let path = folder.join(format!("{}-{}.otr", setting.name, scene.name));
        running.extract(&recording, recording.header.clone(), &reports, &path)?;
        let seen = Seen::read(&path, setting.lab, set, reports, lacks.clone())?;
        Ok(Seen { counted, ipv6: running.knobs().ipv6, ..seen })
    };
    let seen = scenes.iter().zip(driven).map(read).collect();
    std::fs::remove_file(&whole)?;
    Ok(seen)
}
