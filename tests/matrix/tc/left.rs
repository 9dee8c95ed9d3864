//! Nothing of the set `tc` is left on devices, and the filters of others are untouched and keep their order.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use aya::programs::{SchedClassifier, TcAttachType};
use overlay_trace_common::tc::{HOOK_NAME, Side};
use overlay_trace_lab::dataplanes::{self, Knobs, Netns, Running, System};
use overlay_trace_lab::traffic::Stop;
use overlay_trace_probe::sys::traffic_control::{self, Filter};
use overlay_trace_probe::{FilterOptions, ProbeSet, Session, SessionOptions};

use super::network;
use crate::interrupted::{Recorder, program};
use crate::own;
use crate::results::{Results, Verdict};

const KILLED: &str = "tc/killed";
const CLEANED: &str = "tc/doctor-clean";
const OTHERS: &str = "tc/filters-of-others";
/// In the shape of a CNI with programs of its own at its devices.
const LAB: &str = "cilium-vxlan";
const ATTACHING: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(100);

/// Runs the tests.
pub fn run((folder, stop): (&Path, &Stop), results: &mut Results) {
    own::add(&[KILLED, CLEANED], results, |results| killed(folder, results));
    own::add(&[OTHERS], results, |results| others(folder, stop, results));
}

/// What is at a side of a device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AtSide {
    has_clsact: bool,
    filters: Vec<Filter>,
    /// The numbers of the tcx programs, in the order in which they run.
    tcx: Vec<u32>,
}

impl AtSide {
    /// Whether a program of ours is here, on a device that nobody else uses.
    pub fn has_hook(&self) -> bool {
        !self.tcx.is_empty() || self.filters.iter().any(is_ours)
    }
}

