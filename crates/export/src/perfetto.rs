//! A trace for Perfetto: a track for each CPU at each device of each namespace. A packet is a slice on each track that it
//! visits, with arrows from one to the next; its stages are slices in it, and drops are instants.

mod lanes;
pub mod messages;
mod visits;

use std::io::Write;

use anyhow::Result;
use overlay_trace_common::record::{Outcome, RecordHeader};
use overlay_trace_format::Recording;
use prost::Message;

use crate::{Exported, packet::protocol};
use lanes::{Lanes, ROOT};
use messages::{
    BOOTTIME, Clock, ClockSnapshot, DebugAnnotation, EventType, MONOTONIC, REALTIME, SEQUENCE_CLEARED,
    TracePacket, TrackDescriptor, TrackEvent,
};
use visits::{Visit, Visits};

/// Events of one writer.
const SEQUENCE: u32 = 1;

pub fn write(recording: &Recording, out: impl Write) -> Result<Exported> {
    let visits = Visits::of(recording)?;
    let mut trace = Trace { out, buffer: Vec::new() };
    trace.packet(TracePacket { clock_snapshot: Some(clocks(recording)), ..start() })?;
    let node =
        TrackDescriptor { uuid: ROOT, name: format!("node {}", recording.header.node), parent_uuid: None };
    trace.packet(TracePacket { track_descriptor: Some(node), ..start() })?;
    let mut lanes = Lanes::default();
    for visit in &visits.all {
        let (track, new) = lanes.track(&visits.places[visit.place as usize], visit);
        for descriptor in new {
            trace.packet(TracePacket { track_descriptor: Some(descriptor), ..TracePacket::default() })?;
        }
        trace.visit(recording, &visits, visit, track)?;
    }
    Ok(Exported { items: visits.packets.len() as u64, left_out: 0 })
}

/// The first packets: readers begin here.
fn start() -> TracePacket {
    TracePacket { sequence_flags: Some(SEQUENCE_CLEARED), ..TracePacket::default() }
}

/// The clocks at the beginning of the recording. Events are in CLOCK_MONOTONIC, which the trace's clock, CLOCK_BOOTTIME,
/// differs from by the time of suspension.
fn clocks(recording: &Recording) -> ClockSnapshot {
    let header = &recording.header;
    let suspended =
        recording.clocks.first().map_or(0, |clocks| clocks.boottime_ns.saturating_sub(clocks.monotonic_ns));
    let clock = |clock_id, timestamp| Clock { clock_id, timestamp };
    let clocks = vec![
        clock(BOOTTIME, header.start_monotonic_ns.wrapping_add(suspended)),
        clock(MONOTONIC, header.start_monotonic_ns),
        clock(REALTIME, header.start_wall_ns),
    ];
    ClockSnapshot { clocks }
}

/// A trace is one message with many packets, which can be written one by one.
struct Trace<W> {
    out: W,
    buffer: Vec<u8>,
}

/// The key of [`TracePacket`]s in the message `Trace`: field 1, with a length.
const PACKET_KEY: u8 = 1 << 3 | 2;

impl<W: Write> Trace<W> {
    fn packet(&mut self, packet: TracePacket) -> Result<()> {
        let packet = TracePacket { trusted_packet_sequence_id: Some(SEQUENCE), ..packet };
        self.buffer.clear();
        self.buffer.push(PACKET_KEY);
        packet.encode_length_delimited(&mut self.buffer)?;
        self.out.write_all(&self.buffer)?;
        Ok(())
    }

    fn event(&mut self, ns: u64, event: TrackEvent) -> Result<()> {
        self.packet(TracePacket {
            timestamp: Some(ns),
            timestamp_clock_id: Some(MONOTONIC),
            track_event: Some(event),
            ..TracePacket::default()
        })
    }

    fn visit(&mut self, recording: &Recording, visits: &Visits, visit: &Visit, track: u64) -> Result<()> {
        let header = &visits.packets[visit.packet as usize];
        let on = |kind: EventType| TrackEvent {
            r#type: Some(kind as i32),
            track_uuid: Some(track),
            ..TrackEvent::default()
        };
        self.event(visit.start_ns, slice(header, visit, on(EventType::SliceBegin)))?;
        let mut now = visit.start_ns;
        for &(ns, name) in &visits.spans[visit.spans.clone()] {
            let name = &visits.names[name as usize];
            let begin = TrackEvent {
                name: Some(name.stage.clone()),
                categories: vec![
                    "stage".into(),
                    name.kind.into(),
                    name.layer.clone(),
                    format!("level {}", name.level),
                ],
                ..on(EventType::SliceBegin)
            };
            self.event(now, begin)?;
            now = now.saturating_add(ns);
            self.event(now, on(EventType::SliceEnd))?;
        }
        if visit.is_last && header.outcome == Outcome::Dropped as u8 {
            let (reason, location) =
                (recording.names.reason(header.drop_reason), recording.names.symbol(header.drop_location));
            let name = format!("dropped {reason} {location}").trim_end().to_owned();
            let drop =
                TrackEvent { name: Some(name), categories: vec!["drop".into()], ..on(EventType::Instant) };
            self.event(now, drop)?;
        }
        self.event(now, on(EventType::SliceEnd))
    }
}

/// The slice of a packet on a track.
fn slice(header: &RecordHeader, visit: &Visit, event: TrackEvent) -> TrackEvent {
    let number =
        |name: &str, value: u64| DebugAnnotation { name: Some(name.into()), uint_value: Some(value) };
    let mut debug_annotations = vec![
        number("id", header.id),
        number("bytes", header.bytes.into()),
        number("segments", header.segments.into()),
    ];
    if header.parent != 0 {
        debug_annotations.push(number("parent", header.parent));
    }
    if header.times() > 1 {
        debug_annotations.push(number("weight", header.times()));
    }
    let flows = vec![header.id];
    let (flow_ids, terminating_flow_ids) =
        if visit.is_last { (Vec::new(), flows) } else { (flows, Vec::new()) };
    let categories = vec!["packet".into()];
    TrackEvent {
        name: Some(title(header)),
        categories,
        debug_annotations,
        flow_ids,
        terminating_flow_ids,
        ..event
    }
}

/// `udp 10.0.1.2:5000 > 10.0.2.2:53`.
fn title(header: &RecordHeader) -> String {
    let flow = &header.flow;
    let Some([source, destination]) = overlay_trace_format::flow_addresses(flow) else {
        return "unknown addresses".into();
    };
    let end = |address, port| match port {
        0 => format!("{address}"),
        port => std::net::SocketAddr::new(address, port).to_string(),
    };
    let (source, destination) = (end(source, flow.source_port), end(destination, flow.destination_port));
    format!("{} {source} > {destination}", protocol(flow.protocol))
}
