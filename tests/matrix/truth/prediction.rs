//! What a recording says of a network without one of its parts, and what that network takes indeed: with the
//! probes' cost taken off, and when nobody watches. Of the latter not only the time, but also the gain, which is
//! much less, must be as predicted.

use anyhow::{Context, Result, ensure};
use overlay_trace_analysis::what_if::{Change as Without, WhatIf};
use overlay_trace_common::{flags::RecordFlags, record::RecordHeader};

use super::compare::Recorded;
use super::fixture::{Change, Fixture, Window};
use super::flow::{Flow, TRUTH_PORT};
use super::{Cause, Injected};
use crate::results::{Outcome, Verdict};

/// How far what is predicted may be off what is measured.
const TOLERANCE: f64 = 0.15;
/// How far what is predicted to be gained may be off, which is a tenth to a third of the whole. Where modules can be
/// probed by kprobes only, a probe's cost is less even from call to call.
const OF_GAIN: f64 = 0.25;

/// The last one moves the pods' devices: what their neighbours were known by is to be learned anew then.
pub const CAUSES: &[Cause] = &[
    Cause {
        name: "what-if/host-gw",
        inject: |fixture| windows(fixture, &host_gw()),
        untraced: Some(|fixture| windows(fixture, &host_gw())),
        check: |recorded, windows| is_as_predicted(recorded, windows, "host-gw"),
    },
    Cause {
        name: "what-if/conntrack",
        inject: |fixture| windows(fixture, &untracked()),
        untraced: Some(|fixture| windows(fixture, &untracked())),
        check: |recorded, windows| is_as_predicted(recorded, windows, "conntrack"),
    },
    Cause {
        name: "what-if/bridge",
        inject: |fixture| windows(fixture, &routed()),
        untraced: Some(|fixture| windows(fixture, &routed())),
        check: |recorded, windows| is_as_predicted(recorded, windows, "bridge"),
    },
];

/// As flannel's host-gw routes: the other node is the gateway.
fn host_gw() -> Vec<Change> {
    let node = |name, other: u8| {
        let route = format!("ip route replace 10.244.{other}.0/24 via");
        Change::new(
            name,
            &[&format!("{route} 192.0.2.{other} dev eth0")],
            &[&format!("{route} 10.244.{other}.0 dev flannel.1 onlink")],
        )
    };
    vec![node("node1", 2), node("node2", 1)]
}

/// Nothing is tracked on either node.
fn untracked() -> Vec<Change> {
    let rules = |verb| {
        ["PREROUTING", "OUTPUT"]
            .map(|chain| format!("iptables-legacy -t raw -{verb} {chain} -j CT --notrack"))
    };
    let (make, undo) = (rules("A"), rules("D"));
    ["node1", "node2"]
        .map(|node| {
            let lines = |rules: &[String; 2]| rules.to_vec();
            Change { on: node, make: lines(&make), undo: lines(&undo) }
        })
        .into()
}

/// The pods' devices have the nodes' addresses themselves; a pod then knows its node by another address.
fn routed() -> Vec<Change> {
    let node = |name, number: u8| {
        let (device, address) = (format!("veth-pod{number}"), format!("10.244.{number}.1/24 dev"));
        Change::new(
            name,
            &[
                &format!("ip link set dev {device} nomaster"),
                &format!("ip link set dev {device} address {}", hardware_address(number)),
                &format!("ip addr del {address} cni0"),
                &format!("ip addr add {address} {device}"),
            ],
            &[
                &format!("ip addr del {address} {device}"),
                &format!("ip addr add {address} cni0"),
                &format!("ip link set dev {device} master cni0"),
            ],
        )
    };
    let pod = |name, number: u8| {
        let gateway = format!("10.244.{number}.1 dev eth0");
        let known = format!("ip neigh replace {gateway} lladdr {} nud permanent", hardware_address(number));
        Change::new(name, &[&known], &[&format!("ip neigh del {gateway}")])
    };
    vec![node("node1", 1), node("node2", 2), pod("pod1", 1), pod("pod2", 2)]
}

fn hardware_address(number: u8) -> String {
    format!("0a:00:00:00:77:0{number}")
}

/// As it is, and changed.
fn windows(fixture: &Fixture, changes: &[Change]) -> Result<Injected> {
    let before = fixture.send(&Flow::PLAIN, 0.0)?;
    Ok(fixture.with(changes, || fixture.send(&Flow::PLAIN, 0.0))?.map(|after| vec![before, after]))
}

fn median(times: &[u64]) -> f64 {
    let mut times = times.to_vec();
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or(0) as f64
}

/// What the recording says of a window's datagrams.
fn of_window(recorded: &Recorded, window: &Window, changes: &[Without]) -> Result<WhatIf> {
    let wanted = |header: &RecordHeader| {
        header.flow.protocol == 17
            && header.flow.destination_port == TRUTH_PORT
            && !header.flags.has(RecordFlags::CHILD)
            && (window.begin_ns..window.end_ns).contains(&header.start_ns)
    };
    let what_if = WhatIf::of(&recorded.seen.recording, changes, &wanted)?;
    let (seen, sent) = (what_if.now.count(), window.times_ns.len() as u64);
    ensure!(seen == sent, "{sent} datagrams were sent, {seen} were recorded");
    Ok(what_if)
}

fn is_as_predicted(recorded: &Recorded, windows: &[Window], without: &str) -> Outcome {
    let [before, after, untraced_before, untraced_after] = windows else {
        anyhow::bail!("there are {} windows", windows.len())
    };
    let p50 = |dist: &overlay_trace_analysis::breakdown::Dist| dist.quantile(0.5) as f64;
    let what_if = of_window(recorded, before, &[without.parse()?])?;
    let prediction = what_if.predictions.first().context("nothing was there to be taken out")?;
    let gain = prediction.gain(&what_if.now, p50);
    let (now, then) = (p50(&what_if.now), p50(&prediction.then));
    let measured = p50(&of_window(recorded, after, &[])?.now);
    let [was, is] = [untraced_before, untraced_after].map(|window| median(&window.times_ns));
    let figures = format!(
        "{now:.0} ns: {then:.0} predicted, {measured:.0} measured, so {:.0} less ({:.0} to {:.0}) and {:.0}; untraced {was:.0} and {is:.0}, so {:.0} less",
        gain.estimate,
        gain.least,
        gain.most,
        now - measured,
        was - is
    );
    let is_close = |predicted: f64, measured: f64, bound: f64| (predicted / measured - 1.0).abs() <= bound;
    ensure!(is_close(then, measured, TOLERANCE), "{figures}");
    ensure!(is_close(was - gain.estimate, is, TOLERANCE), "{figures}");
    ensure!(is_close(gain.estimate, was - is, OF_GAIN), "{figures}");
    ensure!((gain.least..=gain.most).contains(&(was - is)), "{figures}");
    Ok(Verdict::With(figures))
}
