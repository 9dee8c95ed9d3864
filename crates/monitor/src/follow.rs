//! Packets of a recording in progress, or of a file, a part at a time.

use std::{
    collections::BTreeMap,
    ops::Range,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Result;
use overlay_trace_analysis::breakdown::{Analysis, By, Collector};
use overlay_trace_format::{Checkpoint, HopName, ReadError, Recording, segments};

/// Packets that have ended since the last time.
pub struct Tick<'a> {
    pub analysis: &'a Analysis,
    pub hops: &'a BTreeMap<u16, HopName>,
    /// The recorder's counters since the beginning.
    pub last: &'a Checkpoint,
}

fn analysis(recording: &Recording, chunks: Range<usize>) -> Result<Analysis> {
    let mut collector = Collector::new(&recording.header, &recording.hops, By::Stage);
    recording.for_each_record_of(chunks, |record| collector.add(&record))?;
    let mut analysis = collector.finish(&recording.names);
    analysis.last = recording.last.clone();
    Ok(analysis)
}

/// Follows the segments that a recorder writes to a folder.
///
/// A packet whose parts end in two ticks has its parts counted as such whose parent is not known
/// ([`Analysis::orphans`]): a few in a second.
pub struct Follower {
    folder: PathBuf,
    current: Option<Recording>,
    /// Number of the current segment, or of the last one that was read.
    number: u64,
    /// Chunks of it that have been read.
    read: usize,
    /// Segments that were removed before they were read.
    pub missed_segments: u64,
}

impl Follower {
    pub fn new(folder: &Path) -> Follower {
        Follower { folder: folder.into(), current: None, number: 0, read: 0, missed_segments: 0 }
    }

    /// Calls `each` with the packets that are new, segment by segment.
    ///
    /// # Errors
    ///
    /// A segment cannot be read, or is damaged.
    pub fn poll(&mut self, mut each: impl FnMut(&Tick<'_>)) -> Result<()> {
        while self.open()? {
            // A segment is created when the one before it has ended: what is read now is all of that one.
            let is_followed = self.later_segments().next().is_some();
            let Some(recording) = &mut self.current else { return Ok(()) };
            recording.refresh()?;
            let new = self.read..recording.chunk_bytes().len();
            self.read = new.end;
            let tick = analysis(recording, new)?;
            each(&Tick { analysis: &tick, hops: &recording.hops, last: &recording.last });
            if !is_followed && !recording.complete {
                return Ok(());
            }
            self.current = None;
        }
        Ok(())
    }

    /// Leaves the rest of the current segment out.
    pub fn skip(&mut self) {
        self.current = None;
    }

    /// The segments behind the current one, or behind the last one that was read.
    fn later_segments(&self) -> impl Iterator<Item = (u64, PathBuf)> {
        let number = self.number;
        segments(&self.folder).into_iter().filter(move |(other, _)| *other > number)
    }

    /// Opens the next segment unless one is open; whether there is one.
    fn open(&mut self) -> Result<bool> {
        if self.current.is_some() {
            return Ok(true);
        }
        let mut later = self.later_segments().peekable();
        while let Some((number, path)) = later.next() {
            let recording = match Recording::open(&path) {
                // It was removed, or given up on a full disk.
                Err(_) if later.peek().is_some() => continue,
                // It is being begun.
                Err(ReadError::EndsBeforeHeader { .. } | ReadError::NotARecording { .. }) => {
                    return Ok(false);
                }
                other => other?,
            };
            drop(later);
            self.missed_segments += number - self.number - 1;
            (self.number, self.read, self.current) = (number, 0, Some(recording));
            return Ok(true);
        }
        Ok(false)
    }
}

/// Plays a recording again, in parts of about so much of its time.
pub struct Replay {
    recording: Recording,
    next: usize,
    /// The time of the recording that has been played.
    played: Duration,
}

impl Replay {
    pub fn new(recording: Recording) -> Replay {
        Replay { recording, next: 0, played: Duration::ZERO }
    }

    pub fn recording(&self) -> &Recording {
        &self.recording
    }

