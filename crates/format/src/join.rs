//! Recordings of one machine, one after the other, as one.

use std::{collections::HashMap, path::Path};

use anyhow::{Context, Result, bail, ensure};
use overlay_trace_common::path::{CODE_POSITION, HOP_MASK, VALUE_BITS};

use super::{Checkpoint, Counters, Header, HopName, Recording, Writer, encode_record, error::shown};

/// What was joined.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Joined {
    pub records: u64,
    /// The time between the end of a recording and the start of the next, added up, in ns: nothing is known of it.
    pub gaps_ns: u64,
    /// Bytes of the file.
    pub bytes: u64,
}

/// Joins recordings of one machine in the order of their time. What the kernel's own counters and the NICs counted is left
/// out: it was counted for each recording.
///
/// # Errors
///
/// One sentence: they are of different machines, overlap, or were made in different ways; a file cannot be read or written.
pub fn join(mut recordings: Vec<Recording>, path: &Path, force: bool) -> Result<Joined> {
    recordings.sort_by_key(|recording| recording.header.start_monotonic_ns);
    let (Some(first), Some(last)) = (recordings.first(), recordings.last()) else {
        bail!("no recording was given");
    };
    for pair in recordings.windows(2) {
        check(&pair[0], &pair[1])?;
    }
    let duration_ns = end_ns(last).saturating_sub(first.header.start_monotonic_ns);
    let header = joined_header(&recordings, &first.header);
    let mut joiner = Joiner {
        writer: Writer::create(path, force, &header)?,
        hops: Hops::default(),
        next_id: 0,
        joined: Joined::default(),
        counters: None,
    };
    for recording in &recordings {
        joiner.add(recording, first.header.start_monotonic_ns)?;
    }
    for pair in recordings.windows(2) {
        joiner.joined.gaps_ns += pair[1].header.start_monotonic_ns.saturating_sub(end_ns(&pair[0]));
    }
    let counters = joiner.counters.unwrap_or_default();
    joiner.joined.bytes = joiner.writer.finish(&Checkpoint { duration_ns, counters, clocks: None })?;
    Ok(joiner.joined)
}

/// The end of a recording, in ns of its clock.
fn end_ns(recording: &Recording) -> u64 {
    recording.header.start_monotonic_ns.saturating_add(recording.last.duration_ns)
}

/// Whether `second` can follow `first`.
fn check(first: &Recording, second: &Recording) -> Result<()> {
    let (a, b) = (&first.header, &second.header);
    let names = format!("{} and {}", shown(first.path()), shown(second.path()));
    let boot = |header: &Header| header.machine.as_ref().map(|machine| machine.boot_id.clone());
    ensure!(
        a.node == b.node && boot(a) == boot(b) && a.kernel == b.kernel,
        "{names} are not of one start of one machine: `overlay-trace merge` joins those of several"
    );
    ensure!(
        (&a.probe_set, &a.filter, &a.sampling, a.sample) == (&b.probe_set, &b.filter, &b.sampling, b.sample),
        "{names} were made in different ways (probe set, filter or sampling): compare them with `overlay-trace diff`"
    );
    let names_of = |header: &Header| header.stages.iter().map(|row| row.name.clone()).collect::<Vec<_>>();
    ensure!(
        names_of(a) == names_of(b),
        "{names} were made by different versions of overlay-trace, whose stages differ: report on each of them"
    );
    ensure!(
        end_ns(first) <= b.start_monotonic_ns,
        "{names} overlap in time, so packets would count twice: cut one of them first (`overlay-trace cut --to`)"
    );
    Ok(())
}

/// The first one's header. A stage is unseen where no recording saw it, and seen later where the first did not see it.
fn joined_header(recordings: &[Recording], first: &Header) -> Header {
    let mut header = first.clone();
    header.command = "overlay-trace cat".into();
    header.unseen_stages.retain(|unseen| {
        recordings
            .iter()
            .all(|other| other.header.unseen_stages.iter().any(|theirs| theirs.stage == unseen.stage))
    });
    header
}

struct Joiner {
    writer: Writer,
    hops: Hops,
    /// Above all ids so far.
    next_id: u64,
    joined: Joined,
    counters: Option<Counters>,
}

