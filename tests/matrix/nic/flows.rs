//! What was sent is what was recorded: TCP's bytes by sequence numbers, datagrams by number and size.

use std::collections::{BTreeMap, HashMap};

use anyhow::{Result, ensure};
use overlay_trace_common::path::Span;
use overlay_trace_lab::traffic::{Kind, Protocol};

use super::at_nic::{NODES, is_dropped_before, is_nic, is_received, is_sent, place};
use crate::identity::packets::{Packet, Packets};
use crate::results::{Outcome, Verdict};
use crate::seen::Seen;

/// TCP's header with time stamps, bytes: all its packets with data have it.
const TCP_HEADER: u64 = 32;
const TCP_FIN_SYN: u64 = 1;
/// Bytes of the largest packet before GSO cuts it.
const LARGEST_PACKET: u64 = 1 << 16;

fn ip_header(packet: &Packet) -> u64 {
    if packet.header.flow.version == 6 { 40 } else { 20 }
}

/// A packet is sent by one node, and a new one is received by the other: no record has been on both. None came in
/// twice, and a datagram is no larger than what was sent.
pub fn one_packet_each(seen: &Seen, _: &[Seen]) -> Outcome {
    let packets = Packets::of(seen)?;
    let sizes = datagram_sizes(seen);
    let mut chains = BTreeMap::<&str, (u64, String)>::new();
    let mut note = |what, packet: &Packet| {
        let (count, example) = chains.entry(what).or_default();
        *count += 1;
        if example.is_empty() {
            *example = packet.name();
        }
    };
    for packet in &packets.all {
        let nodes: Vec<&str> =
            packets.namespaces(packet).into_iter().filter(|one| NODES.contains(one)).collect();
        if nodes.len() > 1 {
            note("on more than one path", packet);
        }
        if entries(&packets, packet) > 1 {
            note("come in more than once", packet);
        }
        let payload = u64::from(packet.header.bytes).saturating_sub(ip_header(packet) + 8);
        if packet.is_udp() && is_of_traffic(packet) && !sizes.contains_key(&payload) {
            note("of another size than was sent", packet);
        }
    }
    ensure!(chains.is_empty(), "of {} records so many have {chains:?}", packets.all.len());
    Ok(Verdict::With(format!("{} packets", packets.all.len())))
}

/// How often the packet came in at a NIC. Waits for the CPU are in the middle of a stage.
fn entries(packets: &Packets<'_>, packet: &Packet) -> usize {
    let at_nic = |span: &&Span| place(packets, span).is_some_and(is_nic);
    let row = |span: &Span| packets.seen.recording.header.stages.get(usize::from(span.stage));
    let stages = packet.way.iter().filter(at_nic).filter_map(row).filter(|stage| stage.layer != "cpu");
    let mut names: Vec<&str> = stages.map(|stage| stage.name.as_str()).collect();
    names.dedup();
    names.iter().filter(|name| **name == "gro").count()
}

/// How many packets may have no record, by the recording's own counters: a probe that the kernel skipped hides one, and so
/// do a missed end, of which there are to be fewer than one in a hundred, and a path that was not over when the recording
/// ended.
fn hidden(seen: &Seen) -> Result<u64> {
    let missed = seen.json["losses"]["missed_ends"].as_u64().unwrap_or(0);
    let packets = seen.analysis.packets();
    ensure!(missed * 100 <= packets, "{missed} ends of {packets} packets were missed");
    Ok(missed + seen.analysis.unfinished() + seen.skipped())
}

fn is_of_traffic(packet: &Packet) -> bool {
    use overlay_trace_lab::traffic::PORT;
    packet.header.flow.source_port == PORT || packet.header.flow.destination_port == PORT
}

/// How many datagrams of each payload were sent and how many arrived.
fn datagram_sizes(seen: &Seen) -> BTreeMap<u64, (u64, u64)> {
    let mut sizes = BTreeMap::<u64, (u64, u64)>::new();
    for report in seen.traffic.iter().filter(|report| report.protocol == Protocol::Udp) {
        let (sent, received) = sizes.entry(u64::from(report.request_bytes)).or_default();
        *sent += report.sent;
        *received += report.received;
    }
    sizes
}

