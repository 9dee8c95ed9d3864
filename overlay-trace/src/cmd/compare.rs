//! `lab compare` and `lab reproduce`: the same traffic through several labs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread::available_parallelism;

use anyhow::{Result, anyhow, ensure};
use clap::Args;

use super::lab_name::find;
use super::output::line;
use super::probes::Probes;
use overlay_trace_lab::compare::{
    self, BASELINE, BuiltLab, CLAIMS, Comparison, Conditions, Folder, LabResult, Machine, Measured, Options,
    Outcome, Plan, Progress,
};
use overlay_trace_lab::dataplanes::{self, Knobs, Lab, System, Unavailable};
use overlay_trace_lab::say;
use overlay_trace_lab::traffic::Stop;
use overlay_trace_probe::sys::kernel;

/// Run the same traffic through several labs and compare them.
#[derive(Args)]
pub struct Compare {
    /// Names of labs, see `lab list`; `host`, the baseline, is always included
    #[arg(required_unless_present = "all")]
    names: Vec<String>,
    /// All labs
    #[arg(long, conflicts_with = "names")]
    all: bool,
    /// Traffic plan: quick, rr, seed-iperf-udp, seed-http-rate, seed-bulk or seed-mtu
    #[arg(long, default_value = "quick")]
    plan: String,
    #[command(flatten)]
    how: How,
}

/// Check published claims about container networks on this machine.
#[derive(Args)]
pub struct Reproduce {
    #[command(flatten)]
    how: How,
}

#[derive(Args)]
struct How {
    /// Folder for the results: a page, CSV, JSON and each lab's recording, in a subfolder named after the plan. Labs with
    /// a result there are not measured again
    #[arg(long, short, default_value = "overlay-trace-compare", value_name = "FOLDER")]
    output: PathBuf,
    /// Measure all labs again
    #[arg(long)]
    fresh: bool,
    /// Probe set of the recordings
    #[arg(long, value_enum, default_value = "auto", value_name = "SET")]
    probes: Probes,
}

impl Compare {
    pub fn run(self) -> Result<ExitCode> {
        for name in &self.names {
            find(name)?;
        }
        let plan = Plan::find(&self.plan)?;
        let comparison = self.how.compare(plan, |lab| {
            self.all || lab.name == BASELINE || self.names.iter().any(|name| name == lab.name)
        })?;
        line(compare::text(&comparison).trim_end())?;
        self.how.tell(plan)?;
        Ok(exit_code(&[&comparison]))
    }
}

impl Reproduce {
    pub fn run(self) -> Result<ExitCode> {
        let (quick, mtu) = (Plan::find("quick")?, Plan::find("seed-mtu")?);
        let is_claimed = |lab: &Lab, mtu: bool| {
            let sides = CLAIMS.iter().flat_map(|claim| [&claim.better, &claim.worse]);
            sides.filter(|side| side.mtu.is_some() == mtu).any(|side| side.lab == lab.name)
        };
        let labs = self.how.compare(quick, |lab| is_claimed(lab, false))?;
        let mtus = self.how.compare(mtu, |lab| is_claimed(lab, true))?;
        line(compare::checked_claims_text(&compare::check(&labs, &mtus)).trim_end())?;
        self.how.tell(quick)?;
        self.how.tell(mtu)?;
        Ok(exit_code(&[&labs, &mtus]))
    }
}

