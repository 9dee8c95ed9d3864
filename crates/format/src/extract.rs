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
    let hops: Vec<_> = recording.hops.iter().map(|(number, name)| (*number, name.clone())).collect();
    writer.hops(&hops)?;
    writer.names(&recording.names)?;
    if !recording.translations.is_empty() {
        writer.translations(&recording.translations)?;
    }
    let (mut read, mut all, mut part, mut bytes) = (0, 0, Part::default(), Vec::new());
    let mut outcome = Ok(());
    recording.for_each_record(|record| {
        read += 1;
        all += record.path.len() as u64;
        if is_wanted(&record) && outcome.is_ok() {
            part.add(&record);
            bytes.clear();
            encode_record(&record.header, record.path, &mut bytes);
            outcome = writer.records(&bytes);
        }
    })?;
    outcome?;
    writer.traffic(traffic)?;
    let mut last = recording.last.clone();
    last.counters.lost_records += recording.balance(read).missing();
    let counters = part.counters(&last.counters, all);
    writer.finish(&Checkpoint { counters, ..last })?;
    Ok(())
}

/// What is counted of a part of a recording's records.
#[derive(Default)]
pub(crate) struct Part {
    records: u64,
    /// Packets that they stand for.
    represented: u64,
    /// Words of their paths.
    words: u64,
}

impl Part {
    pub fn add(&mut self, record: &RecordView<'_>) {
        self.records += 1;
        self.represented += record.header.times();
        self.words += record.path.len() as u64;
    }

    /// The counters of the part of a recording whose paths have `all` words. Each word of a path stands for about one hit of
    /// a probe. Which of the lost packets were of the part is not known: all of them count.
    pub fn counters(&self, whole: &Counters, all: u64) -> Counters {
        let unfinished = whole.started.saturating_sub(whole.filtered).saturating_sub(whole.finished);
        let share =
            |number: u64| (u128::from(number) * u128::from(self.words) / u128::from(all.max(1))) as u64;
        let left_out = self.represented.saturating_sub(self.records);
        let finished = self.records.saturating_add(left_out).saturating_add(whole.lost_records);
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
        let part = Part { records: 25, represented: 27, words: 1 }.counters(&whole, 4);
        assert_eq!((part.started, part.hits, part.lost_records), (35, 1000, 3));
        // 25 records, and 2 packets that others stand for.
        assert_eq!((part.finished, part.left_out), (30, 2));
    }
}
