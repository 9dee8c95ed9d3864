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

/// Writes the records that are wanted, and the names that they need.
pub(super) fn write_records(
    recording: &Recording,
    is_wanted: impl Fn(&RecordView<'_>) -> bool,
    writer: &mut Writer,
) -> Result<Part> {
    let hops: Vec<_> = recording.hops.iter().map(|(number, name)| (*number, name.clone())).collect();
    writer.hops(&hops)?;
    writer.names(&recording.names)?;
    if !recording.translations.is_empty() {
        writer.translations(&recording.translations)?;
    }
    let mut part = Part::default();
    copy_records(recording, is_wanted, writer, &mut part)?;
    Ok(part)
}

/// Writes the records that are wanted, and counts them.
pub(super) fn copy_records(
    recording: &Recording,
    is_wanted: impl Fn(&RecordView<'_>) -> bool,
    writer: &mut Writer,
    part: &mut Part,
) -> Result<()> {
    let (mut bytes, mut outcome) = (Vec::new(), Ok(()));
    recording.for_each_record(|record| {
        part.read(&record);
        if is_wanted(&record) && outcome.is_ok() {
            part.add(&record);
            bytes.clear();
            encode_record(&record.header, record.path, &mut bytes);
            outcome = writer.records(&bytes);
        }
    })?;
    outcome
}

/// What is counted of a part of a recording's records.
#[derive(Default)]
pub(crate) struct Part {
    /// Records of the part, and the packets that they stand for.
    pub records: u64,
    pub represented: u64,
    /// Records that were read.
    pub of: u64,
    /// Words of the part's paths, and of all.
    words: (u64, u64),
}

impl Part {
    /// A record of the recording was read.
    pub fn read(&mut self, record: &RecordView<'_>) {
        self.of += 1;
        self.words.1 += record.path.len() as u64;
    }

    /// It is of the part.
    pub fn add(&mut self, record: &RecordView<'_>) {
        self.records += 1;
        self.represented += record.header.times();
        self.words.0 += record.path.len() as u64;
    }

    /// The part's counters, once all records have been read. Each word of a path stands for about one hit of a probe. Which of
    /// the lost packets were of the part is not known: all of them count.
    pub fn counters(&self, recording: &Recording) -> Counters {
        let whole = &recording.last.counters;
        let lost_records = whole.lost_records.saturating_add(recording.balance(self.of).missing());
        let unfinished = whole.started.saturating_sub(whole.without_record()).saturating_sub(whole.finished);
        let (wanted, all) = self.words;
        let share = |number: u64| (u128::from(number) * u128::from(wanted) / u128::from(all.max(1))) as u64;
        // Packets that were not followed are not counted: the recording's header says how many each stands for.
        let followed = self.represented / recording.header.sample.map_or(1, u64::from).max(1);
        let left_out = followed.saturating_sub(self.records);
        let finished = self.records.saturating_add(left_out).saturating_add(lost_records);
        Counters {
            started: finished.saturating_add(unfinished),
            finished,
            lost_records,
            left_out,
            filtered: 0,
            not_ip: 0,
            unreadable: 0,
            unsampled: 0,
            hits: share(whole.hits),
            record_bytes: share(whole.record_bytes),
            ..whole.clone()
        }
    }
}
