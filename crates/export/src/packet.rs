//! Packets one by one, with names for their numbers.

use anyhow::Result;
use overlay_trace_analysis::breakdown::{Key, RecordRows};
use overlay_trace_common::{
    path::Span,
    record::{Outcome, RecordHeader},
};
use overlay_trace_format::{Recording, outcome_name, protocol_name};

/// A record with its own path.
pub struct Packet<'a> {
    pub header: &'a RecordHeader,
    /// Its spans, which add up to its time, and the key of each.
    pub spans: Vec<(Span, &'a Key)>,
}

impl Packet<'_> {
    /// From the path's start to its end, in ns.
    pub fn ns(&self) -> u64 {
        self.spans.iter().fold(0, |sum, (span, _)| sum.saturating_add(span.ns))
    }

    /// The packet that this one was made of.
    pub fn parent(&self) -> Option<u64> {
        (self.header.parent != 0).then_some(self.header.parent)
    }

    /// How the path ended, as the recording has it.
    pub fn outcome(&self) -> &'static str {
        Outcome::from_u8(self.header.outcome).map_or("unknown", outcome_name)
    }
}

/// The name of an IP protocol, or its number.
pub fn protocol(number: u8) -> String {
    protocol_name(number).map_or_else(|| number.to_string(), str::to_owned)
}

/// A time of the records' clock as wall clock, in ns since 1970.
pub fn wall_ns(recording: &Recording, ns: u64) -> u64 {
    let header = &recording.header;
    header.start_wall_ns.wrapping_add(ns.wrapping_sub(header.start_monotonic_ns))
}

/// The name of a namespace or device; none where the packet is at none.
pub fn named(name: &Option<String>) -> Option<&str> {
    name.as_deref().filter(|name| !name.is_empty())
}

/// Calls `each` with every packet until it fails, and returns their number.
///
/// # Errors
///
/// Those of `each`; the recording cannot be read.
pub fn for_each(recording: &Recording, mut each: impl FnMut(&Packet<'_>) -> Result<()>) -> Result<u64> {
    let (mut rows, mut keys) = (RecordRows::new(recording), Vec::new());
    let (mut count, mut outcome) = (0, Ok(()));
    recording.for_each_record(|record| {
        if outcome.is_err() {
            return;
        }
        let (spans, numbers) = rows.spans(&record);
        let (spans, numbers) = (spans.to_vec(), numbers.to_vec());
        for row in keys.len()..rows.count() {
            keys.push(rows.key(row as u32));
        }
        let spans = spans.into_iter().zip(numbers).map(|(span, row)| (span, &keys[row as usize])).collect();
        outcome = each(&Packet { header: &record.header, spans });
        count += 1;
    })?;
    outcome?;
    Ok(count)
}
