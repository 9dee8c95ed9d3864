//! TCP's view of a recording in which only the slow packets are kept whole, against what TCP itself has counted.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use overlay_trace_analysis::tail::{Of, RetransmitTrigger, Tail, Threshold};
use overlay_trace_format::Recording;
use overlay_trace_lab::dataplanes::{Running, drive};
use overlay_trace_lab::traffic::{Kind, Protocol, Spec, Stop};
use overlay_trace_probe::{ProbeSet, Session, SessionOptions, TailSampling};

use super::load::DURATION;
use crate::counters;
use crate::results::{Outcome, Verdict};
use crate::truth::fixture::{Change, Fixture};

const LOSS: &str = "tc qdisc replace dev eth0 root netem loss 2%";
const USUAL: &str = "tc qdisc replace dev eth0 root fq_codel";
/// Of the ordinary packets one in so many is kept.
const ONE_IN: u32 = 64;
/// Of what TCP has sent again at least this part must be seen.
const SEEN_MIN: f64 = 0.9;

/// Records requests of which some are lost, one in some packets, and compares what was sent again.
pub fn check(running: &Running, (folder, stop): (&Path, &Stop)) -> Outcome {
    let path = folder.join("sampled.otr");
    let session = Session::start(SessionOptions {
        set: Some(ProbeSet::Light),
        filter: running.filter(),
        output: path.clone(),
        force: true,
        sampling: Some(TailSampling { threshold: Threshold::Quantile(0.99), one_in: ONE_IN }),
        ..SessionOptions::default()
    })?;
    let fixture = Fixture::new(running, folder, stop);
    // So few that what closes them, which is no data, is hardly ever lost.
    let (rate, connections) = (600.0, 40);
    let spec = Spec { rate, connections, duration: DURATION, ..Spec::new(Kind::Rr, Protocol::Tcp) };
    let before = counters::of(running)?;
    let sent = fixture.with(&[Change::new("node1", &[LOSS], &[USUAL])], || drive(running, &[spec], stop));
    let grown = counters::growth(&before, &counters::of(running)?);
    session.stop().context("the recording could not be finished")?;
    if let Err(lack) = sent? {
        return Ok(Verdict::Skipped(lack));
    }
    let counted = |name: &str| -> u64 {
        let of = ["pod1", "pod2"].map(|pod| grown.get(&format!("{pod} {name}")).copied().unwrap_or(0));
        of.iter().sum::<i64>().max(0) as u64
    };
    compare(&path, counted("Tcp/RetransSegs"))
}

fn compare(path: &Path, counted: u64) -> Result<Verdict> {
    let tail = Tail::of(&Recording::open(path)?, Of::Packets, Threshold::default(), 0)?;
    let (left_out, finished) = (tail.analysis.last.counters.left_out, tail.analysis.finished());
    let seen = tail.tcp.count(|_| true);
    let timeouts = tail.tcp.count(RetransmitTrigger::is_timeout);
    let figures = format!(
        "{seen} of {counted} segments that were sent again, {timeouts} after a timeout; {left_out} of {finished} \
         packets left out"
    );
    ensure!(counted > 0 && left_out > finished / 4, "nothing was lost, or nothing left out: {figures}");
    ensure!(seen <= counted && seen as f64 >= SEEN_MIN * counted as f64, "{figures}");
    let explained = tail
        .findings
        .iter()
        .any(|found| found.rule.id == "qdisc-overflow" && found.retransmitted.segments > 0);
    ensure!(explained, "not joined to the drops: {figures}");
    Ok(Verdict::With(figures))
}