    /// The time of the recording that has been played, and whether that is all of it.
    pub fn played(&self) -> (Duration, bool) {
        (self.played, self.next >= self.recording.chunk_bytes().len())
    }

    /// Calls `each` with the packets of the next part, if there are any.
    ///
    /// # Errors
    ///
    /// The recording cannot be read, or is damaged.
    pub fn step(&mut self, time: Duration, each: impl FnOnce(&Tick<'_>)) -> Result<()> {
        let (all, start_ns) = (self.recording.chunk_bytes().len(), self.recording.header.start_monotonic_ns);
        let end = self.played + time;
        let (first, mut ended) = (self.next, self.played);
        while self.next < all && ended < end {
            let mut last_ns = 0;
            let chunk = self.next..self.next + 1;
            self.recording.for_each_record_of(chunk, |record| last_ns = record.header.end_ns.max(last_ns))?;
            ended = ended.max(Duration::from_nanos(last_ns.saturating_sub(start_ns)));
            self.next += 1;
        }
        self.played = if self.next < all { end } else { ended };
        let tick = analysis(&self.recording, first..self.next)?;
        each(&Tick { analysis: &tick, hops: &self.recording.hops, last: &self.recording.last });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use overlay_trace_common::{path::Span, record::RecordHeader};
    use overlay_trace_format::{Counters, Header, RING_MIN, RingFolder, Writer, encode_path, encode_record};

    use super::*;

    /// One second of a recorder: so many packets, each with a record of some 50 KB, and a checkpoint.
    fn second(writer: &mut Writer, number: u64, packets: u64) {
        for packet in 0..packets {
            let id = number * packets + packet + 1;
            // Times that do not get shorter by compression.
            let ns = |place: u64| (id * 12_000 + place).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 44;
            let spans: Vec<Span> =
                (0..12_000).map(|place| Span { ns: ns(place), stage: 1, ..Span::default() }).collect();
            let end_ns = spans.iter().map(|span| span.ns).sum();
            let header = RecordHeader { id, end_ns, ..RecordHeader::default() };
            let mut bytes = Vec::new();
            encode_record(&header, &encode_path(&spans), &mut bytes);
            writer.records(&bytes).unwrap();
        }
        let counters = Counters { finished: (number + 1) * packets, ..Counters::default() };
        writer.checkpoint(&Checkpoint { counters, ..Checkpoint::default() }).unwrap();
    }

    #[test]
    fn every_packet_of_the_segments_is_seen_once() {
        let dir = tempfile::TempDir::new().unwrap();
        let folder = dir.path().join("ring");
        let mut writer =
            Writer::create_ring(RingFolder::take(&folder, RING_MIN).unwrap(), &Header::new()).unwrap();
        let mut follower = Follower::new(&folder);
        let (mut seen, mut counted) = (0, 0);
        for number in 0..60 {
            second(&mut writer, number, 4);
            // Sometimes several segments have ended since.
            if number % 7 != 3 {
                continue;
            }
            follower
                .poll(|tick| {
                    seen += tick.analysis.packets();
                    counted = tick.last.counters.finished;
                })
                .unwrap();
            assert_eq!((seen, counted), ((number + 1) * 4, (number + 1) * 4));
        }
        assert_eq!(follower.missed_segments, 0);
    }

    #[test]
    fn a_follower_that_is_too_slow_counts_what_it_missed() {
        let dir = tempfile::TempDir::new().unwrap();
        let folder = dir.path().join("ring");
        let mut writer =
            Writer::create_ring(RingFolder::take(&folder, RING_MIN).unwrap(), &Header::new()).unwrap();
        let mut follower = Follower::new(&folder);
        follower.poll(|_| ()).unwrap();
        (0..200).for_each(|number| second(&mut writer, number, 4));
        let mut seen = 0;
        follower.poll(|tick| seen += tick.analysis.packets()).unwrap();
        assert!(follower.missed_segments > 10 && seen < 800, "{} {seen}", follower.missed_segments);
    }
}