fn exit_code(comparisons: &[&Comparison]) -> ExitCode {
    let mut absent = comparisons.iter().flat_map(|comparison| &comparison.absent);
    if absent.any(|absent| absent.failed) { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

impl How {
    /// Measures the labs without a result, writes the files, and returns the comparison.
    fn compare(&self, plan: &'static Plan, is_wanted: impl Fn(&Lab) -> bool) -> Result<Comparison> {
        // In the order of `lab list`.
        let labs: Vec<_> = dataplanes::all().iter().filter(|lab| is_wanted(lab)).collect();
        let stop = Stop::on_signals()?;
        let system = System::look()?;
        let folder = Folder::open(&self.output, plan.name)?;
        let machine = self.machine(&folder, &stop)?;
        let work = Work { conditions: self.conditions(plan, &machine)?, folder, machine, plan, stop };
        let mut results = work.known(&labs, &system, self.fresh)?;
        let todo: Vec<_> = labs.iter().filter(|lab| !results.contains_key(lab.name)).copied().collect();
        let interrupted = work.measure(&todo, self.probes, &mut results)?;
        let in_order = labs.iter().filter_map(|lab| results.remove(lab.name)).collect();
        let comparison = Comparison::new(plan, plan.factor(&work.machine)?, in_order);
        work.write(&comparison)?;
        ensure!(
            !interrupted,
            "interrupted: {} holds the results so far; the same command continues with the remaining labs",
            self.page(plan).display()
        );
        Ok(comparison)
    }

    fn page(&self, plan: &Plan) -> PathBuf {
        Path::new(&self.output).join(plan.name).join("compare.html")
    }

    fn tell(&self, plan: &Plan) -> Result<()> {
        line(&format!(
            "\nPage: {}; compare.csv and compare.json are in the same folder.",
            self.page(plan).display()
        ))
    }

    fn machine(&self, folder: &Folder, stop: &Stop) -> Result<Machine> {
        if let Some(known) = folder.machine().filter(|_| !self.fresh) {
            return Ok(known);
        }
        say("measuring this machine");
        let machine = Machine::measure(stop)?;
        folder.keep_machine(&machine)?;
        Ok(machine)
    }

    fn conditions(&self, plan: &Plan, machine: &Machine) -> Result<Conditions> {
        Ok(Conditions {
            plan: plan.name.to_owned(),
            runs: plan.descriptions(machine)?,
            kernel: kernel::release(),
            cpus: available_parallelism()?.get(),
            probes: self.probes.set().map_or("auto", |set| set.name()).to_owned(),
            overlay_trace: env!("CARGO_PKG_VERSION").to_owned(),
        })
    }
}

/// A running comparison.
struct Work {
    plan: &'static Plan,
    machine: Machine,
    conditions: Conditions,
    folder: Folder,
    stop: Stop,
}

/// The outcome of a lab.
type LabOutcome = (&'static Lab, Result<Measured>);
type Results = BTreeMap<&'static str, LabResult>;

impl Work {
    fn result(&self, lab: &Lab, outcome: Outcome) -> LabResult {
        LabResult {
            lab: lab.name.to_owned(),
            about: lab.about.to_owned(),
            conditions: self.conditions.clone(),
            outcome,
        }
    }

    /// The labs that need no measurement: those with a result, and those that cannot run here.
    fn known(&self, labs: &[&'static Lab], system: &System, fresh: bool) -> Result<Results> {
        let mut results = Results::new();
        for lab in labs {
            if let Some(result) = self.folder.result(lab.name, &self.conditions).filter(|_| !fresh) {
                results.insert(lab.name, result);
            } else if let Some(lack) = system.lack(lab, &Knobs::default())? {
                results.insert(lab.name, self.result(lab, Outcome::Unavailable(lack)));
            }
        }
        let there = results.values().filter(|result| matches!(result.outcome, Outcome::Measured(_))).count();
        if there > 0 {
            say(&format!("{there} of the labs were measured before; --fresh measures them again"));
        }
        Ok(results)
    }

    /// Measures the labs in groups and keeps each result. Returns whether it was interrupted.
    fn measure(&self, labs: &[&'static Lab], probes: Probes, results: &mut Results) -> Result<bool> {
        let mut progress = Progress::new(labs.len() as u32, self.plan.traffic_time());
        let options = Options {
            plan: self.plan,
            machine: self.machine.clone(),
            probes: probes.set(),
            recordings: self.folder.file(""),
        };
        for group in compare::groups(labs) {
            let measured = self.group(&group, &options, &progress);
            if self.stop.is_set() {
                progress.finish();
                return Ok(true);
            }
            for (lab, outcome) in measured {
                let outcome = match outcome {
                    Ok(measured) => Outcome::Measured(Box::new(measured)),
                    Err(error) if error.is::<Unavailable>() => {
                        let lack = error.downcast::<Unavailable>()?.lack;
                        progress.say(&format!("{}: {lack}", lab.name));
                        Outcome::Unavailable(lack)
                    }
                    Err(error) => {
                        progress.say(&format!("{}: {error:#}", lab.name));
                        Outcome::Failed(format!("{error:#}"))
                    }
                };
                let result = self.result(lab, outcome);
                self.folder.keep(&result)?;
                results.insert(lab.name, result);
                progress.done();
            }
        }
        progress.finish();
        Ok(false)
    }

    /// The outcomes of labs that are measured together.
    fn group(&self, group: &[&'static Lab], options: &Options, progress: &Progress) -> Vec<LabOutcome> {
        let (mut standing, mut results): (Vec<BuiltLab>, Vec<LabOutcome>) = (Vec::new(), Vec::new());
        for (number, lab) in group.iter().enumerate() {
            progress.lab(lab.name, number);
            let changes = System::look().map(|system| dataplanes::foretell(lab, &Knobs::default(), &system));
            for change in changes.iter().flatten() {
                progress.say(&format!("{}: outside of its namespaces it {change}", lab.name));
            }
            let tell = &mut |what: &str| progress.step(lab.name, what);
            match compare::measure(lab, options, &self.stop, tell) {
                Ok(one) => standing.push(one),
                Err(error) => results.push((*lab, Err(error))),
            }
            if self.stop.is_set() {
                return results;
            }
        }
        let labs: Vec<&'static Lab> = standing.iter().map(BuiltLab::lab).collect();
        progress.step("all of these", "recording");
        match compare::record(standing, options, &self.stop) {
            Ok(recorded) => results.extend(recorded),
            Err(error) => {
                let reason = format!("{error:#}");
                results.extend(labs.into_iter().map(|lab| (lab, Err(anyhow!(reason.clone())))));
            }
        }
        results
    }

    fn write(&self, comparison: &Comparison) -> Result<()> {
        self.folder.write("compare.json", &compare::json(comparison)?)?;
        self.folder.write("compare.csv", &compare::csv(comparison)?)?;
        self.folder.write("compare.html", compare::page(comparison).as_bytes())
    }
}
