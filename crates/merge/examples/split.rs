//! Splits a recording of one machine by namespace into recordings of two, the second with another clock: a test of `merge`
//! in which the true clocks are known.
//!
//! `split IN NAMESPACE OFFSET_NS DRIFT_PPM FIRST SECOND`: what begins in NAMESPACE goes to SECOND.

use std::{env, path::Path};

use anyhow::{Context, Result};
use overlay_trace_format::{Checkpoint, Counters, Header, Machine, Recording, Writer, encode_record};

fn main() -> Result<()> {
    let words: Vec<String> = env::args().skip(1).collect();
    let [input, netns, offset, drift, first, second] = &words[..] else {
        anyhow::bail!("split IN NAMESPACE OFFSET_NS DRIFT_PPM FIRST SECOND");
    };
    let recording = Recording::open(input)?;
    let (offset, drift): (i64, f64) = (offset.parse()?, drift.parse()?);
    let start = recording.header.start_monotonic_ns;
    let other = |ns: u64| {
        let since = ns as i64 - start as i64;
        (ns as i64 + offset + (since as f64 * drift / 1e6).round() as i64).max(0) as u64
    };
    write(&recording, Path::new(first), "one", |hops| !hops.contains(netns), |ns| ns)?;
    write(&recording, Path::new(second), "two", |hops| hops.contains(netns), other)
}

/// Writes the records whose first known namespace is wanted.
fn write(
    recording: &Recording,
    path: &Path,
    node: &str,
    is_wanted: impl Fn(&String) -> bool,
    clock: impl Fn(u64) -> u64,
) -> Result<()> {
    let header = Header {
        node: node.to_owned(),
        start_monotonic_ns: clock(recording.header.start_monotonic_ns),
        machine: Some(Machine { boot_id: node.to_owned(), ..Machine::default() }),
        ..recording.header.clone()
    };
    let mut writer = Writer::create(path, true, &header).context("cannot create a recording")?;
    let hops: Vec<_> = recording.hops.iter().map(|(hop, name)| (*hop, name.clone())).collect();
    writer.hops(&hops)?;
    let (mut bytes, mut count) = (Vec::new(), 0);
    recording.for_each_record(|record| {
        let hop = record.spans().find(|span| span.hop != 0).map_or(0, |span| span.hop);
        if recording.hops.get(&hop).is_some_and(|name| is_wanted(&name.netns)) {
            let mut header = record.header;
            let length = header.end_ns - header.start_ns;
            header.start_ns = clock(header.start_ns);
            header.end_ns = header.start_ns + length;
            encode_record(&header, record.path, &mut bytes);
            count += 1;
        }
    })?;
    writer.records(&bytes)?;
    let counters = Counters { started: count, finished: count, ..Counters::default() };
    writer.finish(&Checkpoint { duration_ns: recording.last.duration_ns, counters, clocks: None })?;
    Ok(())
}
