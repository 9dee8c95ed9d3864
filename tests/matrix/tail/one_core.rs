//! Many flows that one core has to work for, while another one is idle: that is named, and no longer when they are
//! spread. It needs two processors, so it cannot be among the injections, whose clock counts instructions.

use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::thread;

use anyhow::{Context, Result, anyhow, ensure};
use nix::sys::socket::{setsockopt, sockopt::UdpGsoSegment};
use overlay_trace_analysis::tail::{Of, Tail, Threshold};
use overlay_trace_format::Recording;
use overlay_trace_lab::dataplanes::Running;
use overlay_trace_lab::traffic::{PORT, Stop};

use super::causes::expected;
use super::cut::cut;
use super::datagrams::at_rate;
use super::injection::{REST, describe};
use crate::capture;
use crate::cpus::{lack, stay_on, steer};
use crate::results::{Results, Verdict};
use crate::since::{self, VETH_WHOLE_UDP};
use crate::truth::fixture::{Change, Fixture, Window};
use crate::truth::flow::now_ns;

const NAMED: &str = "one-core/named";
const SPREAD: &str = "one-core/spread";

/// The programs are on this CPU, and what comes in by node2's NIC is worked off on the other one.
const OF_PROGRAMS: u16 = 0;
const OF_FLOWS: u16 = 1;
const BOTH: u32 = 1 << OF_PROGRAMS | 1 << OF_FLOWS;
/// Packets per second of one flow, most of which meet nobody.
const ALONE: f64 = 100.0;
/// After so many of them, two of so many other flows hand so many to the kernel at once, of so many bytes.
const EVERY: u64 = 96;
const FLOWS: usize = 12;
const TRAIN: usize = 40;
const BYTES: u16 = 200;
/// All that is sent so often, one after the other.
const TIMES: u32 = 3;
/// Nobody reads it: how soon a program does is another matter.
const NOBODY: u16 = PORT + 9;
/// From which percentile on packets are slow.
const ABOVE: f64 = 0.75;

/// Records the flows on one core, and spread over two.
pub fn run((folder, stop): (&Path, &Stop), results: &mut Results) {
    if ![NAMED, SPREAD].iter().any(|test| results.wants(test)) {
        return;
    }
    if let Some(lack) = lack().or_else(|| since::lack(VETH_WHOLE_UDP)) {
        results.add(NAMED, Ok(Verdict::Skipped(lack.clone())));
        results.add(SPREAD, Ok(Verdict::Skipped(lack)));
        return;
    }
    if let Err(error) = record(folder, stop, results) {
        results.add(NAMED, Err(error));
    }
}

fn record(folder: &Path, stop: &Stop, results: &mut Results) -> Result<()> {
    let running = capture::stand("flannel-vxlan", stop)?;
    let fixture = Fixture::new(&running, folder, stop);
    fixture.settle()?;
    let path = folder.join("one-core.otr");
    let session = capture::begin(&running, &path)?;
    let node2 = running.netns("node2")?.name().to_owned();
    let sent = [1 << OF_FLOWS, BOTH].map(|cpus| {
        steer(&node2, "eth0", cpus)?;
        let traffic = || stay_on(OF_PROGRAMS).and_then(|()| traffic(&fixture));
        thread::scope(|scope| scope.spawn(traffic).join()).map_err(|_| anyhow!("the traffic failed"))?
    });
    session.stop().context("the recording could not be finished")?;
    let [on_one, spread] = sent;
    let recording = Recording::open(&path)?;
    let files = cut(&recording, &[on_one?, spread?], (folder, "one-core"))?;
    let tail =
        |at: usize| Tail::of(&Recording::open(&files[at])?, Of::Packets, Threshold::Quantile(ABOVE), 0);
    results.add(NAMED, tail(0).and_then(|tail| is_named(&tail, &running)));
    results.add(SPREAD, tail(1).and_then(|tail| is_not_named(&tail)));
    running.down()
}

/// Trains of many flows, which node1's NIC cuts, and a single flow.
fn traffic(fixture: &Fixture) -> Result<Window> {
    let cut = Change::new(
        "node1",
        &["ethtool -K eth0 tx-udp-segmentation off"],
        &["ethtool -K eth0 tx-udp-segmentation on"],
    );
    let to = SocketAddr::new(fixture.running.server()?.address, NOBODY);
    let open =
        || fixture.running.client()?.netns.run(|| UdpSocket::bind("0.0.0.0:0"))?.context("cannot bind");
    let alone = open()?;
    let mut flows = Vec::new();
    for _ in 0..FLOWS {
        let flow = open()?;
        setsockopt(&flow, UdpGsoSegment, &BYTES.into())?;
        flows.push(flow);
    }
    let train = vec![7; TRAIN * usize::from(BYTES)];
    let mut turns = flows.iter().cycle();
    let begin_ns = now_ns()?;
    let sent = fixture.with(&[cut], || {
        (0..TIMES).try_for_each(|_| {
            at_rate(fixture, ALONE, |number| {
                alone.send_to(&train[..usize::from(BYTES)], to)?;
                if number % EVERY == EVERY - 1 {
                    for flow in turns.by_ref().take(2) {
                        flow.send_to(&train, to)?;
                    }
                }
                Ok(())
            })
        })
    })?;
    sent.map_err(|lack| anyhow!(lack))?;
    let end_ns = now_ns()?;
    thread::sleep(REST);
    Ok(Window { begin_ns, end_ns, size: 0.0, times_ns: Vec::new() })
}

fn found(tail: &Tail) -> String {
    let found: Vec<String> = tail.findings.iter().map(describe).collect();
    if found.is_empty() { "nothing".to_owned() } else { found.join("; ") }
}

/// It is named first, where the flows come in, with the CPU that they are on and their number.
fn is_named(tail: &Tail, running: &Running) -> Result<Verdict> {
    let (found, first) = (found(tail), tail.findings.first());
    let is_there = first.is_some_and(|first| expected("one-core", "node2", "eth0", 1).is(first, running));
    ensure!(is_there, "{found}");
    let core = first.and_then(|first| first.cpu).context("it has no CPU")?;
    ensure!(core.cpu == OF_FLOWS, "they are on CPU {}: {found}", core.cpu);
    // Where the machine stands still for a moment, the packets of a few flows are the slowest by far; and the flow
    // together with them may be slow as well.
    let is_right = (4..=FLOWS as u64 + 1).contains(&core.flows);
    ensure!(is_right, "{} flows: {found}", core.flows);
    Ok(Verdict::With(format!("{} flows on CPU {}: {found}", core.flows, core.cpu)))
}

fn is_not_named(tail: &Tail) -> Result<Verdict> {
    let found = found(tail);
    ensure!(tail.findings.iter().all(|finding| finding.rule.id != "one-core"), "{found}");
    Ok(Verdict::With(found))
}
