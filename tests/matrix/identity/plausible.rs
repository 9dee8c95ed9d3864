//! What must be true of every packet, whatever happened to it: nothing of another packet is in its record.

use std::net::IpAddr;

use anyhow::{Context, Result, ensure};
use overlay_trace_common::record::Outcome as End;
use overlay_trace_lab::dataplanes;

use super::packets::{Packet, Packets};
use crate::results::{Outcome, Verdict};
use crate::scene::{Check, check};
use crate::seen::Seen;

pub const PLAUSIBLE: &[Check] = &[
    check("beginnings", beginnings),
    check("families", families),
    check("paths", paths),
    check("ends", ends),
];

/// The stages in which a packet is made; what a light set sees first is its first device.
const BIRTHS: &[&str] = &["socket-send", "tcp-send", "udp-send", "ip-send", "ip-local-out", "ip-output"];

/// Each path begins where packets are made, and its times add up.
fn beginnings(seen: &Seen, _: &[Seen]) -> Outcome {
    let packets = Packets::of(seen)?;
    for packet in &packets.all {
        let name = packet.name();
        let first = packet.way.iter().find(|segment| segment.ns > 0).or(packet.way.first());
        let first = packets.stage(first.with_context(|| format!("{name} has no way"))?);
        ensure!(!packet.is_of_unknown_start(), "{name} begins at an unknown place, in {first}");
        ensure!(packet.is_child() || BIRTHS.contains(&first), "{name} begins in {first}");
        let sum: u64 = packet.way.iter().map(|segment| segment.ns).sum();
        ensure!(sum == packet.header.end_ns - packet.header.start_ns, "{name} does not add up");
    }
    Ok(Verdict::With(format!("{} packets", packets.all.len())))
}

/// Each child has a parent that was there before, is of the same flow, and was in the namespace in which the
/// child begins.
fn families(seen: &Seen, _: &[Seen]) -> Outcome {
    let packets = Packets::of(seen)?;
    let mut children = 0;
    for packet in packets.all.iter().filter(|packet| packet.is_child()) {
        let name = packet.name();
        let parent = packets
            .get(packet.header.parent)
            .with_context(|| format!("{name} has no parent {:#x}", packet.header.parent))?;
        ensure!(parent.header.start_ns <= packet.header.start_ns, "{name} is older than its parent");
        ensure!(flow(packet) == flow(parent), "{name} is not of the flow of its parent, {}", parent.name());
        if let Some(origin) = packets.origin(packet) {
            let there = packets.namespaces(parent).contains(&origin);
            ensure!(there, "{name} begins in {origin}, where its parent never was");
        }
        children += 1;
    }
    for packet in packets.all.iter().filter(|packet| packet.end() == Some(End::Split)) {
        let cut = packets.children(packet).next().is_some();
        ensure!(cut, "{} was split, but nothing was made of it", packet.name());
    }
    Ok(Verdict::With(format!("{children} children")))
}

fn flow(packet: &Packet) -> (u8, [u8; 16], [u8; 16], u16, u16) {
    let flow = packet.header.flow;
    (flow.protocol, flow.source, flow.destination, flow.source_port, flow.destination_port)
}

/// Each packet takes one path through the lab: from neighbour to neighbour, and nowhere twice; it begins where
/// its source is.
fn paths(seen: &Seen, _: &[Seen]) -> Outcome {
    let packets = Packets::of(seen)?;
    let lab = dataplanes::find(seen.lab).context("the lab is missing")?;
    for packet in &packets.all {
        let way = packets.namespaces(packet);
        let words = way.join(", ");
        for (at, namespace) in way.iter().enumerate() {
            ensure!(!way[..at].contains(namespace), "{} went through {words}", packet.name());
        }
        for pair in way.windows(2) {
            ensure!(are_neighbours(pair[0], pair[1]), "{} went through {words}", packet.name());
        }
        for place in [&lab.client, &lab.server] {
            if !packet.is_child() && is_from(packet, place)? {
                let begins = way.first().is_none_or(|first| *first == place.namespace);
                ensure!(begins, "{} began in {words}, not in {}", packet.name(), place.namespace);
            }
        }
    }
    Ok(Verdict::Passed)
}

fn is_from(packet: &Packet, place: &dataplanes::EndpointSpec) -> Result<bool> {
    let source = packet.header.flow.source;
    Ok(match (packet.header.flow.version, place.v4.parse::<IpAddr>()?) {
        (4, IpAddr::V4(address)) => source[..4] == address.octets(),
        _ => false,
    })
}

/// A pod is joined to its node, and nodes to each other.
fn are_neighbours(one: &str, other: &str) -> bool {
    let number = |name: &str| name.chars().find(char::is_ascii_digit);
    match (one.starts_with("node"), other.starts_with("node")) {
        (true, true) => true,
        (false, false) => false,
        _ => number(one) == number(other),
    }
}

/// What was delivered ended in the socket or the transport, and no packet is freed in the middle of its path
/// without having been dropped, merged or split.
fn ends(seen: &Seen, _: &[Seen]) -> Outcome {
    const MIDDLE: &[&str] =
        &["ip", "route", "conntrack", "nat", "iptables", "nftables", "bridge", "fragment", "gro"];
    let packets = Packets::of(seen)?;
    for packet in &packets.all {
        let last = packets.last_layer(packet);
        match packet.end() {
            Some(End::Delivered) => {
                ensure!(!MIDDLE.contains(&last), "{} was delivered in {last}", packet.name());
            }
            Some(End::Freed) => ensure!(!MIDDLE.contains(&last), "{} was freed in {last}", packet.name()),
            Some(_) => {}
            None => anyhow::bail!("{} ended in an unknown way", packet.name()),
        }
    }
    Ok(Verdict::Passed)
}
