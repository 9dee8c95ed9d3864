//! Known causes, and what the recordings say of them. Compared are medians of the same lab with and without
//! the cause, so that the machine's speed does not matter; that it is the same throughout does, so these tests
//! want a machine whose clock counts instructions.

use anyhow::{Context, Result, ensure};
use overlay_trace::analysis::{Analysis, By, Row};

use crate::results::{Outcome, Verdict};
use crate::scene::{Check, check};
use crate::seen::{Seen, is_layer, is_stage, median};
use crate::settings::{DELAY, RULES};

pub const DELAYED: &[Check] =
    &[check("delay-is-in-the-queue", in_the_queue), check("delay-is-nowhere-else", nowhere_else)];
pub const FILTERED: &[Check] =
    &[check("rules-are-in-iptables", in_iptables), check("rules-are-not-in-vxlan", not_in_vxlan)];

/// Rows of fewer packets have no median to speak of.
const ENOUGH: u64 = 50;
/// How far the delay may be off.
const TOLERANCE: f64 = 0.05;

/// The same lab without the cause.
fn untouched<'a>(seen: &Seen, all: &'a [Seen]) -> Result<&'a Seen> {
    all.iter()
        .find(|other| other.setting == seen.lab && other.set == seen.set)
        .with_context(|| format!("there is no recording of {} to compare with", seen.lab))
}

fn is_delayed(seen: &Seen, row: &Row) -> bool {
    is_stage(&row.key, "qdisc-wait")
        && row.key.netns.as_deref() == Some(seen.netns("node1").as_str())
        && row.key.device.as_deref() == Some("eth0")
}

fn in_the_queue(seen: &Seen, _: &[Seen]) -> Outcome {
    let expected = DELAY.as_nanos() as f64;
    let rows: Vec<&Row> = seen.own.rows.iter().filter(|row| is_delayed(seen, row)).collect();
    ensure!(rows.iter().any(|row| row.raw.count() >= ENOUGH), "node1's eth0 has no queue to speak of");
    let mut figures = Vec::new();
    for row in rows.iter().filter(|row| row.raw.count() >= ENOUGH) {
        let median = median(row) as f64;
        figures.push(format!("{:.3} ms", median / 1e6));
        ensure!(
            (median / expected - 1.0).abs() <= TOLERANCE,
            "the delay of 2 ms was seen as {}",
            figures.join(", ")
        );
        ensure!(row.key.level == Some(1), "the queue is at level {:?}", row.key.level);
    }
    Ok(Verdict::With(figures.join(", ")))
}

/// No other stage has become slower by more than the tolerance.
fn nowhere_else(seen: &Seen, all: &[Seen]) -> Outcome {
    let untouched = untouched(seen, all)?;
    let allowed = (DELAY.as_nanos() as f64 * TOLERANCE) as u64;
    let mut compared = 0;
    for row in seen.own.rows.iter().filter(|row| !is_delayed(seen, row)) {
        let before = untouched.own.rows.iter().find(|other| other.key == row.key);
        let Some(before) = before.filter(|other| other.raw.count().min(row.raw.count()) >= ENOUGH) else {
            continue;
        };
        let (before, after) = (median(before), median(row));
        ensure!(after <= before + allowed, "{:?} went from {before} ns to {after} ns", row.key);
        compared += 1;
    }
    ensure!(compared > 50, "only {compared} rows could be compared");
    Ok(Verdict::With(format!("{compared} rows")))
}

/// The one row that is so, wherever packets were.
fn row(analysis: &Analysis, is_so: impl Fn(&Row) -> bool) -> Result<&Row> {
    analysis.rows.iter().find(|row| is_so(row)).context("the stage was not seen")
}

fn in_iptables(seen: &Seen, all: &[Seen]) -> Outcome {
    let iptables = |seen: &Seen| -> Result<u64> {
        let analysis = seen.analysis_of(By::Anywhere, |_| true)?;
        let forwarded = |row: &Row| {
            is_layer(&row.key, "iptables")
                && row.key.level == Some(0)
                && row.key.kind == "work"
                && row.key.direction.is_some_and(|direction| direction.name() == "forward")
        };
        Ok(median(row(&analysis, forwarded)?))
    };
    let (before, after) = (iptables(untouched(seen, all)?)?, iptables(seen)?);
    let factor = after as f64 / before.max(1) as f64;
    ensure!(factor >= 10.0, "{RULES} rules made iptables slower {factor:.1} times only");
    Ok(Verdict::With(format!("{factor:.0} times")))
}

fn not_in_vxlan(seen: &Seen, all: &[Seen]) -> Outcome {
    let before = untouched(seen, all)?;
    let mut figures = Vec::new();
    for stage in ["vxlan-encap", "vxlan-decap"] {
        let of = |seen: &Seen| -> Result<u64> {
            let analysis = seen.analysis_of(By::Anywhere, |_| true)?;
            Ok(median(row(&analysis, |row| is_stage(&row.key, stage) && row.key.kind == "work")?))
        };
        let factor = of(seen)? as f64 / of(before)? as f64;
        figures.push(format!("{stage} {factor:.2} times"));
        ensure!((0.8..=1.2).contains(&factor), "the rules changed vxlan: {}", figures.join(", "));
    }
    Ok(Verdict::With(figures.join(", ")))
}
