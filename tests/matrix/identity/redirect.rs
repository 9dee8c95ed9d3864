//! tc sends packets elsewhere: a redirected packet goes on as the packet, a mirrored one has a child.

use std::net::Ipv4Addr;

use anyhow::{Result, ensure};
use overlay_trace_common::record::Outcome as End;
use overlay_trace_lab::dataplanes::Running;
use overlay_trace_lab::traffic::{Stop, TrafficReport};

use super::packets::{Packet, Packets};
use super::sockets::{PORT, reading, send, socket};
use crate::results::{Outcome, Verdict};
use crate::scene::{Check, check};
use crate::seen::Seen;

pub const REDIRECTED: &[Check] = &[check("redirected", redirected)];
pub const MIRRORED: &[Check] = &[check("mirrored", mirrored)];

const POD1: Ipv4Addr = Ipv4Addr::new(10, 244, 1, 2);
const POD1B: Ipv4Addr = Ipv4Addr::new(10, 244, 1, 3);
const TIMES: u32 = 100;

/// What pod1 sends through eth0 leaves through a second device instead; what pod1b sends is handed from its
/// port straight to that of pod1.
pub fn redirect(running: &Running, _: &Stop) -> Result<Vec<TrafficReport>> {
    let up = [
        ("pod1", "ip link add eth9 type veth peer name veth-alt netns ot-same-host-node1"),
        ("node1", "ip link set veth-alt master cni0 up"),
        ("node1", "ip link set veth-alt type bridge_slave learning off"),
        ("pod1", "ip link set eth9 up"),
        ("pod1", "tc qdisc add dev eth0 clsact"),
        ("pod1", "tc filter add dev eth0 egress protocol ip matchall action mirred egress redirect dev eth9"),
        ("node1", "tc qdisc add dev veth-pod1b clsact"),
        (
            "node1",
            "tc filter add dev veth-pod1b ingress protocol ip matchall action mirred egress redirect dev veth-pod1",
        ),
    ];
    let down = [
        ("node1", "tc qdisc del dev veth-pod1b clsact"),
        ("pod1", "tc qdisc del dev eth0 clsact"),
        ("pod1", "ip link del eth9"),
    ];
    super::with(running, &up, &down, || back_and_forth(running))
}

/// What goes to pod1b goes also to a device that leads nowhere.
pub fn mirror(running: &Running, _: &Stop) -> Result<Vec<TrafficReport>> {
    let up = [
        ("node1", "ip link add mirror0 type dummy"),
        ("node1", "ip link set mirror0 up"),
        ("node1", "tc qdisc add dev veth-pod1b clsact"),
        (
            "node1",
            "tc filter add dev veth-pod1b egress protocol ip matchall action mirred egress mirror dev mirror0",
        ),
    ];
    let down = [("node1", "tc qdisc del dev veth-pod1b clsact"), ("node1", "ip link del mirror0")];
    super::with(running, &up, &down, || back_and_forth(running))
}

fn back_and_forth(running: &Running) -> Result<Vec<TrafficReport>> {
    let (one, other) = (socket(running, "pod1", PORT)?, socket(running, "pod1b", PORT)?);
    reading(&[&one, &other], || {
        send(&one, 200, (POD1B, PORT), TIMES)?;
        send(&other, 300, (POD1, PORT), TIMES)
    })?;
    Ok(Vec::new())
}

fn sent_from<'a>(packets: &'a Packets<'_>, address: Ipv4Addr) -> Result<Vec<&'a Packet>> {
    let is_from = |packet: &&Packet| packet.is_udp() && packet.header.flow.source[..4] == address.octets();
    let sent: Vec<&Packet> = packets.sent().filter(is_from).collect();
    ensure!(
        sent.len() == TIMES as usize,
        "{} packets were sent from {address} instead of {TIMES}",
        sent.len()
    );
    Ok(sent)
}

fn redirected(seen: &Seen, _: &[Seen]) -> Outcome {
    let packets = Packets::of(seen)?;
    for packet in sent_from(&packets, POD1)? {
        let name = packet.name();
        let family = packets.family(packet);
        ensure!(family.len() <= 2, "{name} has {} children", family.len() - 1);
        // The kernel redirects a clone where it cannot be sure to own the packet.
        ensure!(family.len() == 1 || packet.end() == Some(End::Split), "{name} did not go on as its copy");
        let last = family[family.len() - 1];
        ensure!(packets.is_delivered(last) && at_device(&packets, last, "eth9"), "{name} was not redirected");
    }
    for packet in sent_from(&packets, POD1B)? {
        let name = packet.name();
        ensure!(packets.children(packet).next().is_none(), "{name} has children");
        ensure!(
            packets.is_delivered(packet) && at_device(&packets, packet, "veth-pod1"),
            "{name} was not redirected"
        );
        ensure!(!packets.passed(packet, "bridge-rx"), "{name} went over the bridge");
    }
    Ok(Verdict::Passed)
}

fn at_device(packets: &Packets<'_>, packet: &Packet, device: &str) -> bool {
    let hops = &packets.seen.recording.hops;
    packet.way.iter().any(|segment| hops.get(&segment.hop).is_some_and(|hop| hop.device == device))
}

fn mirrored(seen: &Seen, _: &[Seen]) -> Outcome {
    let packets = Packets::of(seen)?;
    for packet in sent_from(&packets, POD1)? {
        let name = packet.name();
        let copies: Vec<&Packet> = packets.children(packet).collect();
        ensure!(copies.len() == 1, "{name} has {} copies", copies.len());
        ensure!(at_device(&packets, copies[0], "mirror0"), "the copy of {name} did not go to mirror0");
        ensure!(!packets.is_delivered(copies[0]), "the copy of {name} was delivered");
        ensure!(packets.is_delivered(packet), "{name} was not delivered");
    }
    for packet in sent_from(&packets, POD1B)? {
        ensure!(packets.children(packet).next().is_none(), "{} has children", packet.name());
        ensure!(packets.is_delivered(packet), "{} was not delivered", packet.name());
    }
    Ok(Verdict::Passed)
}
