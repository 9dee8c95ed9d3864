//! Parquet: a row for each packet, with its spans as a nested list.

mod columns;

use std::{io::Write, sync::Arc};

use anyhow::Result;
use overlay_trace_format::{Recording, flow_addresses};
use parquet::{
    basic::{Compression, ZstdLevel},
    file::{properties::WriterProperties, writer::SerializedFileWriter},
    schema::parser::parse_message_type,
};

use crate::{
    Exported,
    packet::{Packet, for_each, named, protocol, wall_ns},
};
use columns::{Columns, Texts};

/// The columns, in the order in which they are written. The book documents them.
const SCHEMA: &str = "message packets {
    required binary node (STRING);
    required int64 id;
    optional int64 parent;
    required int64 start (TIMESTAMP(NANOS, true));
    required int64 start_ns;
    required int64 ns;
    optional binary protocol (STRING);
    optional binary source (STRING);
    required int32 source_port;
    optional binary destination (STRING);
    required int32 destination_port;
    required int64 bytes;
    required int32 segments;
    required binary outcome (STRING);
    required binary drop_reason (STRING);
    required binary drop_location (STRING);
    required int32 cpu;
    required int64 weight;
    required group spans (LIST) {
        repeated group list {
            required group element {
                required binary stage (STRING);
                required binary layer (STRING);
                required binary kind (STRING);
                required int32 level;
                required binary direction (STRING);
                required binary netns (STRING);
                required binary device (STRING);
                optional int32 cpu;
                required int64 ns;
            }
        }
    }
}";

/// A row group is written when it has so many spans.
const SPANS: usize = 1 << 18;

pub fn write(recording: &Recording, out: impl Write + Send) -> Result<Exported> {
    let schema = Arc::new(parse_message_type(SCHEMA)?);
    let compression = Compression::ZSTD(ZstdLevel::try_new(1)?);
    let properties = WriterProperties::builder().set_compression(compression).build();
    let mut writer = SerializedFileWriter::new(out, schema, Arc::new(properties))?;
    let (mut columns, mut texts) = (Columns::default(), Texts::default());
    let items = for_each(recording, |packet| {
        add(recording, packet, &mut columns, &mut texts);
        if columns.spans() < SPANS {
            return Ok(());
        }
        std::mem::take(&mut columns).write(&mut writer)
    })?;
    if !columns.is_empty() {
        columns.write(&mut writer)?;
    }
    writer.close()?;
    Ok(Exported { items, left_out: 0 })
}

fn add(recording: &Recording, packet: &Packet<'_>, columns: &mut Columns, texts: &mut Texts) {
    let header = packet.header;
    let ends = flow_addresses(&header.flow);
    let since = header.start_ns.saturating_sub(recording.header.start_monotonic_ns);
    columns.node.push(texts.get(&recording.header.node));
    columns.id.push(header.id as i64);
    columns.parent.push(packet.parent().map(|parent| parent as i64));
    columns.start.push(wall_ns(recording, header.start_ns) as i64);
    columns.start_ns.push(since as i64);
    columns.ns.push(packet.ns() as i64);
    columns.protocol.push(ends.map(|_| texts.get(&protocol(header.flow.protocol))));
    columns.source.push(ends.map(|[source, _]| texts.get(&source.to_string())));
    columns.source_port.push(header.flow.source_port.into());
    columns.destination.push(ends.map(|[_, destination]| texts.get(&destination.to_string())));
    columns.destination_port.push(header.flow.destination_port.into());
    columns.bytes.push(header.bytes.into());
    columns.segments.push(header.segments.into());
    columns.outcome.push(texts.get(packet.outcome()));
    columns.drop_reason.push(texts.get(&recording.names.reason(header.drop_reason)));
    columns.drop_location.push(texts.get(&recording.names.symbol(header.drop_location)));
    columns.cpu.push(header.cpu.into());
    columns.weight.push(header.times() as i64);
    columns.begin_spans(packet.spans.len());
    for (span, key) in &packet.spans {
        columns.stage.push(texts.get(key.stage.as_deref().unwrap_or("other")));
        columns.layer.push(texts.get(key.layer.as_deref().unwrap_or("other")));
        columns.kind.push(texts.get(key.kind));
        columns.level.push(key.level.unwrap_or(0).into());
        columns.direction.push(texts.get(key.direction.map_or("", |direction| direction.name())));
        columns.netns.push(texts.get(named(&key.netns).unwrap_or("")));
        columns.device.push(texts.get(named(&key.device).unwrap_or("")));
        columns.span_cpu.push(span.cpu.map(i32::from));
        columns.span_ns.push(span.ns as i64);
    }
}
