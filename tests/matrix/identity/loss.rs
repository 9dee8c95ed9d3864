//! TCP sends a segment again: a clone of the same original, and a packet of its own.

use std::collections::HashSet;

use anyhow::{Result, ensure};
use overlay_trace_common::record::Outcome as End;
use overlay_trace_lab::dataplanes::{Running, drive as run};
use overlay_trace_lab::traffic::{Kind, Protocol, Stop, TrafficReport};

use super::counts::total;
use super::packets::Packets;
use crate::networks::moderate;
use crate::results::{Outcome, Verdict};
use crate::scene::{Check, check};
use crate::seen::Seen;

pub const CHECKS: &[Check] = &[check("sent-again", sent_again), check("lost", lost)];

const LOSSY: &[(&str, &str)] = &[
    ("node1", "tc qdisc replace dev eth0 root netem loss 5%"),
    ("node2", "tc qdisc replace dev eth0 root netem loss 5%"),
];
pub const PLAIN: &[(&str, &str)] =
    &[("node1", "tc qdisc del dev eth0 root"), ("node2", "tc qdisc del dev eth0 root")];

/// Bytes of the longest TCP segment without data.
const LONGEST_EMPTY: u32 = 80;

/// Requests over UDP and TCP, of which some are lost between the nodes.
pub fn drive(running: &Running, stop: &Stop) -> Result<Vec<TrafficReport>> {
    let plan = [Protocol::Udp, Protocol::Tcp].map(|protocol| moderate(Kind::Rr, protocol));
    super::with(running, LOSSY, PLAIN, || run(running, &plan, stop))
}

/// What was sent again is recorded again: the same sequence number in another packet.
fn sent_again(seen: &Seen, _: &[Seen]) -> Outcome {
    let packets = Packets::of(seen)?;
    let mut known = HashSet::new();
    let again = packets
        .sent()
        .filter(|packet| packet.is_tcp() && packet.header.bytes > LONGEST_EMPTY)
        .filter(|packet| {
            let flow = packet.header.flow;
            !known.insert((flow.source, flow.source_port, flow.destination_port, flow.sequence))
        })
        .count() as u64;
    let counted = total(seen, "Tcp/RetransSegs");
    ensure!(counted > 0, "TCP sent nothing again");
    ensure!(again > 0 && again <= counted, "{again} segments of {counted} that were sent again have records");
    Ok(Verdict::With(format!("{again} of {counted} with data")))
}

/// Each datagram was read or dropped.
fn lost(seen: &Seen, _: &[Seen]) -> Outcome {
    let packets = Packets::of(seen)?;
    let (mut read, mut dropped) = (0u64, 0u64);
    for packet in packets.sent().filter(|packet| packet.is_udp()) {
        match packet.end() {
            Some(End::Dropped) => dropped += 1,
            _ if packets.is_delivered(packet) => read += 1,
            _ => anyhow::bail!("{} was neither read nor dropped", packet.name()),
        }
    }
    let missing = total(seen, "Udp/OutDatagrams") - total(seen, "Udp/InDatagrams");
    ensure!(dropped > 0 && dropped == missing, "{missing} datagrams did not arrive, {dropped} were dropped");
    Ok(Verdict::With(format!("{read} read, {dropped} dropped")))
}
