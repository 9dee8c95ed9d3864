//! Measures labs: each gets the plan without a recording, then a group of labs together with one recording.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result};

use super::cpu_time;
use super::machine_limits::Machine;
use super::plan::{Plan, Setting};
use super::result::{Measured, Run, StageTime, Stages, TRANSFERS};
use crate::dataplanes::{self, Knobs, Lab, Running};
use crate::traffic::{Kind, Spec, Stop, TrafficReport};
use overlay_trace_analysis::breakdown::{Analysis, By};
use overlay_trace_analysis::report;
use overlay_trace_format::Detection;
use overlay_trace_format::{Header, Recording};
use overlay_trace_probe::detection;
use overlay_trace_probe::{FilterOptions, ProbeSet, Session, SessionOptions};

/// The number of labs that are up together and share a recording, since attaching the probes takes longer than the
/// traffic.
const GROUP_SIZE: usize = 6;

/// How to measure.
#[derive(Clone, Debug)]
pub struct Options {
    pub plan: &'static Plan,
    /// The limits that the plan's rates are scaled to.
    pub machine: Machine,
    /// `None`: the most detailed set that the kernel allows.
    pub probes: Option<ProbeSet>,
    /// The folder of the recordings, each named after its lab; existing ones are overwritten.
    pub recordings: PathBuf,
}

/// A lab that is up and measured except for its recording.
#[derive(Debug)]
pub struct BuiltLab {
    running: Running,
    /// The runs to send while recording.
    recorded_runs: Vec<Spec>,
    measured: Measured,
}

impl BuiltLab {
    /// The lab.
    pub fn lab(&self) -> &'static Lab {
        self.running.lab()
    }
}

