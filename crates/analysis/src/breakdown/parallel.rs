//! A recording is analysed in parallel, in shards of consecutive chunks.
//!
//! The division depends on the recording alone, and the shards are joined in their order: the result is the same on every
//! machine, however many processors it has.

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

/// The most shards of a recording.
const SHARDS_MAX: u64 = 4;
/// A shard has at least so many bytes of records, if there are several.
const SHARD_BYTES: u64 = 4 << 20;

/// Collects all records of a recording.
pub(super) fn collect(recording: &Recording, by: By) -> Result<Collector> {
    let shards = shards(&recording.chunk_bytes());
    let results: Vec<Mutex<Option<Result<Collector>>>> = shards.iter().map(|_| Mutex::default()).collect();
    let next = AtomicUsize::new(0);
    let work = || {
        while let Some((shard, result)) = take(&next, &shards, &results) {
            let collector = collect_shard(recording, by, shard.clone());
            if let Ok(mut result) = result.lock() {
                *result = Some(collector);
            }
        }
    };
    let processors = thread::available_parallelism().map_or(1, NonZero::get);
    thread::scope(|scope| {
        // This thread is one of them.
        let others: Vec<_> = (1..processors.min(shards.len()))
            .map(|_| thread::Builder::new().spawn_scoped(scope, work))
            .collect();
        work();
        drop(others);
    });
    let mut all = Collector::new(&recording.header, &recording.hops, by);
    for result in results {
        let shard = result.into_inner().ok().flatten().context("a thread of the analysis ended early")?;
        all.append(shard?);
    }
    Ok(all)
}

/// The next shard that no thread has taken.
fn take<'a, T>(
    next: &AtomicUsize,
    shards: &'a [Range<usize>],
    results: &'a [T],
) -> Option<(&'a Range<usize>, &'a T)> {
    let number = next.fetch_add(1, Ordering::Relaxed);
    shards.get(number).zip(results.get(number))
}

fn collect_shard(recording: &Recording, by: By, chunks: Range<usize>) -> Result<Collector> {
    let mut collector = Collector::new(&recording.header, &recording.hops, by);
    recording.for_each_record_of(chunks, |record| collector.add(&record))?;
    Ok(collector)
}

/// Divides chunks of these lengths into stretches of about the same length.
fn shards(bytes: &[u64]) -> Vec<Range<usize>> {
    let all: u64 = bytes.iter().sum();
    let number = (all / SHARD_BYTES).clamp(1, SHARDS_MAX);
    let mut shards = Vec::new();
    let (mut start, mut before) = (0, 0);
    for (at, length) in bytes.iter().enumerate() {
        before += length;
        if before >= all * (shards.len() as u64 + 1) / number {
            shards.push(start..at + 1);
            start = at + 1;
        }
    }
    shards
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_are_all_chunks_in_order() {
        for bytes in
            [vec![], vec![0], vec![1, 2], vec![SHARD_BYTES; 9], vec![20 * SHARD_BYTES, 1, 1], vec![0, 0, 9]]
        {
            let shards = shards(&bytes);
            let chunks: Vec<usize> = shards.iter().cloned().flatten().collect();
            assert_eq!(chunks, (0..bytes.len()).collect::<Vec<_>>(), "{bytes:?}");
            assert!(shards.len() <= SHARDS_MAX as usize);
        }
        assert_eq!(shards(&[SHARD_BYTES; 8]), [0..2, 2..4, 4..6, 6..8]);
    }
}
