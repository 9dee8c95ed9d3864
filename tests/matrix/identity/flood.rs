//! The bridge floods a broadcast, and multicast goes to several readers: each copy is a child of the packet.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use anyhow::{Result, ensure};
use overlay_trace_lab::dataplanes::Running;
use overlay_trace_lab::traffic::{Stop, TrafficReport};

use super::packets::{Packet, Packets, count};
use super::sockets::{PORT, reading, send, socket};
use crate::results::{Outcome, Verdict};
use crate::scene::{Check, Lack, check};
use crate::seen::Seen;

pub const CHECKS: &[Check] = &[check("broadcasts", broadcasts), check("multicasts", multicasts)];

const BROADCAST: Ipv4Addr = Ipv4Addr::new(10, 244, 1, 255);
const GROUP: Ipv4Addr = Ipv4Addr::new(239, 7, 7, 7);
const TIMES: u32 = 100;
/// The ports that a broadcast of pod1 leaves by.
const PORTS: &[&str] = &["veth-pod1b", "flood1", "flood2"];

/// Two more ports, with nobody behind them.
pub fn prepare(running: &Running) -> Result<Vec<Lack>> {
    let ports = [
        ("node1", "ip link add flood1 type veth peer name flood1-peer"),
        ("node1", "ip link add flood2 type veth peer name flood2-peer"),
        ("node1", "ip link set flood1 master cni0 up"),
        ("node1", "ip link set flood2 master cni0 up"),
        ("node1", "ip link set flood1-peer up"),
        ("node1", "ip link set flood2-peer up"),
    ];
    super::set_up(running, &ports)?;
    Ok(Vec::new())
}

/// Broadcasts and multicasts of pod1; the latter are also for itself.
pub fn drive(running: &Running, _: &Stop) -> Result<Vec<TrafficReport>> {
    let (own, other) = (socket(running, "pod1", PORT)?, socket(running, "pod1b", PORT)?);
    for (reader, address) in [(&own, [10, 244, 1, 2]), (&other, [10, 244, 1, 3])] {
        reader.join_multicast_v4(&GROUP, &Ipv4Addr::from(address))?;
    }
    let sender = socket(running, "pod1", 0)?;
    sender.set_broadcast(true)?;
    reading(&[&own, &other], || {
        send(&sender, 200, (BROADCAST, PORT), TIMES)?;
        send(&sender, 300, (GROUP, PORT), TIMES)
    })?;
    Ok(Vec::new())
}

fn to<'a>(packets: &'a Packets<'_>, address: Ipv4Addr) -> Result<Vec<&'a Packet>> {
    let is_to = |packet: &&Packet| packet.is_udp() && packet.header.flow.destination[..4] == address.octets();
    let sent: Vec<&Packet> = packets.sent().filter(is_to).collect();
    ensure!(sent.len() == TIMES as usize, "{} packets were sent to {address} instead of {TIMES}", sent.len());
    Ok(sent)
}

fn read_in(packets: &Packets<'_>, family: &[&Packet], namespace: &str) -> u64 {
    let is_here = |packet: &Packet| packets.namespaces(packet).last() == Some(&namespace);
    count(family.iter().copied(), |packet| is_here(packet) && packets.is_delivered(packet))
}

/// One copy for each port, and the original goes up to the node itself.
fn broadcasts(seen: &Seen, _: &[Seen]) -> Outcome {
    let packets = Packets::of(seen)?;
    for packet in to(&packets, BROADCAST)? {
        let name = packet.name();
        let family = packets.family(packet);
        let ports: Vec<&str> = family.iter().skip(1).filter_map(|copy| port_of(&packets, copy)).collect();
        let distinct: BTreeSet<&str> = ports.iter().copied().collect();
        ensure!(
            ports.len() == PORTS.len() && distinct == PORTS.iter().copied().collect(),
            "{name} left by {ports:?}"
        );
        ensure!(port_of(&packets, packet).is_none(), "{name} itself left by a port");
        ensure!(packets.passed(packet, "ip-rcv"), "{name} did not come up to the node");
        ensure!(read_in(&packets, &family, "pod1b") == 1, "{name} was not read once in pod1b");
    }
    Ok(Verdict::Passed)
}

/// The port of the bridge that a packet left by.
fn port_of<'a>(packets: &'a Packets<'_>, packet: &Packet) -> Option<&'a str> {
    packet.way.iter().filter(|segment| packets.stage(segment) == "veth-xmit").find_map(|segment| {
        let hop = packets.seen.recording.hops.get(&segment.hop)?;
        PORTS.contains(&hop.device.as_str()).then_some(hop.device.as_str())
    })
}

fn multicasts(seen: &Seen, _: &[Seen]) -> Outcome {
    let packets = Packets::of(seen)?;
    for packet in to(&packets, GROUP)? {
        let family = packets.family(packet);
        for namespace in ["pod1", "pod1b"] {
            let read = read_in(&packets, &family, namespace);
            ensure!(read == 1, "{} was read {read} times in {namespace}", packet.name());
        }
    }
    Ok(Verdict::Passed)
}