/// As many datagrams of each size left by the NICs or were dropped on their way there as were sent, and as many came in as
/// arrived, or more.
pub fn datagrams(seen: &Seen, _: &[Seen]) -> Outcome {
    let packets = Packets::of(seen)?;
    let hidden = hidden(seen)?;
    let mut wrong = Vec::new();
    let mut all = 0;
    for (payload, (sent, received)) in datagram_sizes(seen) {
        let of_size = |packet: &&Packet| {
            packet.is_udp()
                && is_of_traffic(packet)
                && u64::from(packet.header.bytes) == payload + 8 + ip_header(packet)
        };
        let at = |is_there: fn(&Packets<'_>, &Packet, &str) -> bool| {
            let there = |packet: &&Packet| NODES.iter().any(|node| is_there(&packets, packet, node));
            packets.all.iter().filter(of_size).filter(there).count() as u64
        };
        let (left, came, dropped) = (at(is_sent), at(is_received), at(is_dropped_before));
        let is_fewer = |recorded: u64, than: u64| recorded + hidden < than;
        if is_fewer(left + dropped, sent) || is_fewer(came, received) || (left + dropped).max(came) > sent {
            wrong.push(format!(
                "{payload} bytes: {sent} sent, {left} left by the NICs, {dropped} were dropped before, {came} came in, \
                 {received} arrived"
            ));
        }
        all += left + came;
    }
    ensure!(all > 0 && wrong.is_empty(), "{}", wrong.join("; "));
    Ok(Verdict::With(format!("{all} datagrams at NICs")))
}

/// The bytes of one direction of a connection at one edge of a node, from SYN to FIN.
#[derive(Default)]
struct Stream {
    /// Sequence number and number of bytes with SYN and FIN counted, by packet.
    parts: Vec<(u32, u64)>,
    first: Option<(u64, u32)>,
}

impl Stream {
    fn add(&mut self, packet: &Packet) {
        let header = &packet.header;
        if self.first.is_none_or(|(start, _)| header.start_ns < start) {
            self.first = Some((header.start_ns, header.flow.sequence));
        }
        let data = u64::from(header.bytes).saturating_sub(ip_header(packet) + TCP_HEADER);
        self.parts.push((header.flow.sequence, data));
    }

    /// How many bytes of data there are from the first to the last packet, and how many of them no packet has.
    fn coverage(&self) -> (u64, u64) {
        let Some((_, first)) = self.first else { return (0, 0) };
        let start = first.wrapping_add(TCP_FIN_SYN as u32);
        let mut parts: Vec<(u64, u64)> = self
            .parts
            .iter()
            .filter(|(sequence, _)| *sequence != first)
            .map(|(sequence, data)| (u64::from(sequence.wrapping_sub(start)), *data))
            .collect();
        parts.sort_unstable();
        let (mut end, mut missing) = (0, 0);
        for (begin, data) in parts {
            let gap = begin.saturating_sub(end);
            // The FIN has a number too, which the last acknowledgement is behind.
            if data > 0 || gap > TCP_FIN_SYN {
                missing += gap;
            }
            end = end.max(begin + data);
        }
        (end, missing)
    }
}

/// Of each connection every byte is in a packet that left by a NIC, and in one that came in at the other.
pub fn streams(seen: &Seen, _: &[Seen]) -> Outcome {
    let packets = Packets::of(seen)?;
    let mut streams = HashMap::<_, Stream>::new();
    for packet in packets.all.iter().filter(|packet| packet.is_tcp() && is_of_traffic(packet)) {
        let flow = packet.header.flow;
        for node in NODES {
            for (edge, is_there) in
                [("sent", is_sent(&packets, packet, node)), ("received", is_received(&packets, packet, node))]
            {
                if is_there {
                    let key = (edge, flow.source, flow.source_port, flow.destination_port);
                    streams.entry(key).or_default().add(packet);
                }
            }
        }
    }
    let transferred: u64 =
        seen.traffic.iter().filter(|report| report.kind == Kind::Bulk).map(|report| report.bytes).sum();
    let hidden = hidden(seen)?;
    let mut said = Vec::new();
    let mut is_good = true;
    for edge in ["sent", "received"] {
        let (bytes, missing) = streams
            .iter()
            .filter(|(key, _)| key.0 == edge)
            .map(|(_, stream)| stream.coverage())
            .fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
        is_good &= bytes >= transferred && missing <= hidden * LARGEST_PACKET;
        said.push(format!("{edge}: {missing} of {bytes} bytes are in no packet"));
    }
    ensure!(
        transferred > 0 && is_good,
        "{transferred} bytes were transferred; {}; {hidden} packets have no record",
        said.join(", ")
    );
    Ok(Verdict::With(format!(
        "{transferred} bytes, each in a packet that was sent and one that was received"
    )))
}
