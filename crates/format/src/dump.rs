//! The segments of a recorder that goes on, as one recording.

use std::path::Path;

use anyhow::{Result, bail};

use super::{
    Checkpoint, Counters, Header, Recording, Writer,
    extract::{Part, copy_records},
    segments,
};

/// Writes what the segments in a folder hold to a file, and returns the number of its packets and the time that they span,
/// in ns. Packets at its beginning are as they are at that of every recording: those that had begun before are whole.
///
/// # Errors
///
/// One sentence: there are no segments, or a file cannot be read or written.
pub fn dump(folder: &Path, path: &Path, force: bool) -> Result<(u64, u64)> {
    // The recorder may remove the oldest meanwhile: what is open can be read.
    let opened = segments(folder).into_iter().filter_map(|(_, segment)| Recording::open(segment).ok());
    let opened: Vec<Recording> = opened.filter(|segment| segment.has_counters).collect();
    let (Some(oldest), Some(newest)) = (opened.first(), opened.last()) else {
        bail!("there are no packets in {}: `overlay-trace monitor` keeps them there", folder.display())
    };
    let mut writer = Writer::create(path, force, &header(oldest, newest))?;
    let hops: Vec<_> = newest.hops.iter().map(|(number, name)| (*number, name.clone())).collect();
    writer.hops(&hops)?;
    writer.names(&newest.names)?;
    writer.translations(&newest.translations)?;
    let mut part = Part::default();
    for segment in &opened {
        copy_records(segment, |_| true, &mut writer, &mut part)?;
        for clocks in &segment.clocks {
            let counters = segment.last.counters.since(&oldest.first.counters);
            let duration_ns = clocks.monotonic_ns.saturating_sub(start_ns(oldest));
            writer.checkpoint(&Checkpoint { duration_ns, counters, clocks: Some(*clocks) })?;
        }
    }
    let Part { records, represented, .. } = part;
    let counted = newest.last.counters.since(&oldest.first.counters);
    let unfinished = counted.started.saturating_sub(counted.finished);
    let left_out = represented - records;
    // Of packets that ended in the moments at either edge it is not known whether they were counted.
    let finished = records + left_out + counted.lost_records;
    let counters = Counters { started: finished + unfinished, finished, left_out, ..counted };
    let duration_ns = newest.last.duration_ns.saturating_sub(oldest.first.duration_ns);
    writer.finish(&Checkpoint { duration_ns, counters, clocks: newest.last.clocks })?;
    Ok((represented, duration_ns))
}

/// When a segment begins, in ns of CLOCK_MONOTONIC.
fn start_ns(segment: &Recording) -> u64 {
    segment.header.start_monotonic_ns.saturating_add(segment.first.duration_ns)
}

fn header(oldest: &Recording, newest: &Recording) -> Header {
    Header {
        start_wall_ns: newest.header.start_wall_ns.saturating_add(oldest.first.duration_ns),
        start_monotonic_ns: start_ns(oldest),
        ..newest.header.clone()
    }
}
