//! One lab's measurement: the plan without a recording, then with one.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result};

use super::result::{Measured, Run, StageTime, Stages};
use super::{Machine, Plan, Setting, cpu};
use crate::analysis::{Analysis, By};
use crate::lab::{self, Knobs, Lab, Running};
use crate::probe::{ProbeSet, Session, SessionOptions};
use crate::report;
use crate::trace::Recording;
use crate::traffic::{Kind, Spec, Stop};

/// How to measure.
#[derive(Clone, Debug)]
pub struct Options {
    pub plan: &'static Plan,
    /// What the plan's rates are measured by.
    pub machine: Machine,
    /// `None`: the richest that the kernel allows.
    pub probes: Option<ProbeSet>,
    /// Where the recording goes; overwritten.
    pub recording: PathBuf,
}

/// Sends the plan through the lab. `tell` is told what is being done.
///
/// # Errors
///
/// When the lab cannot be built or a run fails, or a `stop` interrupted it.
pub fn measure(
    lab: &'static Lab,
    options: &Options,
    stop: &Stop,
    tell: &mut dyn FnMut(&str),
) -> Result<Measured> {
    let began = Instant::now();
    let mut measured =
        Measured { notes: Vec::new(), runs: Vec::new(), stages: Stages::default(), took_s: 0.0 };
    for (number, setting) in options.plan.settings.iter().enumerate() {
        tell("building");
        let knobs = Knobs { mtu: setting.mtu, ..Knobs::default() };
        let running = Running::up(lab, knobs, stop)?;
        let specs = options.plan.specs(setting, &options.machine)?;
        for (spec, name) in specs.iter().zip(options.plan.names(setting, &specs)) {
            tell(&name);
            measured.runs.push(run(&running, spec, name, stop)?);
        }
        if number == 0 {
            measured.notes = running.notes().iter().map(|note| (*note).to_owned()).collect();
            tell("recording");
            measured.stages = record(&running, &recorded(options.plan, &specs), options, stop)?;
        }
        running.down()?;
    }
    measured.took_s = began.elapsed().as_secs_f64();
    Ok(measured)
}

fn run(running: &Running, spec: &Spec, name: String, stop: &Stop) -> Result<Run> {
    let before = cpu::now()?;
    let reports = lab::drive(running, std::slice::from_ref(spec), stop)?;
    let cpu = cpu::now()?.since(before);
    let traffic = reports.into_iter().next().context("the run has no report")?;
    Ok(Run { name, traffic, cpu })
}

/// The runs of a recording: shorter, and without bulk, whose large packets would hide all others.
fn recorded(plan: &Plan, specs: &[Spec]) -> Vec<Spec> {
    let short = |spec: &Spec| Spec { duration: spec.duration.min(plan.recorded), ..spec.clone() };
    specs.iter().filter(|spec| spec.kind != Kind::Bulk).map(short).collect()
}

fn record(running: &Running, specs: &[Spec], options: &Options, stop: &Stop) -> Result<Stages> {
    let mut session = Session::start(SessionOptions {
        set: options.probes,
        filter: running.filter(),
        output: options.recording.clone(),
        force: true,
        ..SessionOptions::default()
    })?;
    let reports = lab::drive(running, specs, stop)?;
    session.traffic(reports.iter().map(serde_json::to_value).collect::<Result<Vec<_>, _>>()?);
    session.stop()?;
    stages(&options.recording)
}

/// Reads a recording.
fn stages(path: &Path) -> Result<Stages> {
    let analysis = Analysis::of(&Recording::open(path)?, By::Anywhere)?;
    Ok(Stages::of(&analysis))
}

impl Stages {
    /// What a comparison takes from an analysis by [`By::Anywhere`].
    pub fn of(analysis: &Analysis) -> Stages {
        let ns = |sum: u128| u64::try_from(sum).unwrap_or(u64::MAX);
        let row = |row: &crate::analysis::Row| StageTime {
            layer: row.key.layer.clone().unwrap_or_default(),
            stage: row.key.stage.clone().unwrap_or_default(),
            kind: row.key.kind.to_owned(),
            level: row.key.level.unwrap_or(0),
            direction: row.key.direction.map(|direction| direction.name()).unwrap_or_default().to_owned(),
            packets: row.raw.count(),
            raw_ns: ns(row.raw.sum()),
            net_ns: ns(row.net.as_ref().unwrap_or(&row.raw).sum()),
        };
        Stages {
            probe_set: analysis.header.probe_set.clone(),
            packets: analysis.packets(),
            losses: report::losses(analysis),
            other_share: analysis.other_share(),
            sum_ns: ns(analysis.end_to_end.sum()),
            median_ns: analysis.net.as_ref().unwrap_or(&analysis.end_to_end).quantile(0.5),
            is_net: analysis.net.is_some(),
            rows: analysis.rows.iter().map(row).collect(),
        }
    }
}

impl Plan {
    /// The runs' names: what tells them apart is added where a kind of traffic comes more than once.
    fn names(&self, setting: &Setting, specs: &[Spec]) -> Vec<String> {
        let name = |spec: &Spec| {
            let alike: Vec<&Spec> = specs.iter().filter(|other| other.name() == spec.name()).collect();
            let mut name = spec.name();
            let differ = |what: fn(&Spec) -> u64| alike.iter().any(|other| what(other) != what(spec));
            if differ(|spec| spec.rate as u64) && spec.kind != Kind::Bulk {
                name += &format!(" {:.0}/s", spec.rate);
            }
            if differ(|spec| u64::from(spec.size.answer)) {
                name += &format!(" {} B", spec.size.answer);
            }
            if differ(|spec| u64::from(spec.connections)) {
                name += &format!(" x{}", spec.connections);
            }
            if self.settings.len() > 1 {
                name += &format!(" MTU {}", setting.mtu);
            }
            name
        };
        specs.iter().map(name).collect()
    }

    /// Every run in words, for the conditions of results.
    pub fn in_words(&self, machine: &Machine) -> Result<Vec<String>> {
        let mut words = Vec::new();
        for setting in self.settings {
            let specs = self.specs(setting, machine)?;
            for (spec, name) in specs.iter().zip(self.names(setting, &specs)) {
                words.push(format!(
                    "{name}: {}{:?}, {} and {} bytes, {} connections",
                    if spec.kind == Kind::Bulk {
                        String::new()
                    } else {
                        format!("{:.0} per second for ", spec.rate)
                    },
                    spec.duration,
                    spec.size.request,
                    spec.size.answer,
                    spec.connections
                ));
            }
        }
        Ok(words)
    }
}
