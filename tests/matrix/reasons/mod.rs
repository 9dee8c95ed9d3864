//! Drop reasons, each brought about on purpose: whether `tail` names the row of the table of drops that belongs to it, at
//! the place where the packets were dropped. Reasons that mean no loss must be known as such, and be no cause.
//!
//! Most packets are made here byte by byte. All faults share a recording; each is judged by the packets that began while it
//! was brought about.

mod bench;
mod frames;
mod ip;
mod ipv6;
mod link;
mod list;
mod socket;
mod tcp;
mod wire;

use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use overlay_trace_analysis::breakdown::Drop;
use overlay_trace_analysis::tail::{Effect, Of, Tail, Threshold, drop_row};
use overlay_trace_format::Recording;
use overlay_trace_lab::traffic::Stop;
use overlay_trace_probe::load::Sizes;
use overlay_trace_probe::sys::clock::monotonic_ns;
use overlay_trace_probe::{FilterOptions, ProbeSet};

use crate::machine;
use crate::own::{Plan, is_exact};
use crate::results::{Outcome, Results, Verdict};
use crate::since::{self, Since};
use crate::tail::cut::cut;
use crate::truth::fixture::Window;
use bench::Bench;
pub use frames::checksum;
use list::{Fault, faults};

/// The faults are made for kernels with these reasons.
const SINCE: Since = Some(((6, 12), "other reasons are given, or none"));
const COUNTED: &str = "reasons/named";
/// So many reasons must be named rightly in all.
const LEAST: usize = 40;
/// Of the packets of a fault at least so many must be dropped for its reason; some have a first one that is kept.
const PACKETS_MIN: u64 = 3;
/// The last packets of a fault are still in flight.
const IN_FLIGHT: Duration = Duration::from_millis(50);

fn test(fault: &Fault) -> String {
    format!("reasons/{}", fault.name)
}

/// Runs the tests, of the probe set full.
pub fn run((folder, stop): (&Path, &Stop), results: &mut Results) {
    let wanted: Vec<&'static Fault> =
        faults().filter(|fault| results.wants(&test(fault)) || results.wants(COUNTED)).collect();
    if wanted.is_empty() {
        return;
    }
    if let Some(lack) = since::lack(SINCE) {
        return results.add(COUNTED, Ok(Verdict::Skipped(lack)));
    }
    match all(&wanted, (folder, stop), results) {
        Ok(named) => {
            let said = format!("{} of {} reasons", named, wanted.len());
            let is_enough = named >= LEAST.min(wanted.len());
            results
                .add(COUNTED, if is_enough { Ok(Verdict::With(said)) } else { Err(anyhow::anyhow!(said)) });
        }
        Err(error) => results.add(COUNTED, Err(error)),
    }
}

/// Brings all about in one recording; gives how many were named rightly.
fn all(wanted: &[&'static Fault], (folder, stop): (&Path, &Stop), results: &mut Results) -> Result<usize> {
    let bench = Bench::up()?;
    let plan = Plan {
        set: ProbeSet::Full,
        folder,
        name: "reasons",
        filter: FilterOptions::default(),
        sizes: Sizes::default(),
    };
    let (recording, windows) = plan.record(|_| {
        let mut windows = Vec::new();
        for fault in wanted {
            match bring_about(&bench, fault) {
                Ok(window) => windows.push((*fault, window)),
                Err(error) => results.add(&test(fault), Err(error.context("it could not be brought about"))),
            }
            stop.check()?;
        }
        Ok(windows)
    })?;
    is_exact(&recording)?;
    let (faults, windows): (Vec<&Fault>, Vec<Window>) = windows.into_iter().unzip();
    let mut named = 0;
    for (fault, file) in faults.iter().zip(cut(&recording, &windows, (folder, "reasons"))?) {
        let outcome = judge(fault, &Recording::open(&file)?, &bench);
        named += usize::from(outcome.is_ok());
        results.add(&test(fault), outcome);
    }
    Ok(named)
}

fn bring_about(bench: &Bench, fault: &Fault) -> Result<Window> {
    let begin_ns = monotonic_ns();
    let each = |commands: &[(&str, &str)]| {
        commands.iter().try_for_each(|(on, command)| machine::do_in(&bench.network.netns(on)?, command))
    };
    each(fault.make)?;
    let sent = (fault.send)(bench);
    thread::sleep(IN_FLIGHT);
    each(fault.undo)?;
    sent?;
    Ok(Window { begin_ns, end_ns: monotonic_ns(), size: 0.0, times_ns: Vec::new() })
}

/// The packets were dropped for the reason, where they should be; and `tail` says so.
fn judge(fault: &Fault, recording: &Recording, bench: &Bench) -> Outcome {
    let tail = Tail::of(recording, Of::Packets, Threshold::Quantile(0.9), 0)?;
    let netns = Some(bench.network.name(fault.at));
    let is_it = |reason: &str, location: &str| {
        drop_row(reason, location).is_some_and(|row| {
            let function = location.split(['+', '.']).next().unwrap_or_default();
            row.names.contains(&fault.name) && (reason == fault.name || row.names.contains(&function))
        })
    };
    let all = &tail.analysis.drops;
    let here = all.iter().filter(|drop| drop.key.netns == netns && is_it(&drop.reason, &drop.location));
    let packets: u64 = here.map(|drop| drop.packets).sum();
    let seen: Vec<String> = all.iter().map(describe).collect();
    ensure!(packets >= PACKETS_MIN, "{packets} were dropped for it; seen: {}", seen.join("; "));
    let row = all.iter().find(|drop| is_it(&drop.reason, &drop.location));
    let row = row.and_then(|drop| drop_row(&drop.reason, &drop.location)).context("the table has no row")?;
    ensure!(row.is_brought_about(), "the table says that no test brings it about");
    let mut findings = tail.findings.iter().filter(|finding| finding.key.netns == netns);
    let is_told = |finding: &overlay_trace_analysis::tail::Finding| {
        finding.drop.as_ref().is_some_and(|(reason, location)| is_it(reason, location))
    };
    if fault.is_background || !matches!(row.effect, Effect::Lost | Effect::Configured) {
        ensure!(!findings.any(is_told), "it is told as a cause, though nothing is lost by it");
        return Ok(Verdict::With(format!("{packets} packets, no cause: {}", row.means)));
    }
    let first = findings.next().context("nothing is named")?;
    ensure!(is_told(first), "{} is named first: {}", first.rule.id, first.what());
    Ok(Verdict::With(format!("{packets} packets, {}: {}", first.rule.id, first.what())))
}

fn describe(drop: &Drop) -> String {
    let key = &drop.key;
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    format!("{} {} {} in {} {}", drop.packets, drop.reason, drop.location, text(&key.stage), text(&key.netns))
}
