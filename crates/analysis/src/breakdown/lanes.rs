//! A recording is analysed in lanes: stretches of it, at the same time.
//!
//! How it is divided depends on the recording alone, and the lanes are joined in their order: the result is
//! the same on every machine, however many processors it has.

use std::{
    num::NonZero,
    ops::Range,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use anyhow::{Context, Result};

use super::{By, Collector};
use overlay_trace_format::Recording;

/// The most lanes of a recording.
const LANES_MAX: u64 = 4;
/// The least bytes of records that are worth a lane.
const LANE_BYTES: u64 = 4 << 20;

/// Collects all records of a recording.
pub(super) fn collect(recording: &Recording, by: By) -> Result<Collector> {
    let lanes = lanes(&recording.chunk_bytes());
    let results: Vec<Mutex<Option<Result<Collector>>>> = lanes.iter().map(|_| Mutex::default()).collect();
    let next = AtomicUsize::new(0);
    let work = || {
        while let Some((lane, result)) = take(&next, &lanes, &results) {
            let collector = collect_lane(recording, by, lane.clone());
            if let Ok(mut result) = result.lock() {
                *result = Some(collector);
            }
        }
    };
    let processors = thread::available_parallelism().map_or(1, NonZero::get);
    thread::scope(|scope| {
        // This thread is one of them.
        let others: Vec<_> = (1..processors.min(lanes.len()))
            .map(|_| thread::Builder::new().spawn_scoped(scope, work))
            .collect();
        work();
        drop(others);
    });
    let mut all = Collector::new(&recording.header, &recording.hops, by);
    for result in results {
        let lane = result.into_inner().ok().flatten().context("a thread of the analysis ended early")?;
        all.append(lane?);
    }
    Ok(all)
}

/// The next lane that nobody has taken.
fn take<'a, T>(
    next: &AtomicUsize,
    lanes: &'a [Range<usize>],
    results: &'a [T],
) -> Option<(&'a Range<usize>, &'a T)> {
    let number = next.fetch_add(1, Ordering::Relaxed);
    lanes.get(number).zip(results.get(number))
}

fn collect_lane(recording: &Recording, by: By, chunks: Range<usize>) -> Result<Collector> {
    let mut collector = Collector::new(&recording.header, &recording.hops, by);
    recording.for_each_record_of(chunks, |record| collector.add(&record))?;
    Ok(collector)
}

/// Divides chunks of these lengths into stretches of about the same length.
fn lanes(bytes: &[u64]) -> Vec<Range<usize>> {
    let all: u64 = bytes.iter().sum();
    let number = (all / LANE_BYTES).clamp(1, LANES_MAX);
    let mut lanes = Vec::new();
    let (mut start, mut before) = (0, 0);
    for (at, length) in bytes.iter().enumerate() {
        before += length;
        if before >= all * (lanes.len() as u64 + 1) / number {
            lanes.push(start..at + 1);
            start = at + 1;
        }
    }
    lanes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lanes_are_all_chunks_in_order() {
        for bytes in
            [vec![], vec![0], vec![1, 2], vec![LANE_BYTES; 9], vec![20 * LANE_BYTES, 1, 1], vec![0, 0, 9]]
        {
            let lanes = lanes(&bytes);
            let chunks: Vec<usize> = lanes.iter().cloned().flatten().collect();
            assert_eq!(chunks, (0..bytes.len()).collect::<Vec<_>>(), "{bytes:?}");
            assert!(lanes.len() <= LANES_MAX as usize);
        }
        assert_eq!(lanes(&[LANE_BYTES; 8]), [0..2, 2..4, 4..6, 6..8]);
    }
}
