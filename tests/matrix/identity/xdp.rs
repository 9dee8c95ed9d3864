//! A veth with an XDP program copies each packet into another `sk_buff` before the program sees it.

use std::os::fd::OwnedFd;

use anyhow::{Context, Result, ensure};
use overlay_trace_lab::dataplanes::{Running, drive as run};
use overlay_trace_lab::traffic::{Kind, Protocol, Size, Spec, Stop, TrafficReport};

use super::packets::Packets;
use crate::networks::moderate;
use crate::raw_xdp;
use crate::results::{Outcome, Verdict};
use crate::scene::{Check, check};
use crate::seen::Seen;

pub const CHECKS: &[Check] = &[check("whole", whole)];

const DEVICES: &[(&str, &str)] =
    &[("node1", "veth-pod1"), ("node1", "eth0"), ("node2", "eth0"), ("pod1", "eth0"), ("pod2", "eth0")];

pub fn drive(running: &Running, stop: &Stop) -> Result<Vec<TrafficReport>> {
    let pass = raw_xdp::pass().context("cannot load a program for XDP")?;
    let attach = |(namespace, device): &(&str, &str)| -> Result<OwnedFd> {
        let link = running.netns(namespace)?.run(|| raw_xdp::attach(&pass, device))?;
        link.with_context(|| format!("cannot attach a program for XDP to {device} in {namespace}"))
    };
    let links: Vec<OwnedFd> = DEVICES.iter().map(attach).collect::<Result<_>>()?;
    let large = Size { request: 100, answer: 5000 };
    let plan = [
        moderate(Kind::Rr, Protocol::Udp),
        moderate(Kind::Rr, Protocol::Tcp),
        Spec { size: large, rate: 100.0, ..moderate(Kind::Rr, Protocol::Tcp) },
    ];
    let reports = run(running, &plan, stop);
    super::settle();
    drop(links);
    reports
}

/// Each packet that is not cut remains one packet from its sender to its receiver.
fn whole(seen: &Seen, _: &[Seen]) -> Outcome {
    let packets = Packets::of(seen)?;
    let mut delivered = 0u32;
    for packet in packets.sent().filter(|packet| packet.is_udp()) {
        let name = packet.name();
        ensure!(packets.is_delivered(packet), "{name} was not delivered");
        ensure!(packets.children(packet).next().is_none(), "{name} has children");
        ensure!(packets.namespaces(packet).len() == 4, "{name} did not go all the way");
        delivered += 1;
    }
    ensure!(delivered > 0, "no datagrams were sent");
    Ok(Verdict::With(format!("{delivered} datagrams")))
}
