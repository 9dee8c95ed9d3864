//! The article's table of VXLAN as an experiment: over a certain load packets are lost, p99.99 jumps to TCP's least
//! retransmission timeout; `tail` says where and why; what it advises makes the plateau vanish.
//!
//! The underlay hands over what it has gathered during some milliseconds, as a NIC does whose interrupts are
//! coalesced. Over the critical load that is more than the tunnel device's queue holds.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use overlay_trace::lab::drive;
use overlay_trace::tail::{Above, Of, Tail};
use overlay_trace::trace::Recording;
use overlay_trace::traffic::{Kind, Protocol, Spec, TrafficReport};

use super::causes::GRO_ON_UNDERLAY;
use super::cut;
use super::injection::{Expected, REST, Step, window};
use crate::results::{Outcome, Verdict};
use crate::truth::ground::{Change, Ground, HOST, Window};

/// What is gathered is handed over so often.
const GATHER: Step = Step {
    on: "node1",
    make: &["tc qdisc replace dev eth0 root netem slot 20ms 20ms"],
    undo: &["tc qdisc replace dev eth0 root fq_codel"],
};
const SHORT: &str = "sysctl -qw net.core.netdev_max_backlog=30";
const LONG: &str = "sysctl -qw net.core.netdev_max_backlog=1000";
const CAUSE: Expected =
    Expected { cause: "gro-cells-overflow", netns: "node2", device: "flannel.1", level: 0 };
/// The kernel's least timeout, ns.
const TIMEOUT_NS: u64 = 200_000_000;
const QUIET_RATE: f64 = 200.0;
const BUSY_RATE: f64 = 800.0;
/// So many that the next request of a connection comes after a timeout.
const CONNECTIONS: u32 = 250;

/// What was sent in a window.
pub struct Part {
    window: Window,
    report: TrafficReport,
}

/// A quiet load, a busy one, and the busy one after the change that is advised.
pub type Parts = [Part; 3];

/// Sends the three loads, or says what this machine lacks for it.
pub fn bring_about(ground: &Ground) -> Result<Result<Parts, String>> {
    let change = |step: &Step| Change::new(step.on, step.make, step.undo);
    let [sender, receiver] = GRO_ON_UNDERLAY.map(|step| change(&step));
    let short = Change::new(HOST, &[SHORT], &[LONG]);
    ground.with(&[sender, receiver, change(&GATHER)], || {
        let before = ground.with(&[short], || Ok([send(ground, QUIET_RATE)?, send(ground, BUSY_RATE)?]))?;
        let Ok([quiet, busy]) = before else { anyhow::bail!("the queue cannot be made short") };
        Ok([quiet, busy, send(ground, BUSY_RATE)?])
    })
}

fn send(ground: &Ground, rate: f64) -> Result<Part> {
    let duration = Duration::from_millis(3200);
    let timeout = Duration::from_secs(3);
    let spec =
        Spec { rate, duration, timeout, connections: CONNECTIONS, ..Spec::new(Kind::Rr, Protocol::Tcp) };
    let mut reports = drive(ground.running, &[spec], ground.stop)?;
    let window = window(0, &reports)?;
    std::thread::sleep(REST);
    ensure!(reports.len() == 1, "no traffic was sent");
    Ok(Part { window, report: reports.remove(0) })
}

/// The tail is there over the critical load alone, is explained down to the drop, and what is advised ends it.
pub fn check(parts: &Parts, recording: &Recording, ground: &Ground, folder: &Path) -> Outcome {
    let windows: Vec<Window> = parts.iter().map(|part| part.window.clone()).collect();
    let files = cut::cut(recording, &windows, (folder, "article"))?;
    let [quiet, busy, mended] = [0, 1, 2].map(|at: usize| -> Result<Tail> {
        Tail::of(&Recording::open(&files[at])?, Of::Requests, Above::Quantile(0.99), 0)
    });
    let (quiet, busy, mended) = (quiet?, busy?, mended?);
    let [slow_quiet, slow_busy, slow_mended] = [0, 1, 2].map(|at: usize| p9999(&parts[at].report));
    let told = format!(
        "p99.99 {:.1} ms at {QUIET_RATE}/s, {:.1} ms at {BUSY_RATE}/s, {:.1} ms with the change",
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
    let found = first.filter(|finding| CAUSE.is(finding, ground.running));
    let Some(found) = found else {
        let words = first.map_or("nothing".into(), super::injection::describe);
        anyhow::bail!("{told}; named was {words}");
    };
    ensure!(found.again.timeouts > 0, "no timeout was joined to the drops: {:?}", found.again);
    let advised = found.rule.advice.iter().any(|advice| advice.what.contains("netdev_max_backlog"));
    ensure!(advised, "what ends it was not advised");
    for (tail, name) in [(&quiet, "the quiet load"), (&mended, "the mended lab")] {
        let words: Vec<String> = tail.findings.iter().map(super::injection::describe).collect();
        let has_timeouts = tail.tcp.count(|again| again.is_timeout()) > 0;
        ensure!(!has_timeouts, "timeouts with {name}: {}", words.join("; "));
    }
    Ok(Verdict::With(format!("{told}; {} timeouts explained", found.again.timeouts)))
}

fn p9999(report: &TrafficReport) -> u64 {
    report.latency.as_ref().map_or(0, |latency| latency.p9999)
}
