//! The article's table of VXLAN as an experiment: over a certain load packets are lost, the tail jumps to TCP's least
//! retransmission timeout; `tail` says where and why; what it advises makes the plateau vanish.
//!
//! The underlay hands over what it has gathered during some milliseconds, as a NIC does whose interrupts are
//! coalesced. Over the critical load that is more than the tunnel device's queue holds.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use overlay_trace_analysis::tail::{Of, Tail, Threshold};
use overlay_trace_format::Recording;
use overlay_trace_lab::dataplanes::drive;
use overlay_trace_lab::traffic::{Kind, Protocol, Spec};

use super::causes::{GRO_ON_UNDERLAY, expected};
use super::cut;
use super::injection::{Expected, REST, Step, window};
use crate::results::{Outcome, Verdict};
use crate::since::{self, VETH_GRO};
use crate::truth::fixture::{Change, Fixture, HOST, Window};

/// What is gathered is handed over so often.
const GATHER: Step = Step {
    on: "node1",
    make: &["tc qdisc replace dev eth0 root netem slot 20ms 20ms"],
    undo: &["tc qdisc replace dev eth0 root fq_codel"],
};
const SHORT: &str = "sysctl -qw net.core.netdev_max_backlog=30";
const LONG: &str = "sysctl -qw net.core.netdev_max_backlog=1000";
const CAUSE: Expected = expected("gro-cells-overflow", "node2", "flannel.1", 0);
/// The kernel's least timeout, ns.
const TIMEOUT_NS: u64 = 200_000_000;
const QUIET_RATE: f64 = 200.0;
const BUSY_RATE: f64 = 800.0;
/// So many that the next request of a connection comes after a timeout.
const CONNECTIONS: u32 = 250;
/// For so long each load is sent.
const DURATION: Duration = Duration::from_millis(3200);
/// At its end all connections are closed at once, which is a burst of its own: what is sent so shortly before is not
/// looked at.
const CLOSING: Duration = Duration::from_millis(100);

/// A quiet load, a busy one, and the busy one after the change that is advised.
pub type Parts = [Window; 3];

/// Sends the three loads, or says what this machine lacks for it.
pub fn inject(fixture: &Fixture) -> Result<Result<Parts, String>> {
    if let Some(lack) = since::lack(VETH_GRO) {
        return Ok(Err(lack));
    }
    let change = |step: &Step| Change::new(step.on, step.make, step.undo);
    let [sender, receiver] = GRO_ON_UNDERLAY.map(|step| change(&step));
    let short = Change::new(HOST, &[SHORT], &[LONG]);
    fixture.with(&[sender, receiver, change(&GATHER)], || {
        let before =
            fixture.with(&[short], || Ok([send(fixture, QUIET_RATE)?, send(fixture, BUSY_RATE)?]))?;
        let Ok([quiet, busy]) = before else { anyhow::bail!("the queue cannot be made short") };
        Ok([quiet, busy, send(fixture, BUSY_RATE)?])
    })
}

fn send(fixture: &Fixture, rate: f64) -> Result<Window> {
    let timeout = Duration::from_secs(3);
    let spec = Spec {
        rate,
        duration: DURATION,
        timeout,
        connections: CONNECTIONS,
        ..Spec::new(Kind::Rr, Protocol::Tcp)
    };
    let reports = drive(fixture.running, &[spec], fixture.stop)?;
    let window = window(0, &reports)?;
    std::thread::sleep(REST);
    let [report] = &reports[..] else { anyhow::bail!("no traffic was sent") };
    Ok(Window { end_ns: report.start_ns + (DURATION - CLOSING).as_nanos() as u64, ..window })
}

/// The tail is there over the critical load alone, is explained down to the drop, and what is advised ends it.
pub fn check(parts: &Parts, recording: &Recording, fixture: &Fixture, folder: &Path) -> Outcome {
    let files = cut::cut(recording, parts, (folder, "article"))?;
    let [quiet, busy, mended] = [0, 1, 2].map(|at: usize| -> Result<Tail> {
        Tail::of(&Recording::open(&files[at])?, Of::Requests, Threshold::Quantile(0.99), 1)
    });
    let (quiet, busy, mended) = (quiet?, busy?, mended?);
    let [slow_quiet, slow_busy, slow_mended] = [&quiet, &busy, &mended].map(slowest_ns);
    let told = format!(
        "the slowest request took {:.1} ms at {QUIET_RATE}/s, {:.1} ms at {BUSY_RATE}/s, {:.1} ms with the change",
        slow_quiet as f64 / 1e6,
        slow_busy as f64 / 1e6,
        slow_mended as f64 / 1e6
    );
    ensure!(slow_busy >= TIMEOUT_NS, "nothing was lost: {told}");
    ensure!(
        slow_quiet < TIMEOUT_NS / 2 && slow_mended < TIMEOUT_NS / 2,
        "the plateau is elsewhere too: {told}"
    );
    let first = busy.findings.first();
    let found = first.filter(|finding| CAUSE.is(finding, fixture.running));
    let Some(found) = found else {
        let words = first.map_or("nothing".into(), super::injection::describe);
        anyhow::bail!("{told}; named was {words}");
    };
    ensure!(
        found.retransmitted.timeouts > 0,
        "no timeout was joined to the drops: {:?}",
        found.retransmitted
    );
    let advised = found.rule.advice.iter().any(|advice| advice.what.contains("netdev_max_backlog"));
    ensure!(advised, "what ends it was not advised");
    for (tail, name, rate) in [(&quiet, "the quiet load", QUIET_RATE), (&mended, "the mended lab", BUSY_RATE)]
    {
        let words: Vec<String> = tail.findings.iter().map(super::injection::describe).collect();
        let has_timeouts = tail.tcp.count(|trigger| trigger.is_timeout()) > 0;
        ensure!(!has_timeouts, "timeouts with {name}: {}", words.join("; "));
        // Only the last ones may be without an answer: theirs comes when the window is over.
        let last = rate * CLOSING.as_secs_f64();
        ensure!(tail.unpaired as f64 <= last, "{} requests without an answer with {name}", tail.unpaired);
    }
    Ok(Verdict::With(format!("{told}; {} timeouts explained", found.retransmitted.timeouts)))
}

fn slowest_ns(tail: &Tail) -> u64 {
    tail.slowest.first().map_or(0, |slowest| slowest.ns)
}