/// Namespace, device and side.
pub type DeviceSide = (String, String, &'static str);
pub type State = BTreeMap<DeviceSide, AtSide>;

/// What is at the devices of these namespaces.
pub fn state(namespaces: &[Netns]) -> Result<State> {
    let mut state = State::new();
    for netns in namespaces {
        let found = netns.run(|| -> Result<Vec<(DeviceSide, AtSide)>> {
            let mut found = Vec::new();
            for link in &nix::net::if_::if_nameindex()? {
                let (device, ifindex) = (link.name().to_string_lossy().into_owned(), link.index());
                for side in Side::ALL {
                    let kind = match side {
                        Side::Ingress => TcAttachType::Ingress,
                        Side::Egress => TcAttachType::Egress,
                    };
                    // Before 6.6 there is nothing to ask for.
                    let tcx = SchedClassifier::query_tcx(&device, kind).map(|(_, programs)| programs);
                    let at = AtSide {
                        has_clsact: traffic_control::has_clsact(ifindex)?,
                        filters: traffic_control::filters(ifindex, side)?,
                        tcx: tcx.unwrap_or_default().iter().map(|program| program.id()).collect(),
                    };
                    found.push(((netns.name().to_owned(), device.clone(), side.name()), at));
                }
            }
            Ok(found)
        })??;
        state.extend(found);
    }
    Ok(state)
}

fn is_ours(filter: &Filter) -> bool {
    filter.name.starts_with(HOOK_NAME)
}

fn own_filters(state: &State) -> usize {
    state.values().flat_map(|at| &at.filters).filter(|filter| is_ours(filter)).count()
}

fn same(before: &State, after: &State) -> Result<()> {
    let changed: Vec<_> = before.iter().filter(|(place, at)| after.get(*place) != Some(at)).collect();
    ensure!(changed.is_empty() && before.len() == after.len(), "it was {changed:?}, and is {after:?}");
    Ok(())
}

/// Filters of a recorder that was killed are removed by the next one, or by `doctor --clean`; a clsact that was there
/// before stays.
fn killed(folder: &Path, results: &mut Results) -> Result<()> {
    let network = network::up()?;
    let namespaces: Vec<Netns> =
        network::NAMESPACES.iter().map(|name| network.netns(name)).collect::<Result<_>>()?;
    network.netns("node1")?.run(|| aya::programs::tc::qdisc_add_clsact("cni0"))??;
    let before = state(&namespaces)?;
    let file = folder.join("tc-killed.otr");
    let kill = || -> Result<usize> {
        let mut recorder = Recorder::start(ProbeSet::Tc, &file, &["--clsact"])?;
        let begin = Instant::now();
        // One of each side of the network's ten devices.
        while own_filters(&state(&namespaces)?) < 2 * 10 {
            ensure!(recorder.is_running()?, "the recording ended by itself");
            ensure!(begin.elapsed() < ATTACHING, "the filters were not attached");
            thread::sleep(POLL);
        }
        recorder.signal(nix::sys::signal::Signal::SIGKILL)?;
        while recorder.is_running()? {
            thread::sleep(POLL);
        }
        Ok(own_filters(&state(&namespaces)?))
    };
    ensure!(kill()? == 2 * 10, "the filters of a recorder that was killed went by themselves");
    // The next start, with any probe set.
    let options = SessionOptions {
        set: Some(ProbeSet::Device),
        output: folder.join("tc-next.otr"),
        force: true,
        ..SessionOptions::default()
    };
    Session::start(options)?.stop()?;
    results.add(KILLED, same(&before, &state(&namespaces)?).map(|()| Verdict::Passed));
    kill()?;
    let output = Command::new(program()?).args(["doctor", "--clean"]).output()?;
    let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    ensure!(output.status.success(), "doctor --clean: {said}");
    results.add(CLEANED, same(&before, &state(&namespaces)?).map(|()| Verdict::With(said)));
    Ok(())
}

/// Where a CNI has programs at its devices, ours run before them, and theirs stay as they are, while packets go their
/// way.
fn others(folder: &Path, stop: &Stop, results: &mut Results) -> Result<()> {
    let lab = dataplanes::find(LAB).context("the lab is missing")?;
    if let Some(lack) = System::look()?.lack(lab, &Knobs::default())? {
        results.add(OTHERS, Ok(Verdict::Skipped(lack)));
        return Ok(());
    }
    let running = Running::up(lab, Knobs::default(), stop)?;
    let found = [false, true].into_iter().try_for_each(|clsact| others_in(&running, clsact, folder, stop));
    running.down()?;
    results.add(OTHERS, found.map(|()| Verdict::Passed));
    Ok(())
}

fn others_in(running: &Running, clsact_only: bool, folder: &Path, stop: &Stop) -> Result<()> {
    let namespaces: Vec<Netns> = running.namespaces().to_vec();
    let before = state(&namespaces)?;
    let has_others = |at: &AtSide| !at.filters.is_empty() || !at.tcx.is_empty();
    ensure!(before.values().any(has_others), "the lab has no program at a device");
    let session = Session::start(SessionOptions {
        set: Some(ProbeSet::Tc),
        clsact_only,
        filter: FilterOptions { ..running.filter() },
        output: folder.join("tc-others.otr"),
        force: true,
        ..SessionOptions::default()
    })?;
    let during = state(&namespaces)?;
    let driven = crate::networks::requests(running, stop);
    session.stop()?;
    driven.context("the lab's own programs do not work any more")?;
    for (place, now) in &during {
        let then = before.get(place).with_context(|| format!("{place:?} is new"))?;
        let theirs: Vec<&Filter> = now.filters.iter().filter(|filter| !is_ours(filter)).collect();
        ensure!(theirs.iter().copied().eq(&then.filters), "filters at {place:?}: {then:?}, then {now:?}");
        ensure!(now.tcx.ends_with(&then.tcx), "programs at {place:?}: {then:?}, then {now:?}");
        let first = now.filters.first();
        if now.filters.iter().any(is_ours) && !first.is_some_and(is_ours) {
            bail!("ours is not the first at {place:?}: {now:?}");
        }
    }
    ensure!(during != before, "no hook was attached");
    same(&before, &state(&namespaces)?)
}