impl Joiner {
    fn add(&mut self, recording: &Recording, start_ns: u64) -> Result<()> {
        let mut new = Vec::new();
        let numbers = self.hops.take(recording, &mut new)?;
        self.writer.hops(&new)?;
        self.writer.names(&recording.names)?;
        self.writer.traffic(&recording.traffic)?;
        if !recording.translations.is_empty() {
            self.writer.translations(&recording.translations)?;
        }
        let records = self.records(recording, &numbers)?;
        let counters = counters(recording, records);
        let sum = self.counters.take().map_or_else(|| counters.clone(), |sum| sum.plus(&counters));
        let duration_ns = end_ns(recording).saturating_sub(start_ns);
        for clocks in &recording.clocks {
            self.writer.checkpoint(&Checkpoint {
                duration_ns,
                counters: sum.clone(),
                clocks: Some(*clocks),
            })?;
        }
        self.counters = Some(sum);
        Ok(())
    }

    /// Writes the records, with ids above those of the recordings before.
    fn records(&mut self, recording: &Recording, numbers: &HashMap<u16, u16>) -> Result<u64> {
        let (base, mut highest, mut count) = (self.next_id, self.next_id, 0);
        let (mut path, mut bytes, mut outcome) = (Vec::new(), Vec::new(), Ok(()));
        let writer = &mut self.writer;
        recording.for_each_record(|record| {
            if outcome.is_err() {
                return;
            }
            let renumbered = |id: u64| if id == 0 { Some(0) } else { id.checked_add(base) };
            let mut header = record.header;
            let (Some(id), Some(parent)) = (renumbered(header.id), renumbered(header.parent)) else {
                outcome = Err(anyhow::anyhow!("too many recordings for one file: join fewer of them"));
                return;
            };
            (header.id, header.parent) = (id, parent);
            highest = highest.max(id).max(parent);
            path.clear();
            path.extend(record.path.iter().map(|&word| renumber(word, numbers)));
            bytes.clear();
            encode_record(&header, &path, &mut bytes);
            count += 1;
            outcome = writer.records(&bytes);
        })?;
        outcome?;
        self.next_id = highest.saturating_add(1);
        self.joined.records += count;
        Ok(count)
    }
}

/// A word of a path, with the hop's other number.
fn renumber(word: u32, numbers: &HashMap<u16, u16>) -> u32 {
    if (word >> VALUE_BITS) as u8 != CODE_POSITION {
        return word;
    }
    let hop = (word & HOP_MASK) as u16;
    word & !HOP_MASK | u32::from(numbers.get(&hop).copied().unwrap_or(0))
}

/// The counters of a recording, so that they count the records that it has: one that ended abruptly may have more.
fn counters(recording: &Recording, records: u64) -> Counters {
    let mut counters = recording.last.counters.clone();
    let missing = recording.balance(records).missing();
    counters.lost_records = counters.lost_records.saturating_add(missing);
    counters.finished = records.saturating_add(counters.left_out).saturating_add(counters.lost_records);
    counters.started = counters.started.max(counters.finished);
    counters
}

/// The hops of all recordings, by name.
#[derive(Default)]
struct Hops {
    numbers: HashMap<(u32, u32, String, String), u16>,
}

impl Hops {
    /// The new numbers of a recording's hops. Those that the recordings before do not have are added to `new`.
    fn take(&mut self, recording: &Recording, new: &mut Vec<(u16, HopName)>) -> Result<HashMap<u16, u16>> {
        let mut numbers = HashMap::new();
        // 0 stands for an unknown hop.
        for (&number, hop) in recording.hops.iter().filter(|(number, _)| **number != 0) {
            let key = (hop.netns_inode, hop.ifindex, hop.netns.clone(), hop.device.clone());
            let next = u16::try_from(self.numbers.len() + 1)
                .context("the recordings have too many devices to be joined")?;
            let joined = *self.numbers.entry(key).or_insert(next);
            if joined == next {
                new.push((next, hop.clone()));
            }
            numbers.insert(number, joined);
        }
        Ok(numbers)
    }
}
