//! JSON Lines: one object per packet.

use std::{io::Write, net::IpAddr};

use anyhow::Result;
use overlay_trace_format::{Recording, flow_addresses};
use serde::Serialize;

use crate::{
    Exported,
    packet::{for_each, named, protocol, wall_ns},
};

/// Numbers of packets are texts: they have more digits than many readers of JSON keep.
#[derive(Serialize)]
struct Line<'a> {
    node: &'a str,
    id: String,
    parent: Option<String>,
    start_wall_ns: String,
    /// Since the beginning of the recording.
    start_ns: u64,
    ns: u64,
    protocol: Option<String>,
    source: Option<IpAddr>,
    source_port: u16,
    destination: Option<IpAddr>,
    destination_port: u16,
    bytes: u32,
    segments: u16,
    outcome: &'static str,
    drop_reason: String,
    drop_location: String,
    cpu: u16,
    weight: u64,
    spans: Vec<SpanLine<'a>>,
}

#[derive(Serialize)]
struct SpanLine<'a> {
    stage: Option<&'a str>,
    layer: Option<&'a str>,
    kind: &'a str,
    level: Option<u8>,
    direction: Option<&'static str>,
    netns: Option<&'a str>,
    device: Option<&'a str>,
    cpu: Option<u16>,
    ns: u64,
}

pub fn write(recording: &Recording, mut out: impl Write) -> Result<Exported> {
    let items = for_each(recording, |packet| {
        let header = packet.header;
        let ends = flow_addresses(&header.flow);
        let spans = packet.spans.iter().map(|(span, key)| SpanLine {
            stage: key.stage.as_deref(),
            layer: key.layer.as_deref(),
            kind: key.kind,
            level: key.level,
            direction: key.direction.map(|direction| direction.name()),
            netns: named(&key.netns),
            device: named(&key.device),
            cpu: span.cpu,
            ns: span.ns,
        });
        let line = Line {
            node: &recording.header.node,
            id: header.id.to_string(),
            parent: packet.parent().map(|parent| parent.to_string()),
            start_wall_ns: wall_ns(recording, header.start_ns).to_string(),
            start_ns: header.start_ns.saturating_sub(recording.header.start_monotonic_ns),
            ns: packet.ns(),
            protocol: ends.map(|_| protocol(header.flow.protocol)),
            source: ends.map(|[source, _]| source),
            source_port: header.flow.source_port,
            destination: ends.map(|[_, destination]| destination),
            destination_port: header.flow.destination_port,
            bytes: header.bytes,
            segments: header.segments,
            outcome: packet.outcome(),
            drop_reason: recording.names.reason(header.drop_reason),
            drop_location: recording.names.symbol(header.drop_location),
            cpu: header.cpu,
            weight: header.times(),
            spans: spans.collect(),
        };
        serde_json::to_writer(&mut out, &line)?;
        out.write_all(b"\n")?;
        Ok(())
    })?;
    Ok(Exported { items, left_out: 0 })
}