/// The groups of labs that are measured together.
pub fn groups(labs: &[&'static Lab]) -> Vec<Vec<&'static Lab>> {
    dataplanes::group_compatible(labs.iter().copied(), GROUP_SIZE, |lab| (lab, false))
}

/// Sends the plan through the lab without a recording, and leaves the lab up. `on_step` is called with the name of
/// each step.
///
/// # Errors
///
/// When the lab cannot be built or a run fails, or a `stop` interrupted it.
pub fn measure(
    lab: &'static Lab,
    options: &Options,
    stop: &Stop,
    on_step: &mut dyn FnMut(&str),
) -> Result<BuiltLab> {
    let began = Instant::now();
    let (first, others) = options.plan.settings.split_first().context("the plan has no runs")?;
    let mut later = Vec::new();
    for setting in others {
        let (running, _) = up(lab, setting, options, stop, on_step, &mut later)?;
        running.down()?;
    }
    let mut runs = Vec::new();
    let (running, specs) = up(lab, first, options, stop, on_step, &mut runs)?;
    runs.extend(later);
    let notes = running.notes().iter().map(|note| (*note).to_owned()).collect();
    let took_s = began.elapsed().as_secs_f64();
    let measured = Measured { notes, runs, stages: Stages::default(), took_s };
    Ok(BuiltLab { running, recorded_runs: recorded_runs(options.plan, &specs), measured })
}

/// Builds the lab with a setting, and sends the setting's traffic.
fn up(
    lab: &'static Lab,
    setting: &Setting,
    options: &Options,
    stop: &Stop,
    on_step: &mut dyn FnMut(&str),
    runs: &mut Vec<Run>,
) -> Result<(Running, Vec<Spec>)> {
    on_step("building");
    let running = Running::up(lab, Knobs { mtu: setting.mtu, ..Knobs::default() }, stop)?;
    let specs = options.plan.specs(setting, &options.machine)?;
    for (spec, name) in specs.iter().zip(options.plan.names(setting, &specs)) {
        on_step(&name);
        runs.push(run(&running, spec, name, stop)?);
    }
    Ok((running, specs))
}

/// Sends the plan again through labs that are up, with one recording of all of them, and takes them down.
///
/// # Errors
///
/// When nothing can be recorded. A failure of a single lab is that lab's result.
pub fn record(
    group: Vec<BuiltLab>,
    options: &Options,
    stop: &Stop,
) -> Result<Vec<(&'static Lab, Result<Measured>)>> {
    let began = Instant::now();
    let file = options.recordings.join("group.otr");
    let session = Session::start(SessionOptions {
        set: options.probes,
        // Packets outside the labs are dropped when each lab's packets are extracted.
        filter: FilterOptions::default(),
        output: file.clone(),
        force: true,
        ..SessionOptions::default()
    })?;
    let driven: Vec<_> =
        group.iter().map(|one| dataplanes::drive(&one.running, &one.recorded_runs, stop)).collect();
    let networks: Vec<_> = group.iter().map(|one| detection::look(&one.running.filter().netns)).collect();
    session.stop()?;
    let recording = Recording::open(&file)?;
    let count = group.len() as f64;
    let mut results = Vec::new();
    for ((one, driven), networks) in group.into_iter().zip(driven).zip(networks) {
        let BuiltLab { running, measured, .. } = one;
        let lab = running.lab();
        let path = options.recordings.join(format!("{}.otr", lab.name));
        let stages = driven.and_then(|reports| extract_lab(&recording, &running, networks, &reports, &path));
        let down = running.down();
        let took_s = measured.took_s + began.elapsed().as_secs_f64() / count;
        let result = stages.and_then(|stages| down.map(|()| Measured { stages, took_s, ..measured }));
        results.push((lab, result));
    }
    // Each lab has its own recording now.
    let _ = std::fs::remove_file(&file);
    Ok(results)
}

/// Extracts a lab's packets from the recording of its group.
fn extract_lab(
    recording: &Recording,
    running: &Running,
    networks: Vec<Detection>,
    reports: &[TrafficReport],
    path: &Path,
) -> Result<Stages> {
    let header = Header { networks: Some(networks), ..recording.header.clone() };
    running.extract(recording, header, (0..u64::MAX, reports), path)?;
    stages(path)
}

fn run(running: &Running, spec: &Spec, name: String, stop: &Stop) -> Result<Run> {
    // Bulk throughput varies more between transfers than any other measurement.
    let times = if spec.kind == Kind::Bulk { TRANSFERS } else { 1 };
    let part = Spec { duration: spec.duration / times, ..spec.clone() };
    let before = cpu_time::now()?;
    let mut reports = dataplanes::drive(running, &vec![part; times as usize], stop)?;
    let cpu = cpu_time::now()?.since(before);
    reports.sort_by(|a, b| a.throughput_bits_per_s.total_cmp(&b.throughput_bits_per_s));
    let throughputs = reports.iter().map(|report| report.throughput_bits_per_s).collect();
    let median = reports.len() / 2;
    let traffic = reports.into_iter().nth(median).context("the run has no report")?;
    Ok(Run { name, traffic, throughputs, cpu })
}

/// The runs of a recording: shorter, and without bulk, whose large packets would dominate all others.
fn recorded_runs(plan: &Plan, specs: &[Spec]) -> Vec<Spec> {
    let short = |spec: &Spec| Spec { duration: spec.duration.min(plan.recorded), ..spec.clone() };
    specs.iter().filter(|spec| spec.kind != Kind::Bulk).map(short).collect()
}

/// Analyses a recording.
fn stages(path: &Path) -> Result<Stages> {
    let analysis = Analysis::of(&Recording::open(path)?, By::Anywhere)?;
    Ok(Stages::of(&analysis))
}

impl Stages {
    /// The part of an analysis by [`By::Anywhere`] that a comparison uses.
    pub fn of(analysis: &Analysis) -> Stages {
        let ns = |sum: u128| u64::try_from(sum).unwrap_or(u64::MAX);
        let row = |row: &overlay_trace_analysis::breakdown::Row| StageTime {
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
    /// The runs' names. Where a kind of traffic occurs more than once, the name includes the differing parameters.
    fn names(&self, setting: &Setting, specs: &[Spec]) -> Vec<String> {
        let name = |spec: &Spec| {
            let same_kind: Vec<&Spec> = specs.iter().filter(|other| other.name() == spec.name()).collect();
            let mut name = spec.name();
            let differ = |what: fn(&Spec) -> u64| same_kind.iter().any(|other| what(other) != what(spec));
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

    /// A description of every run, for the conditions of results.
    pub fn descriptions(&self, machine: &Machine) -> Result<Vec<String>> {
        let mut descriptions = Vec::new();
        for setting in self.settings {
            let specs = self.specs(setting, machine)?;
            for (spec, name) in specs.iter().zip(self.names(setting, &specs)) {
                descriptions.push(format!(
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
        Ok(descriptions)
    }
}
