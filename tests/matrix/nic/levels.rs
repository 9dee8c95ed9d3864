//! Levels and innermost flows of packets at NICs.

use std::collections::BTreeMap;

use anyhow::ensure;
use overlay_trace_analysis::breakdown::By;

use super::at_nic::{NODES, is_nic, place};
use crate::identity::packets::{Packet, Packets};
use crate::invariants::OTHER;
use crate::results::{Outcome, Verdict};
use crate::seen::Seen;

/// UDP ports of the labs' tunnels, and the IP protocols of the others: IPIP, IPv6 in IP, GRE.
const TUNNEL_PORTS: [u16; 3] = [4789, 6081, 8472];
const TUNNEL_PROTOCOLS: [u8; 3] = [4, 41, 47];

/// The number of headers around a pod's packet on the wire.
fn on_the_wire(lab: &str) -> u8 {
    u8::from(!matches!(lab, "host" | "flannel-host-gw"))
}

/// Each packet of the traffic has the lab's level at the NICs, and none in the pods.
pub fn levels(seen: &Seen, _: &[Seen]) -> Outcome {
    let packets = Packets::of(seen)?;
    let expected = on_the_wire(seen.lab);
    let (mut right, mut wrong) = (0u64, BTreeMap::<String, u64>::new());
    for packet in packets.all.iter().filter(|packet| is_traffic(packet)) {
        for span in &packet.way {
            let Some((netns, device)) = place(&packets, span) else { continue };
            let level = match NODES.contains(&netns) {
                true if is_nic((netns, device)) => expected,
                // On a node's other devices the packet is packed and unpacked.
                true => continue,
                false => 0,
            };
            if span.level == level {
                right += 1;
            } else {
                let stage = packets.stage(span);
                *wrong.entry(format!("{netns}:{device} {stage} {}", span.level)).or_default() += 1;
            }
        }
    }
    ensure!(right > 0, "no packet of the traffic was at a NIC");
    ensure!(wrong.is_empty(), "{right} spans are at the right level; wrong: {wrong:?}");
    Ok(Verdict::With(format!("{right} spans at level {expected} on the wire")))
}

fn is_traffic(packet: &Packet) -> bool {
    packet.is_udp() || packet.is_tcp()
}

/// Every packet has a flow, and none has that of a tunnel's header.
pub fn inner_flows(seen: &Seen, _: &[Seen]) -> Outcome {
    let packets = Packets::of(seen)?;
    let is_outer = |packet: &&Packet| {
        let flow = packet.header.flow;
        packet.is_udp() && TUNNEL_PORTS.contains(&flow.destination_port)
            || TUNNEL_PROTOCOLS.contains(&flow.protocol)
    };
    let outer: Vec<&Packet> = packets.all.iter().filter(is_outer).collect();
    let unknown = packets.all.iter().filter(|packet| packet.header.flow.version == 0).count();
    let example = outer.first().map(|packet| packet.name()).unwrap_or_default();
    ensure!(
        outer.is_empty() && unknown == 0,
        "of {} packets {unknown} have no flow, and {} have the outer header's: {example}",
        packets.all.len(),
        outer.len()
    );
    Ok(Verdict::With(format!("{} packets", packets.all.len())))
}

/// Nearly all time is claimed.
pub fn other_share(seen: &Seen, _: &[Seen]) -> Outcome {
    let share = seen.analysis_of(By::Layer, |record| seen.is_own(record))?.other_share();
    ensure!(share <= OTHER, "no stage claims {:.1} % of the time", share * 100.0);
    Ok(Verdict::With(format!("{:.2} %", share * 100.0)))
}
