//! Merged paths as the records of a recording.

use std::path::Path;

use anyhow::{Result, ensure};
use overlay_trace_common::{
    behaviour::Delivery,
    flags::RecordFlags,
    path::{NS_MAX, Span},
    record::{Outcome, RecordHeader},
};
use overlay_trace_format::{Writer, encode_path, encode_record};

use super::Paths;
use crate::{
    error::MergeError,
    merged_header::last,
    store::{Crossed, Kind, Record},
};

/// A path has at most 65,535 words, and a span at most four: no recorder writes a leg of more than 250.
const SPANS_MAX: usize = 16_000;

/// What the merged paths add up to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    /// Merged records, and those of them with a crossing.
    pub records: u64,
    pub crossing: u64,
    /// Those that were seen from a packet's creation to its end.
    pub whole: u64,
    /// The time of the legs, of the crossings, and of the merged paths, in ns: the third is the sum of the others.
    pub legs_ns: u128,
    pub crossings_ns: u128,
    pub end_to_end_ns: u128,
}

impl Paths<'_> {
    /// Writes the merged recording, about in the order of time.
    ///
    /// # Errors
    ///
    /// The file cannot be written, a recording cannot be read any more, or a span is longer than a recording can say.
    pub fn write(&mut self, output: &Path, force: bool) -> Result<Sums> {
        // Before anything is replaced.
        ensure!(self.store.longest_ns() <= NS_MAX, MergeError::TooLong);
        let mut sums = Sums::default();
        let mut writer = Writer::create(output, force, &self.numbers.header)?;
        let hops: Vec<_> = self.numbers.hops.iter().map(|(hop, name)| (*hop, name.clone())).collect();
        writer.hops(&hops)?;
        writer.names(&self.numbers.names)?;
        let mut heads = Vec::new();
        for machine in 0..self.machines.len() {
            heads.push(self.next_head(machine, 0)?);
        }
        let mut bytes = Vec::new();
        // The one that ends first on its machine.
        while let Some((machine, head)) = heads
            .iter()
            .enumerate()
            .filter_map(|(machine, head)| Some((machine, (*head)?)))
            .min_by_key(|(_, head)| head.end)
        {
            let (header, spans) = self.merged(head.record, &mut sums)?;
            let spans = bounded(spans);
            if spans.iter().any(|span| span.ns > NS_MAX) {
                writer.discard();
                return Err(MergeError::TooLong.into());
            }
            bytes.clear();
            encode_record(&header, &encode_path(&spans), &mut bytes);
            writer.records(&bytes)?;
            heads[machine] = self.next_head(machine, self.store.place(head.record).1 + 1)?;
        }
        for machine in self.machines {
            writer.traffic(&machine.recording.traffic)?;
        }
        writer.finish(&last(self.machines, self.clocks.reference, sums.records))?;
        Ok(sums)
    }

    /// The machine's first record from this one on that begins a chain.
    fn next_head(&mut self, machine: usize, from: u32) -> Result<Option<Head>> {
        let records =
            (from..self.machines[machine].count).map(|record| self.store.record(machine as u16, record));
        let is_head =
            |record: &Record| self.store.before(*record).is_none_or(|join| join.kind != Kind::Continues);
        let Some(record) = records.into_iter().find(is_head) else { return Ok(None) };
        let end_ns = self.header(record)?.end_ns;
        let end = self.clocks.map(machine as u16, end_ns).unwrap_or(i128::from(end_ns));
        Ok(Some(Head { record, end }))
    }

    /// The merged record of a chain.
    fn merged(&mut self, head: Record, sums: &mut Sums) -> Result<(RecordHeader, Vec<Span>)> {
        let mut path = Merged::default();
        let first = self.header(head)?;
        let mut parent = self.parent_of(head, &first);
        let mut own_flags = first.flags;
        if let Some(join) = self.store.before(head) {
            let level = self.record(join.exit)?.1.last().map_or(0, |span| span.level);
            path.pending = Some((join, Vec::new(), level));
            parent = Some(join.exit);
            own_flags = RecordFlags::CHILD | own_flags.difference(RecordFlags::FROM_DEVICE);
        }
        let (end, last) = self.push_legs(head, &mut path)?;
        let ends = path.is_delivered;
        let total = path.spans.iter().fold(0u64, |sum, span| sum.saturating_add(span.ns));
        let start = self.start_of_head(head, 0)?;
        let start_ns = start.clamp(0, i128::from(u64::MAX / 2)) as u64;
        sums.records += 1;
        sums.crossing += u64::from(path.crossings > 0);
        let begins = !first.flags.has(RecordFlags::FROM_DEVICE | RecordFlags::UNKNOWN_START);
        sums.whole += u64::from(path.crossings > 0 && begins && ends);
        sums.legs_ns += path.legs_ns;
        sums.crossings_ns += path.crossings_ns;
        sums.end_to_end_ns += u128::from(total);
        let machine = self.store.place(end).0;
        let header = RecordHeader {
            id: id_of(head),
            parent: parent.map_or(0, |parent| id_of(self.head_of(parent))),
            start_ns,
            end_ns: start_ns.saturating_add(total),
            flags: own_flags | path.flags,
            outcome: path.outcome.map_or(last.outcome, |outcome| outcome as u8),
            segments: match path.outcome {
                Some(Outcome::Split) => self.store.parts(end),
                Some(_) => first.segments,
                // The packets on the wire that a record stands for: those that were merged on the last machine count.
                None => first.segments.max(last.segments),
            },
            drop_location: last.drop_location,
            drop_reason: self.numbers.reason(machine, last.drop_reason),
            cpu: self.numbers.cpu(machine, last.cpu),
            ..first
        };
        Ok((header, path.spans))
    }

    /// Appends all legs of a chain; returns its last record.
    fn push_legs(&mut self, head: Record, path: &mut Merged) -> Result<(Record, RecordHeader)> {
        let mut record = head;
        loop {
            let (header, spans) = self.record(record)?;
            path.flags |= header.flags & (RecordFlags::PARENT | RecordFlags::PATH_FULL);
            let mut spans = &spans[..];
            if let Some((join, driver, level)) = path.pending.take() {
                let (arrival, leg) = spans.split_at(self.arrival_spans(record, &header, spans));
                let arrival: Vec<Span> = arrival.iter().map(|span| self.numbered(record, span)).collect();
                self.push_crossing(&join, (&driver, &arrival), level, path);
                spans = leg;
            }
            let Some(join) = self.store.after(record) else {
                path.is_delivered = self.is_delivered(record, &header, spans);
                self.push_leg(record, spans, path);
                return Ok((record, header));
            };
            path.crossings += 1;
            let (leg, driver) = spans.split_at(spans.len() - self.driver_spans(record, &header, spans));
            self.push_leg(record, leg, path);
            if join.kind == Kind::Cut {
                path.outcome = Some(Outcome::Split);
                path.flags |= RecordFlags::PARENT;
                return Ok((record, header));
            }
            let driver: Vec<Span> = driver.iter().map(|span| self.numbered(record, span)).collect();
            let level = driver.first().or(path.spans.last()).map_or(0, |span| span.level);
            if join.kind == Kind::Merged {
                self.push_crossing(&join, (&driver, &[]), level, path);
                path.outcome = Some(Outcome::Merged);
                return Ok((record, header));
            }
            record = join.entry;
            path.pending = Some((join, driver, level));
        }
    }

    /// Whether a path ends at the packet's reader.
    fn is_delivered(&self, record: Record, header: &RecordHeader, spans: &[Span]) -> bool {
        let machine = &self.machines[usize::from(self.store.place(record).0)];
        let row = |span: &Span| machine.recording.header.stages.get(usize::from(span.stage));
        let mut rows = spans.iter().rev().filter_map(row).filter(|row| !row.behaviour.interrupts);
        match Outcome::from_u8(header.outcome) {
            Some(Outcome::Delivered) => true,
            // What has come in by a device and is freed in IP was for this machine.
            Some(Outcome::Freed) => rows.next().is_some_and(|row| row.behaviour.delivers != Delivery::No),
            _ => false,
        }
    }

    /// A span in the numbers of the merged recording.
    fn numbered(&self, record: Record, span: &Span) -> Span {
        let machine = self.store.place(record).0;
        Span {
            hop: self.numbers.hop(machine, span.hop),
            stage: self.numbers.stage(machine, span.stage),
            cpu: span.cpu.map(|cpu| self.numbers.cpu(machine, cpu)),
            ..*span
        }
    }

    fn push_leg(&self, record: Record, spans: &[Span], path: &mut Merged) {
        path.legs_ns += spans.iter().map(|span| u128::from(span.ns)).sum::<u128>();
        path.spans.extend(spans.iter().map(|span| self.numbered(record, span)));
    }

    /// Appends a crossing, which begins with the driver's handing over. It ends with the packet's wait in the other machine's
    /// device: no longer than the crossing, which is known better.
    fn push_crossing(
        &self,
        join: &Crossed,
        (driver, arrival): (&[Span], &[Span]),
        level: u8,
        path: &mut Merged,
    ) {
        path.crossings_ns += u128::from(join.ns);
        let mut left = join.ns;
        for span in driver {
            let ns = span.ns.min(left);
            left -= ns;
            if ns > 0 {
                path.spans.push(Span { ns, ..*span });
            }
        }
        let (stage, hop) = self.numbers.crossing(join.devices.0, join.devices.1);
        let cpu = path.spans.last().and_then(|span| span.cpu);
        let mut waits = Vec::new();
        for span in arrival.iter().rev() {
            let ns = span.ns.min(left);
            left -= ns;
            waits.push(Span { ns, ..*span });
        }
        path.spans.push(Span { ns: left, hop, level, stage, cpu });
        path.spans.extend(waits.into_iter().rev().filter(|span| span.ns > 0));
    }
}

/// The first record of a chain, and when it ends on the merged clock.
#[derive(Clone, Copy)]
struct Head {
    record: Record,
    end: i128,
}

/// A chain's path, as far as it goes.
#[derive(Default)]
struct Merged {
    spans: Vec<Span>,
    crossings: u32,
    legs_ns: u128,
    crossings_ns: u128,
    flags: RecordFlags,
    is_delivered: bool,
    /// The crossing to the next record, the driver's spans before it, and its level.
    pending: Option<(Crossed, Vec<Span>, u8)>,
    /// Where the last record's is not the chain's.
    outcome: Option<Outcome>,
}

/// A chain's number in the merged recording.
fn id_of(head: Record) -> u64 {
    u64::from(head) + 1
}

/// The spans that a record has room for; the time of the others is the last one's.
fn bounded(mut spans: Vec<Span>) -> Vec<Span> {
    if spans.len() > SPANS_MAX {
        let rest = spans.split_off(SPANS_MAX);
        if let Some(last) = spans.last_mut() {
            last.ns = rest.iter().fold(last.ns, |sum, span| sum.saturating_add(span.ns));
        }
    }
    spans
}
