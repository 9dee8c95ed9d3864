//! The packets of a recording at the nodes' NICs.

use overlay_trace_common::flags::RecordFlags;
use overlay_trace_common::path::Span;
use overlay_trace_common::record::Outcome as End;

use crate::identity::packets::{Packet, Packets};

/// The nodes.
pub const NODES: [&str; 2] = ["node1", "node2"];
/// The NICs of each: eth0, or where that is made of others, those; and where XDP takes its packets to another device,
/// that.
pub const NICS: [&str; 4] = ["eth0", "nic0", "nic1", "behind-xdp"];

/// Whether a place is a node's NIC.
pub fn is_nic(place: (&str, &str)) -> bool {
    NODES.contains(&place.0) && NICS.contains(&place.1)
}

/// Namespace and device of a span, the namespace by its short name.
pub fn place<'a>(packets: &'a Packets<'_>, span: &Span) -> Option<(&'a str, &'a str)> {
    let hop = packets.seen.recording.hops.get(&span.hop)?;
    Some((packets.seen.short(&hop.netns), hop.device.as_str()))
}

/// Whether the packet has come in at the node's NIC.
pub fn is_received(packets: &Packets<'_>, packet: &Packet, node: &str) -> bool {
    let first = packet.way.first().and_then(|span| place(packets, span));
    let is_here = first.is_some_and(|place| place.0 == node && is_nic(place));
    packet.header.flags.has(RecordFlags::FROM_DEVICE) && is_here
}

/// Whether the packet has left by the node's NIC, itself and not in parts.
pub fn is_sent(packets: &Packets<'_>, packet: &Packet, node: &str) -> bool {
    let last = packet.way.last().and_then(|span| place(packets, span));
    last.is_some_and(|place| place.0 == node && is_nic(place))
        && !is_received(packets, packet, node)
        && !matches!(packet.end(), Some(End::Split | End::Dropped))
}

/// Whether the packet was to leave the node and was dropped on its way, as by a full queue.
pub fn is_dropped_before(packets: &Packets<'_>, packet: &Packet, node: &str) -> bool {
    let last = packet.way.last().and_then(|span| place(packets, span));
    last.is_some_and(|place| place.0 == node)
        && !is_received(packets, packet, node)
        && packet.end() == Some(End::Dropped)
}
