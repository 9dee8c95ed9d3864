//! A difference as one JSON object.

use anyhow::Result;
use serde::Serialize;

use super::json::{Capture, Losses, Packets, pretty};
use crate::breakdown::{Analysis, Diff, DiffRow, Key, Per, Side};

/// The version of the schema.
const SCHEMA: u32 = 1;

#[derive(Serialize)]
struct Report<'a> {
    schema: u32,
    first: Recording<'a>,
    second: Recording<'a>,
    total: Row<'a>,
    stages: Vec<Row<'a>>,
}

#[derive(Serialize)]
struct Recording<'a> {
    capture: Capture<'a>,
    packets: Packets,
    losses: Losses,
    complete: bool,
}

#[derive(Serialize)]
struct Row<'a> {
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    key: Option<&'a Key>,
    first: Numbers,
    second: Numbers,
    added_ns_per_packet: f64,
    added_ns_per_byte: f64,
}

#[derive(Serialize)]
struct Numbers {
    packets: u64,
    sum_ns: u128,
    ns_per_packet: f64,
    ns_per_byte: f64,
    p50_ns: u64,
    p99_ns: u64,
}

impl From<Side> for Numbers {
    fn from(side: Side) -> Numbers {
        Numbers {
            packets: side.packets,
            sum_ns: side.sum,
            ns_per_packet: side.per_packet,
            ns_per_byte: side.per_byte,
            p50_ns: side.p50,
            p99_ns: side.p99,
        }
    }
}

/// The difference as one JSON object.
pub(super) fn report(diff: &Diff) -> Result<Vec<u8>> {
    pretty(&Report {
        schema: SCHEMA,
        first: recording(&diff.first),
        second: recording(&diff.second),
        total: Row { key: None, ..row(&diff.total()) },
        stages: diff.rows.iter().map(row).collect(),
    })
}

fn recording(analysis: &Analysis) -> Recording<'_> {
    Recording {
        capture: Capture::of(analysis),
        packets: Packets::of(analysis),
        losses: Losses::of(analysis),
        complete: analysis.complete,
    }
}

fn row(row: &DiffRow) -> Row<'_> {
    Row {
        key: Some(&row.key),
        first: row.first.into(),
        second: row.second.into(),
        added_ns_per_packet: row.delta(Per::Packet),
        added_ns_per_byte: row.second.per_byte - row.first.per_byte,
    }
}
