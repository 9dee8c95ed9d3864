//! The merged paths: legs and crossings one after the other, each nanosecond with one owner.
//!
//! The durations of a leg are its machine's own nanoseconds, unchanged; a crossing is the difference of its two ends on
//! the reference clock. End to end is *defined* as the sum of these, so that nothing is rounded twice.

use std::{iter, path::Path};

use anyhow::{Result, ensure};
use overlay_trace_common::{
    flags::RecordFlags,
    path::{NS_MAX, Span},
    record::{Outcome, RecordHeader},
};
use overlay_trace_format::{Writer, encode_path, encode_record};
use rustc_hash::FxHashMap;

use crate::{
    edge::Passage,
    error::MergeError,
    join::{How, Join, Joined},
    machine::Machine,
    merged_header::{Numbers, last},
};

/// So many generations of packets that were made of others are followed to the first one.
const GENERATIONS_MAX: u32 = 64;

/// A path has at most 65,535 words, and a span at most four: no recorder writes a leg of more than 250.
const SPANS_MAX: usize = 16_000;

/// A record, by its machine and its number.
type Record = (u16, u32);

/// What was before a record: the number of a join.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Before {
    #[default]
    Nothing,
    Continues(u32),
    /// It is a part of a packet that left the other machine as a whole.
    CutFrom(u32),
}

/// What is behind a record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum After {
    #[default]
    Nothing,
    Continues(u32),
    /// So many parts of it came in on the other machine.
    Cut(u16, u32),
    /// On the other machine it has become a part of a packet that another one continues as.
    Merged(u32),
}

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

/// The paths of all machines, joined.
pub struct Paths<'a> {
    machines: &'a [Machine],
    joined: &'a Joined,
    exits: &'a [Passage],
    entries: &'a [Passage],
    numbers: Numbers,
    before: Vec<Vec<Before>>,
    after: Vec<Vec<After>>,
    /// By machine and record: the number of its chain, and its start on the merged clock.
    chain: Vec<Vec<u32>>,
    base: Vec<Vec<Option<i128>>>,
    /// The first record of each chain.
    heads: Vec<Record>,
    /// By machine: records by their number in the recording.
    by_id: Vec<FxHashMap<u64, u32>>,
}

