//! Making a recording of a scene.

use std::path::Path;

use anyhow::{Context, Result, bail};
use overlay_trace::lab::Running;
use overlay_trace::probe::{FilterOptions, Session, SessionOptions};
use overlay_trace::traffic::Stop;

use crate::scene::{Lack, Scene, Setting};
use crate::seen::Seen;

/// What else this machine sends while the lab stands is none of its business.
fn in_the_lab(filter: FilterOptions, running: &Running) -> FilterOptions {
    if !filter.netns.is_empty() {
        return filter;
    }
    FilterOptions { netns: running.filter().netns, ..filter }
}

/// Records the scene in the lab that stands, and reads the recording back.
pub fn record(
    setting: &'static Setting,
    scene: &'static Scene,
    running: &Running,
    lacks: &[Lack],
    folder: &Path,
    stop: &Stop,
) -> Result<Seen> {
    let path = folder.join(format!("{}-{}.otr", setting.name, scene.name));
    let mut session = Session::start(SessionOptions {
        set: Some(scene.set),
        filter: in_the_lab((scene.filter)(), running),
        output: path.clone(),
        force: true,
        ..SessionOptions::default()
    })?;
    let (set, _) = session.set();
    let driven = (scene.drive)(running, stop);
    if session.failed() {
        bail!("the recording gave up before its end");
    }
    if let Ok(reports) = &driven {
        session.traffic(reports.iter().map(serde_json::to_value).collect::<Result<Vec<_>, _>>()?);
    }
    session.stop().context("the recording could not be finished")?;
    Seen::read(&path, setting.lab, set, driven?, lacks.to_vec())
}
