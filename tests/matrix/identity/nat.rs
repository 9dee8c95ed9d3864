//! Address translation: the packet remains the packet, known by the addresses that it was sent with.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Result, ensure};
use overlay_trace_lab::dataplanes::{Running, drive as run};
use overlay_trace_lab::traffic::{self, Kind, PORT, Protocol, Server, Stop, TrafficReport};

use super::packets::Packets;
use crate::networks::moderate;
use crate::results::{Outcome, Verdict};
use crate::scene::{Check, check};
use crate::seen::Seen;

pub const CHECKS: &[Check] = &[check("flows", flows)];

const POD1: Ipv4Addr = Ipv4Addr::new(10, 244, 1, 2);
const POD2: Ipv4Addr = Ipv4Addr::new(10, 244, 2, 2);
const NODE1: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const NODE2: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
const SERVICE: Ipv4Addr = Ipv4Addr::new(10, 96, 77, 77);

/// Requests of pod1 to a service address, behind which is pod2, and to node2, for which node1 puts its own
/// address in place of the pod's.
pub fn drive(running: &Running, stop: &Stop) -> Result<Vec<TrafficReport>> {
    let plan = [Protocol::Udp, Protocol::Tcp].map(|protocol| moderate(Kind::Rr, protocol));
    let mut reports = run(running, &plan, stop)?;
    let node2 = SocketAddr::from((NODE2, PORT));
    let _server: Server = running.netns("node2")?.run(|| Server::start(node2))??;
    for spec in &plan {
        reports.push(running.netns("pod1")?.run(|| traffic::run(spec, node2, stop))??);
    }
    super::settle();
    Ok(reports)
}

/// Each packet has the addresses that its sender gave it, and was delivered where translation leads.
fn flows(seen: &Seen, _: &[Seen]) -> Outcome {
    let packets = Packets::of(seen)?;
    // From where, to where, and the namespaces on the path.
    let ways = [
        (POD1, SERVICE, &["pod1", "node1", "node2", "pod2"][..]),
        (POD2, POD1, &["pod2", "node2", "node1", "pod1"]),
        (POD1, NODE2, &["pod1", "node1", "node2"]),
        (NODE2, NODE1, &["node2", "node1", "pod1"]),
    ];
    let mut counts = [0u64; 4];
    for packet in packets.all.iter().filter(|packet| packet.is_udp() || packet.is_tcp()) {
        let ends = (address(packet.header.flow.source), address(packet.header.flow.destination));
        let Some(at) = ways.iter().position(|(from, to, _)| (*from, *to) == ends) else {
            anyhow::bail!("{} has addresses that nobody sent to", packet.name());
        };
        let way = packets.namespaces(packet);
        ensure!(way == ways[at].2, "{} went through {}", packet.name(), way.join(", "));
        ensure!(packets.has_arrived(packet), "{} did not arrive", packet.name());
        counts[at] += 1;
    }
    ensure!(counts.iter().all(|count| *count > 100), "of the four flows there are {counts:?} packets");
    Ok(Verdict::With(format!("{counts:?}")))
}

fn address(bytes: [u8; 16]) -> Ipv4Addr {
    Ipv4Addr::new(bytes[0], bytes[1], bytes[2], bytes[3])
}
