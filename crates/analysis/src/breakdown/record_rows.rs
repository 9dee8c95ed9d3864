//! The rows of single records, for what is handed on packet by packet.

use overlay_trace_common::{flags::RecordFlags, path::Span};

use super::{Key, PathAssembler, Rows, TracedPacket};
use overlay_trace_format::{RecordView, Recording};

/// Names the spans of records as a report does. Rows have numbers, in the order in which they come.
///
/// Each record has its own path only, so that no nanosecond is in two of them: over all records of a recording the spans,
/// weighted by [`times`](overlay_trace_common::record::RecordHeader::times), add up to a report's end-to-end sum. The
/// direction is that of this path alone; a report also looks at the path of the packet that it was made of.
pub struct RecordRows {
    rows: Rows,
    paths: PathAssembler,
    path: Vec<Span>,
}

impl RecordRows {
    /// For the records of this recording.
    pub fn new(recording: &Recording) -> RecordRows {
        RecordRows {
            rows: Rows::new(&recording.header, &recording.hops),
            paths: PathAssembler::new(&recording.header),
            path: Vec::new(),
        }
    }

    /// The spans of a record, and the number of the row of each. They add up to its time: what no span claims is the stage
    /// `other`'s.
    pub fn spans(&mut self, record: &RecordView<'_>) -> (&[Span], &[u32]) {
        self.path.clear();
        self.paths.append(record, &mut self.path);
        let header = &record.header;
        let from_device = header.flags.has(RecordFlags::FROM_DEVICE);
        let packet = TracedPacket {
            header,
            start_ns: header.start_ns,
            path: &self.path,
            from_device,
            is_clone: false,
        };
        let rows = self.rows.of(&packet);
        (&self.path, rows)
    }

    /// How many rows there are so far.
    pub fn count(&self) -> usize {
        self.rows.len()
    }

    /// What a row is.
    pub fn key(&self, row: u32) -> Key {
        self.rows.key(row)
    }
}
