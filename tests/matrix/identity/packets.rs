//! The packets of a recording, with their lineage: clones, segments, fragments.

use std::collections::HashMap;
use std::ops::RangeInclusive;

use anyhow::Result;
use overlay_trace_common::path::Span;
use overlay_trace_common::{
    flags::RecordFlags,
    record::{Outcome as End, RecordHeader},
};
use overlay_trace_format::RecordView;

use crate::seen::Seen;

/// A finished packet.
pub struct Packet {
    pub header: RecordHeader,
    pub way: Vec<Span>,
}

impl Packet {
    fn of(record: &RecordView<'_>) -> Packet {
        Packet { header: record.header, way: record.spans().collect() }
    }

    pub fn end(&self) -> Option<End> {
        End::from_u8(self.header.outcome)
    }

    pub fn is_child(&self) -> bool {
        self.header.flags.has(RecordFlags::CHILD)
    }

    pub fn is_of_unknown_start(&self) -> bool {
        self.header.flags.has(RecordFlags::UNKNOWN_START)
    }

    pub fn is_udp(&self) -> bool {
        self.header.flow.protocol == 17
    }

    pub fn is_tcp(&self) -> bool {
        self.header.flow.protocol == 6
    }

    /// For messages that fail a test.
    pub fn name(&self) -> String {
        let flow = &self.header.flow;
        let address = |bytes: &[u8; 16]| match flow.version {
            4 => std::net::Ipv4Addr::new(bytes[0], bytes[1], bytes[2], bytes[3]).to_string(),
            _ => std::net::Ipv6Addr::from(*bytes).to_string(),
        };
        format!(
            "packet {:#x} (protocol {}, {} port {} to {} port {}, {} bytes)",
            self.header.id,
            flow.protocol,
            address(&flow.source),
            flow.source_port,
            address(&flow.destination),
            flow.destination_port,
            self.header.bytes
        )
    }
}

/// All packets of a recording that were in its lab.
pub struct Packets<'a> {
    pub seen: &'a Seen,
    pub all: Vec<Packet>,
    by_id: HashMap<u64, usize>,
    children: HashMap<u64, Vec<usize>>,
}

impl<'a> Packets<'a> {
    pub fn of(seen: &'a Seen) -> Result<Packets<'a>> {
        let mut all = Vec::new();
        seen.recording.for_each_record(|record| {
            if seen.is_own(&record) {
                all.push(Packet::of(&record));
            }
        })?;
        all.sort_by_key(|packet| packet.header.start_ns);
        let by_id = all.iter().enumerate().map(|(at, packet)| (packet.header.id, at)).collect();
        let mut children: HashMap<u64, Vec<usize>> = HashMap::new();
        for (at, packet) in all.iter().enumerate().filter(|(_, packet)| packet.is_child()) {
            children.entry(packet.header.parent).or_default().push(at);
        }
        Ok(Packets { seen, all, by_id, children })
    }

    /// Those that are nobody's child: what was sent, once for each time that it was sent.
    pub fn sent(&self) -> impl Iterator<Item = &Packet> {
        self.all.iter().filter(|packet| !packet.is_child())
    }

    /// How many packets on the wire were sent of those that are wanted. One that was sent again alone, and not cut on
    /// its path, stands for others too when GRO has merged those with it: they may be counted twice.
    pub fn sent_segments(&self, is_wanted: impl Fn(&Packet) -> bool) -> RangeInclusive<u64> {
        let is_merged = |packet: &&Packet| packet.end() == Some(End::Merged);
        let all = segments(self.sent().filter(|packet| is_wanted(packet)));
        let keepers = self.sent().filter(|packet| is_wanted(packet) && self.passed(packet, "gro"));
        let kept: u64 = keepers
            .filter(|packet| !is_merged(packet))
            .map(|packet| u64::from(packet.header.segments) - 1)
            .sum();
        let merged = segments(self.all.iter().filter(is_merged));
        all - kept.min(merged)..=all
    }

    pub fn get(&self, id: u64) -> Option<&Packet> {
        self.by_id.get(&id).map(|at| &self.all[*at])
    }

    /// The segments, fragments and copies of a packet, the first first.
    pub fn children(&self, of: &Packet) -> impl Iterator<Item = &Packet> {
        self.children.get(&of.header.id).into_iter().flatten().map(|at| &self.all[*at])
    }

    /// The packet and all that was made of it, and of that.
    pub fn family<'b>(&'b self, of: &'b Packet) -> Vec<&'b Packet> {
        let mut family = vec![of];
        let mut next = 0;
        while let Some(packet) = family.get(next).copied() {
            family.extend(self.children(packet));
            next += 1;
        }
        family
    }

    /// The name of a segment's stage.
    pub fn stage(&self, segment: &Span) -> &str {
        self.seen.recording.header.stages.get(usize::from(segment.stage)).map_or("", |row| &row.name)
    }

    /// The layer in which the path ended, also if the CPU was busy with something else in the end.
    pub fn last_layer(&self, packet: &Packet) -> &str {
        let stages = &self.seen.recording.header.stages;
        let layer = |segment: &Span| stages.get(usize::from(segment.stage)).map(|row| row.layer.as_str());
        packet.way.iter().rev().filter_map(layer).find(|layer| *layer != "cpu").unwrap_or_default()
    }

    /// Whether the packet has been in the stage.
    pub fn passed(&self, packet: &Packet, stage: &str) -> bool {
        packet.way.iter().any(|segment| self.stage(segment) == stage)
    }

    /// Whether the packet came to the transport protocol of its receiver, whatever became of it there.
    pub fn has_arrived(&self, packet: &Packet) -> bool {
        let is_there = |stage| ["udp-rcv", "tcp-rcv"].contains(&stage);
        packet.way.iter().any(|segment| segment.level == 0 && is_there(self.stage(segment)))
    }

    /// Whether the packet has reached a socket: so said, or freed there without having been dropped.
    pub fn is_delivered(&self, packet: &Packet) -> bool {
        let at_socket = ["socket", "transport"].contains(&self.last_layer(packet));
        packet.end() == Some(End::Delivered) || packet.end() == Some(End::Freed) && at_socket
    }

    /// The short names of the namespaces that the packet was in, one after the other.
    pub fn namespaces(&self, packet: &Packet) -> Vec<&str> {
        let hop = |segment: &Span| {
            let hop = self.seen.recording.hops.get(&segment.hop)?;
            (!hop.netns.is_empty()).then(|| self.seen.short(&hop.netns))
        };
        let mut names: Vec<&str> = packet.way.iter().filter_map(hop).collect();
        names.dedup();
        names
    }

    /// The namespace where the packet, or what it was made of, was first.
    pub fn origin(&self, packet: &Packet) -> Option<&str> {
        self.namespaces(packet).first().copied()
    }
}

/// How many are so.
pub fn count<'b>(packets: impl Iterator<Item = &'b Packet>, is_so: impl Fn(&Packet) -> bool) -> u64 {
    packets.filter(|packet| is_so(packet)).count() as u64
}

/// How many packets on the wire these stand for.
pub fn segments<'b>(packets: impl Iterator<Item = &'b Packet>) -> u64 {
    packets.map(|packet| u64::from(packet.header.segments)).sum()
}