impl<'a> Paths<'a> {
    /// Chains the records of the machines at their joins.
    ///
    /// # Errors
    ///
    /// The machines have more stages or devices than one recording can name.
    pub fn new(
        machines: &'a [Machine],
        joined: &'a Joined,
        exits: &'a [Passage],
        entries: &'a [Passage],
    ) -> Result<Paths<'a>> {
        fn of_each<T: Clone>(machines: &[Machine], value: T) -> Vec<Vec<T>> {
            machines.iter().map(|machine| vec![value.clone(); machine.records.len()]).collect()
        }
        let by_id = |machine: &Machine| {
            let records = machine.records.iter().enumerate();
            records.map(|(number, record)| (record.header.id, number as u32)).collect()
        };
        let mut paths = Paths {
            machines,
            joined,
            exits,
            entries,
            numbers: Numbers::new(machines, &joined.links, joined.clocks.reference)?,
            before: of_each(machines, Before::Nothing),
            after: of_each(machines, After::Nothing),
            chain: of_each(machines, 0),
            base: of_each(machines, None),
            heads: Vec::new(),
            by_id: machines.iter().map(by_id).collect(),
        };
        paths.link();
        paths.number_chains();
        for chain in 0..paths.heads.len() {
            paths.place(chain as u32, 0);
        }
        Ok(paths)
    }

    fn link(&mut self) {
        let mut of_exit: FxHashMap<u32, u16> = FxHashMap::default();
        // By entry: the join whose exit has the first of its data.
        let mut first_of: FxHashMap<u32, u32> = FxHashMap::default();
        for (number, join) in self.joined.joins.iter().enumerate() {
            let count = of_exit.entry(join.exit).or_default();
            *count = count.saturating_add(1);
            let offset = |join: &Join| {
                let entry = &self.entries[join.entry as usize];
                self.exits[join.exit as usize].flow.sequence.wrapping_sub(entry.flow.sequence)
            };
            let first = first_of.entry(join.entry).or_insert(number as u32);
            if offset(join) < offset(&self.joined.joins[*first as usize]) {
                *first = number as u32;
            }
        }
        for (number, join) in self.joined.joins.iter().enumerate() {
            let number = number as u32;
            let (exit, entry) = (&self.exits[join.exit as usize], &self.entries[join.entry as usize]);
            let (from, to) = (record_of(exit), record_of(entry));
            let is_cut = join.how == How::Part && exit.bytes > entry.bytes;
            if is_cut {
                *at(&mut self.after, from) = After::Cut(of_exit[&join.exit], number);
                *at(&mut self.before, to) = Before::CutFrom(number);
            } else if first_of[&join.entry] == number {
                *at(&mut self.after, from) = After::Continues(number);
                *at(&mut self.before, to) = Before::Continues(number);
            } else {
                *at(&mut self.after, from) = After::Merged(number);
            }
        }
    }

    fn number_chains(&mut self) {
        for machine in 0..self.machines.len() {
            for record in 0..self.machines[machine].records.len() {
                let head = (machine as u16, record as u32);
                if matches!(self.before[machine][record], Before::Continues(_)) {
                    continue;
                }
                let chain = self.heads.len() as u32;
                self.heads.push(head);
                let records: Vec<Record> = self.records(head).collect();
                records.into_iter().for_each(|record| *at(&mut self.chain, record) = chain);
            }
        }
    }

    /// The records of a chain from this one on.
    fn records(&self, head: Record) -> impl Iterator<Item = Record> {
        iter::successors(Some(head), move |&(machine, record)| {
            match self.after[usize::from(machine)][record as usize] {
                After::Continues(join) => {
                    Some(record_of(&self.entries[self.joined.joins[join as usize].entry as usize]))
                }
                _ => None,
            }
        })
    }

    fn header(&self, (machine, record): Record) -> &RecordHeader {
        &self.machines[usize::from(machine)].records[record as usize].header
    }

    fn base(&self, (machine, record): Record) -> Option<i128> {
        self.base[usize::from(machine)][record as usize]
    }

    /// How long the crossing of a join takes, in ns.
    fn crossing_ns(&self, join: u32) -> u64 {
        let Join { exit, entry, .. } = self.joined.joins[join as usize];
        let mapped = |passage: &Passage| self.joined.clocks.map(passage.device.machine, passage.ns);
        let (exit, entry) = (mapped(&self.exits[exit as usize]), mapped(&self.entries[entry as usize]));
        // Joins of less than no time have been undone.
        exit.zip(entry).map_or(0, |(exit, entry)| (entry - exit).max(0) as u64)
    }

    /// How long the leg was on its way when it left its machine, in ns.
    fn leg_ns(&self, exit: &Passage) -> u64 {
        exit.ns.saturating_sub(self.header(record_of(exit)).start_ns)
    }

    /// Gives the records of a chain their start on the merged clock.
    fn place(&mut self, chain: u32, generation: u32) {
        let head = self.heads[chain as usize];
        if self.base(head).is_some() {
            return;
        }
        let mut start = self.start_of(head, generation);
        let records: Vec<Record> = self.records(head).collect();
        for record in records {
            if let Before::Continues(join) = *at(&mut self.before, record) {
                let exit = &self.exits[self.joined.joins[join as usize].exit as usize];
                start += i128::from(self.leg_ns(exit)) + i128::from(self.crossing_ns(join));
            }
            *at(&mut self.base, record) = Some(start);
        }
    }

    /// When a chain starts: a packet that was made of another one in that one's time.
    fn start_of(&mut self, head: Record, generation: u32) -> i128 {
        let header = *self.header(head);
        let alone = self.joined.clocks.map(head.0, header.start_ns).unwrap_or(i128::from(header.start_ns));
        if generation >= GENERATIONS_MAX {
            return alone;
        }
        let (parent, since) = match *at(&mut self.before, head) {
            Before::CutFrom(join) => {
                let exit = &self.exits[self.joined.joins[join as usize].exit as usize];
                (Some(record_of(exit)), i128::from(self.leg_ns(exit)))
            }
            _ => {
                let is_child = header.flags.has(RecordFlags::CHILD);
                let parent = self.by_id[usize::from(head.0)].get(&header.parent).filter(|_| is_child);
                let parent = parent.map(|&record| (head.0, record)).filter(|&parent| parent != head);
                let since = parent.map_or(0, |parent| {
                    i128::from(header.start_ns) - i128::from(self.header(parent).start_ns)
                });
                (parent, since)
            }
        };
        let Some(parent) = parent else { return alone };
        let chain = *at(&mut self.chain, parent);
        self.place(chain, generation + 1);
        self.base(parent).map_or(alone, |base| base + since)
    }

    /// Writes the merged recording.
    ///
    /// # Errors
    ///
    /// The file cannot be written, or a span is longer than a recording can say.
    pub fn write(&self, output: &Path, force: bool) -> Result<Sums> {
        // Before anything is replaced.
        ensure!(
            (0..self.joined.joins.len() as u32).all(|join| self.crossing_ns(join) <= NS_MAX),
            MergeError::TooLong
        );
        let mut sums = Sums::default();
        let mut writer = Writer::create(output, force, &self.numbers.header)?;
        let hops: Vec<_> = self.numbers.hops.iter().map(|(hop, name)| (*hop, name.clone())).collect();
        writer.hops(&hops)?;
        writer.names(&self.numbers.names)?;
        let mut order: Vec<u32> = (0..self.heads.len() as u32).collect();
        order.sort_by_cached_key(|&chain| {
            let end = self.records(self.heads[chain as usize]).last().unwrap_or_default();
            let header = self.header(end);
            self.base(end).unwrap_or(0) + i128::from(header.end_ns.saturating_sub(header.start_ns))
        });
        let mut bytes = Vec::new();
        for chain in order {
            let (header, spans) = self.merged(chain, &mut sums);
            let spans = bounded(spans);
            if spans.iter().any(|span| span.ns > NS_MAX) {
                writer.discard();
                return Err(MergeError::TooLong.into());
            }
            bytes.clear();
            encode_record(&header, &encode_path(&spans), &mut bytes);
            writer.records(&bytes)?;
        }
        for machine in self.machines {
            writer.traffic(&machine.recording.traffic)?;
        }
        writer.finish(&last(self.machines, self.joined.clocks.reference, sums.records))?;
        Ok(sums)
    }

    /// The merged record of a chain.
    fn merged(&self, chain: u32, sums: &mut Sums) -> (RecordHeader, Vec<Span>) {
        let head = self.heads[chain as usize];
        let (mut spans, mut crossings, mut end, mut flags) = (Vec::new(), 0, head, RecordFlags::NONE);
        let first = *self.header(head);
        let mut parent = match first.flags.has(RecordFlags::CHILD) {
            true => self.by_id[usize::from(head.0)].get(&first.parent).map(|&record| (head.0, record)),
            false => None,
        };
        let mut own_flags = first.flags;
        if let Before::CutFrom(join) = self.before[usize::from(head.0)][head.1 as usize] {
            crossings += 1;
            self.push_crossing(join, &[], &mut spans, sums);
            parent = Some(record_of(&self.exits[self.joined.joins[join as usize].exit as usize]));
            own_flags = RecordFlags::CHILD | own_flags.difference(RecordFlags::FROM_DEVICE);
        }
        let (mut outcome, mut parts) = (None, None);
        for record in self.records(head) {
            end = record;
            flags |= self.header(record).flags & (RecordFlags::PARENT | RecordFlags::PATH_FULL);
            let after = self.after[usize::from(record.0)][record.1 as usize];
            let join = match after {
                After::Nothing => None,
                After::Continues(join) | After::Merged(join) | After::Cut(_, join) => Some(join),
            };
            let driver = self.push_leg(record, join, &mut spans, sums);
            match after {
                After::Continues(join) => self.push_crossing(join, &driver, &mut spans, sums),
                After::Merged(join) => {
                    self.push_crossing(join, &driver, &mut spans, sums);
                    outcome = Some(Outcome::Merged);
                }
                After::Cut(count, _) => (outcome, parts) = (Some(Outcome::Split), Some(count)),
                After::Nothing => {}
            }
            crossings += u64::from(join.is_some());
        }
        if outcome == Some(Outcome::Split) {
            flags |= RecordFlags::PARENT;
        }
        let last = self.header(end);
        let start_ns = self.base(head).unwrap_or(0).clamp(0, i128::from(u64::MAX / 2)) as u64;
        let total = spans.iter().fold(0u64, |sum, span| sum.saturating_add(span.ns));
        let id_of = |record: Record| u64::from(self.chain[usize::from(record.0)][record.1 as usize]) + 1;
        sums.records += 1;
        sums.crossing += u64::from(crossings > 0);
        let begins = !first.flags.has(RecordFlags::FROM_DEVICE | RecordFlags::UNKNOWN_START);
        let ends = last.outcome == Outcome::Delivered as u8;
        sums.whole += u64::from(crossings > 0 && begins && ends);
        sums.end_to_end_ns += u128::from(total);
        let header = RecordHeader {
            id: u64::from(chain) + 1,
            parent: parent.map_or(0, id_of),
            start_ns,
            end_ns: start_ns.saturating_add(total),
            flags: own_flags | flags,
            outcome: outcome.map_or(last.outcome, |outcome| outcome as u8),
            segments: parts.unwrap_or(if outcome.is_some() {
                first.segments
            } else {
                segments(&first, last)
            }),
            drop_location: last.drop_location,
            drop_reason: self.numbers.reason(end.0, last.drop_reason),
            cpu: self.numbers.cpu(end.0, last.cpu),
            ..first
        };
        (header, spans)
    }

    /// Appends a leg; returns the spans of the driver that hands the packet over, which are a part of the crossing.
    fn push_leg(
        &self,
        (machine, record): Record,
        join: Option<u32>,
        spans: &mut Vec<Span>,
        sums: &mut Sums,
    ) -> Vec<Span> {
        let from = &self.machines[usize::from(machine)];
        let stored = &from.records[record as usize];
        let numbered = |span: Span| Span {
            hop: self.numbers.hop(machine, span.hop),
            stage: self.numbers.stage(machine, span.stage),
            cpu: span.cpu.map(|cpu| self.numbers.cpu(machine, cpu)),
            ..span
        };
        let mut own: Vec<Span> = from.spans(stored).into_iter().map(numbered).collect();
        let mut driver = Vec::new();
        if let Some(join) = join {
            let exit = &self.exits[self.joined.joins[join as usize].exit as usize];
            let mut handing = stored.header.end_ns.saturating_sub(exit.ns);
            while handing > 0
                && let Some(span) = own.pop()
            {
                handing = handing.saturating_sub(span.ns);
                driver.insert(0, span);
            }
        }
        sums.legs_ns += own.iter().map(|span| u128::from(span.ns)).sum::<u128>();
        spans.extend(own);
        driver
    }

    /// Appends a crossing, which begins with the driver's handing over.
    fn push_crossing(&self, join: u32, driver: &[Span], spans: &mut Vec<Span>, sums: &mut Sums) {
        let ns = self.crossing_ns(join);
        sums.crossings_ns += u128::from(ns);
        let mut left = ns;
        for span in driver {
            let ns = span.ns.min(left);
            left -= ns;
            if ns > 0 {
                spans.push(Span { ns, ..*span });
            }
        }
        let Join { exit, entry, .. } = self.joined.joins[join as usize];
        let (exit, entry) = (&self.exits[exit as usize], &self.entries[entry as usize]);
        let (stage, hop) = self.numbers.crossing(exit.device, entry.device);
        let level = spans.last().map_or_else(|| self.exit_level(exit), |span| span.level);
        let cpu = spans.last().and_then(|span| span.cpu);
        spans.push(Span { ns: left, hop, level, stage, cpu });
    }

    /// The level at which a packet has left its machine.
    fn exit_level(&self, exit: &Passage) -> u8 {
        let machine = &self.machines[usize::from(exit.device.machine)];
        machine.spans(&machine.records[exit.record as usize]).last().map_or(0, |span| span.level)
    }
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

/// The packets on the wire that a record stands for: those that were merged on the last machine count.
fn segments(first: &RecordHeader, last: &RecordHeader) -> u16 {
    first.segments.max(last.segments)
}

fn record_of(passage: &Passage) -> Record {
    (passage.device.machine, passage.record)
}

fn at<T>(table: &mut [Vec<T>], (machine, record): Record) -> &mut T {
    &mut table[usize::from(machine)][record as usize]
}
