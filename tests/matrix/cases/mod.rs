//! Faults that people reported in public, made small: whether `tail` names the cause first, at its place and level.
//!
//! Each repetition of a case has namespaces of its own, so that one recording can serve all of them: a run's packets and
//! counters are those of its namespaces.

mod list;
mod network;
mod part;
mod traffic;

use std::path::Path;

use anyhow::{Context, Result, ensure};
use overlay_trace_analysis::tail::{Finding, Tail, Threshold};
use overlay_trace_format::Recording;
use overlay_trace_lab::traffic::Stop;
use overlay_trace_probe::sys::clock::monotonic_ns;
use overlay_trace_probe::{ProbeSet, Session, SessionOptions};

use crate::machine;
use crate::own::Network;
use crate::results::{Results, Verdict};
use crate::tail::{Confusion, describe};
use list::{CASES, Case, Kept};
use part::Part;
use traffic::Load;
pub use traffic::serve_here;

/// Of a case's runs at least this part must be right.
const ENOUGH: f64 = 0.9;
/// Above which percentile packets, or requests, are slow.
const ABOVE: f64 = 0.9;
/// What the cases need loaded.
const MODULES: &str = "modprobe -a veth vxlan bridge br_netfilter nf_conntrack ip_tables iptable_nat xt_MASQUERADE \
                       xt_tcpudp xt_statistic xt_nat esp4 xfrm_user authenc cbc";

/// A run that stands.
struct Run {
    case: &'static Case,
    load: Load,
    network: Network,
    prefix: String,
    _kept: Kept,
}

/// Brings each case that is wanted about `runs` times in one recording, and prints what was named. What was wrong in a single
/// run may be brought about once more.
pub fn run(set: ProbeSet, runs: u32, place: (&Path, &Stop), results: &mut Results) {
    let mut wanted: Vec<&'static Case> = CASES.iter().filter(|case| results.wants(case.name)).collect();
    while !wanted.is_empty() {
        let mut confusion = Confusion::default();
        if let Err(error) = all((set, &wanted), runs, place, &mut confusion, results) {
            results.add(wanted[0].name, Err(error));
        }
        let is_wrong = |case: &&'static Case| {
            let (runs, right) = confusion.runs(case.name);
            f64::from(right) < ENOUGH * f64::from(runs)
        };
        let (wrong, right): (Vec<_>, Vec<_>) = wanted.into_iter().partition(is_wrong);
        let may_doubt = runs == 1 && !wrong.is_empty() && results.may_doubt();
        let said = |case: &Case| {
            let (runs, right) = confusion.runs(case.name);
            format!("{right} of {runs} runs")
        };
        for case in right.into_iter().filter(|case| confusion.runs(case.name).0 > 0) {
            results.add(case.name, Ok(Verdict::With(said(case))));
        }
        for case in &wrong {
            match may_doubt {
                true => results.note_recorded_again(case.name),
                false => results.add(case.name, Err(anyhow::anyhow!(said(case)))),
            }
        }
        println!("{}", confusion.table());
        wanted = if may_doubt { wrong } else { Vec::new() };
    }
}

fn all(
    (set, wanted): (ProbeSet, &[&'static Case]),
    runs: u32,
    (folder, stop): (&Path, &Stop),
    confusion: &mut Confusion,
    results: &mut Results,
) -> Result<()> {
    // Kernels that have all built in have no modules.
    let _ = machine::run(MODULES);
    let mut standing = Vec::new();
    for number in 0..runs {
        for case in wanted {
            match stand(case, number) {
                Ok(run) => standing.push(run),
                Err(error) => results.add(case.name, Err(error.context("it does not stand"))),
            }
            stop.check()?;
        }
    }
    let path = folder.join("cases.otr");
    let session = Session::start(SessionOptions {
        set: Some(set),
        output: path.clone(),
        force: true,
        ..SessionOptions::default()
    })?;
    let mut parts = Vec::new();
    for run in &standing {
        let begin_ns = monotonic_ns();
        match (run.case.work)(&run.network, &run.load) {
            Ok(()) => parts.push(Part { prefix: run.prefix.clone(), duration_ns: monotonic_ns() - begin_ns }),
            Err(error) => results.add(run.case.name, Err(error.context("it could not be brought about"))),
        }
        stop.check()?;
    }
    ensure!(!session.failed(), "the recording gave up before its end");
    session.stop().context("the recording could not be finished")?;
    let recording = Recording::open(&path)?;
    for (part, file) in parts.iter().zip(part::write(&recording, &parts, folder)?) {
        let Some(run) = standing.iter().find(|run| run.prefix == part.prefix) else { continue };
        judge(run, &file, confusion, results).with_context(|| run.case.name)?;
    }
    Ok(())
}

fn stand(case: &'static Case, number: u32) -> Result<Run> {
    let load =
        Load::of(number << 8 | CASES.iter().position(|other| other.name == case.name).unwrap_or(0) as u32);
    let prefix = format!("ot-{}-{number}-", case.name.replace('/', "-"));
    let network = network::up(prefix.clone(), case.between)?;
    let _kept = (case.stand)(&network, &load)?;
    Ok(Run { case, load, network, prefix, _kept })
}

/// Whether the first cause that is named is the right one, at its place.
fn judge(run: &Run, file: &Path, confusion: &mut Confusion, results: &Results) -> Result<()> {
    let Run { case, load, network, .. } = run;
    let tail = Tail::of(&Recording::open(file)?, case.of, Threshold::Quantile(ABOVE), 0)?;
    let is_right = |finding: &&Finding| {
        let (netns, device, level) = case.place;
        let reason = finding.drop.as_ref().map(|(reason, _)| reason.as_str());
        finding.rule.id == case.cause
            && case.reason.is_none_or(|expected| reason == Some(expected))
            && finding.key.netns == Some(network.name(netns))
            && finding.key.device.as_deref().unwrap_or_default() == device
            && finding.key.level.unwrap_or(0) == level
    };
    let right = tail.findings.first().filter(is_right).is_some();
    let words: Vec<String> = tail.findings.iter().map(describe).collect();
    let verdict = if right { "right" } else { "WRONG" };
    println!("{}  {}  {load:?}  {verdict}: {}", results.kernel(), case.name, words.join("; "));
    let causes: Vec<&'static str> = tail.findings.iter().map(|finding| finding.rule.id).collect();
    confusion.add(case.name, &causes, right);
    Ok(())
}
