//! The probes' cost taken off, what is left is the time that packets take when nobody watches.

use anyhow::{Context, Result, ensure};

use super::compare::Recorded;
use super::fixture::{Fixture, Window};
use super::flow::Flow;
use super::{Cause, Injected};
use crate::results::{Outcome, Verdict};

/// How far the two may be apart.
const TOLERANCE: f64 = 0.10;

pub const CAUSES: &[Cause] =
    &[Cause { name: "cost/correction", inject: plain, untraced: Some(plain), check: is_as_untraced }];

fn plain(fixture: &Fixture) -> Result<Injected> {
    Ok(Ok(vec![fixture.send(&Flow::PLAIN, 0.0)?]))
}

fn mean(times: &[u64]) -> f64 {
    times.iter().sum::<u64>() as f64 / times.len().max(1) as f64
}

/// Compared is what the datagrams themselves measure, from before the send call to after the call that reads,
/// with the same less what is said to be the probes' cost: of their path, and of the record at its end, which is
/// made within the call that reads.
fn is_as_untraced(recorded: &Recorded, windows: &[Window]) -> Outcome {
    let [traced, untraced] = windows else { anyhow::bail!("there are {} windows", windows.len()) };
    let analysis = recorded.analysis(recorded.datagrams(traced));
    let raw = analysis.end_to_end.mean();
    let net = analysis.net_mean().context("the probes' cost was not measured")?;
    let costs = analysis.header.probe_cost_ns;
    let [hit, record] =
        [costs.tracepoint, costs.record].map(|ns| ns.context("a record's cost was not measured"));
    let end = hit? + record?;
    let (one_way, without) = (mean(&traced.times_ns), mean(&untraced.times_ns));
    let figures = format!(
        "one way {without:.0} ns untraced, {one_way:.0} ns traced; recorded {raw:.0} ns, {net:.0} ns net, {end:.0} ns for its end"
    );
    ensure!(((one_way - (raw - net) - end) / without - 1.0).abs() <= TOLERANCE, "{figures}");
    Ok(Verdict::With(figures))
}
