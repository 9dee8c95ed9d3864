//! A part of a recording as a recording of its own.

use std::path::Path;

use anyhow::Result;

use super::{Checkpoint, Counters, Header, RecordView, Recording, Writer, encode_record};

/// Writes the records that are wanted to a file, which may exist, under this header and with these results of
/// traffic. Losses are not known by part: their counters stay those of the whole recording.
///
/// # Errors
///
/// One sentence: one of the files cannot be read or written.
pub fn extract(
    recording: &Recording,
    is_wanted: impl Fn(&RecordView<'_>) -> bool,
    path: &Path,
    header: &Header,
    traffic: &[serde_json::Value],
) -> Result<()> {
    let mut writer = Writer::create(path, true, header)?;
    let written = write_records(recording, is_wanted, &mut writer)?;
    writer.traffic(traffic)?;
    writer.finish(&Checkpoint { counters: written.counters(recording), ..recording.last.clone() })?;
    Ok(())
}

/// What was written of a recording.
#[derive(Default)]
pub(super) struct Written {
    /// Records that were written, and how many packets they stand for.
    pub records: u64,
    represented: u64,
    /// Records that were read.
    pub of: u64,
    /// Words of the paths that were written, and of all.
    words: (u64, u64),
}

/// Writes the records that are wanted, and the names that they need.
pub(super) fn write_records(
    recording: &Recording,
    is_wanted: impl Fn(&RecordView<'_>) -> bool,
    writer: &mut Writer,
) -> Result<Written> {
    let hops: Vec<_> = recording.hops.iter().map(|(number, name)| (*number, name.clone())).collect();
    writer.hops(&hops)?;
    writer.names(&recording.names)?;
    if !recording.translations.is_empty() {
        writer.translations(&recording.translations)?;
    }
    let (mut written, mut bytes, mut outcome) = (Written::default(), Vec::new(), Ok(()));
    recording.for_each_record(|record| {
        let words = record.path.len() as u64;
        written.of += 1;
        written.words.1 += words;
        if is_wanted(&record) && outcome.is_ok() {
            written.words.0 += words;
            written.records += 1;
            written.represented += record.header.times();
            bytes.clear();
            encode_record(&record.header, record.path, &mut bytes);
            outcome = writer.records(&bytes);
        }
    })?;
    outcome?;
    Ok(written)
}

impl Written {
    /// The counters of what was written.
    pub fn counters(&self, recording: &Recording) -> Counters {
        let mut whole = recording.last.counters.clone();
        whole.lost_records = whole.lost_records.saturating_add(recording.balance(self.of).missing());
        part(&whole, (self.records, self.represented), self.words)
    }
}

/// The counters of a part of so many records, which stand for so many packets, and whose paths have `wanted` of `all`
/// words. Each word of a path stands for about one hit of a probe. Which of the lost packets were of the part is not
/// known: all of them count.
fn part(whole: &Counters, (records, represented): (u64, u64), (wanted, all): (u64, u64)) -> Counters {
    let unfinished = whole.started.saturating_sub(whole.filtered).saturating_sub(whole.finished);
    let share = |number: u64| (u128::from(number) * u128::from(wanted) / u128::from(all.max(1))) as u64;
    let left_out = represented - records;
    let finished = (records + left_out).saturating_add(whole.lost_records);
    Counters {
        started: finished.saturating_add(unfinished),
        finished,
        left_out,
        filtered: 0,
        hits: share(whole.hits),
        record_bytes: share(whole.record_bytes),
        ..whole.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_has_its_packets_and_the_losses_of_the_whole() {
        let whole = Counters {
            started: 110,
            filtered: 5,
            finished: 100,
            hits: 4000,
            lost_records: 3,
            ..Counters::default()
        };
        let part = part(&whole, (25, 27), (1, 4));
        assert_eq!((part.started, part.hits, part.lost_records), (35, 1000, 3));
        // 25 records, and 2 packets that others stand for.
        assert_eq!((part.finished, part.left_out), (30, 2));
    }
}
