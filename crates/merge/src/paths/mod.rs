//! The merged paths: legs and crossings one after the other, each nanosecond with one owner.
//!
//! The durations of a leg are its machine's own nanoseconds, unchanged; a crossing is the difference of its two ends on
//! the reference clock. End to end is *defined* as the sum of these, so that nothing is rounded twice.

mod write;

use anyhow::Result;
use overlay_trace_common::{flags::RecordFlags, path::Span, record::RecordHeader};

use crate::{
    edge::{arrival_spans, exit_of},
    fetch::Fetch,
    links::{Clocks, Links},
    machine::Machine,
    merged_header::Numbers,
    store::{Crossed, Kind, Record, Store},
};

pub use write::Sums;

/// So many generations of packets that were made of others are followed to the first one.
const GENERATIONS_MAX: u32 = 64;
/// No path leads through so many machines.
const LEGS_MAX: usize = 1000;

/// The paths of all machines, joined.
pub struct Paths<'a> {
    machines: &'a [Machine],
    clocks: &'a Clocks,
    store: &'a Store,
    numbers: Numbers,
    fetch: Vec<Fetch<'a>>,
}

impl<'a> Paths<'a> {
    /// The records of the machines, chained at their joins.
    ///
    /// # Errors
    ///
    /// The machines have more stages or devices than one recording can name.
    pub fn new(
        machines: &'a [Machine],
        (links, clocks): (&'a Links, &'a Clocks),
        store: &'a Store,
    ) -> Result<Paths<'a>> {
        let numbers = Numbers::new(machines, links, clocks.reference)?;
        Ok(Paths { machines, clocks, store, numbers, fetch: machines.iter().map(Fetch::new).collect() })
    }

    fn header(&mut self, record: Record) -> Result<RecordHeader> {
        let (machine, record) = self.store.place(record);
        self.fetch[usize::from(machine)].header(record)
    }

    fn record(&mut self, record: Record) -> Result<(RecordHeader, Vec<Span>)> {
        let (machine, record) = self.store.place(record);
        self.fetch[usize::from(machine)].record(record)
    }

    /// How many of a record's last spans are the driver's that hands the packet over.
    fn driver_spans(&self, record: Record, header: &RecordHeader, spans: &[Span]) -> usize {
        let machine = &self.machines[usize::from(self.store.place(record).0)];
        let exit = exit_of(header, spans, &machine.recording.header.stages, |hop| machine.edge(hop));
        exit.map_or(0, |exit| exit.driver_spans)
    }

    /// How long the leg was on its way when it left its machine, in ns.
    fn leg_ns(&mut self, record: Record) -> Result<u64> {
        let (header, spans) = self.record(record)?;
        let legs = spans.len() - self.driver_spans(record, &header, &spans);
        Ok(spans[..legs].iter().fold(0, |sum, span| sum.saturating_add(span.ns)))
    }

    /// How many of a record's first spans lie before anybody on its machine saw the packet.
    fn arrival_spans(&self, record: Record, header: &RecordHeader, spans: &[Span]) -> usize {
        let machine = &self.machines[usize::from(self.store.place(record).0)];
        arrival_spans(header, spans, &machine.recording.header.stages)
    }

    /// How long they are, in ns.
    fn arrival_ns(&mut self, record: Record) -> Result<u64> {
        let (header, spans) = self.record(record)?;
        let count = self.arrival_spans(record, &header, &spans);
        Ok(spans[..count].iter().fold(0, |sum, span| sum.saturating_add(span.ns)))
    }

    /// The joins from the first record of a chain to this one.
    fn joins_before(&self, record: Record) -> Vec<Crossed> {
        let mut joins = Vec::new();
        let mut first = record;
        while let Some(join) = self.store.before(first)
            && join.kind == Kind::Continues
            && joins.len() < LEGS_MAX
        {
            first = join.exit;
            joins.push(join);
        }
        joins.reverse();
        joins
    }

    /// The first record of a record's chain.
    fn head_of(&self, record: Record) -> Record {
        self.joins_before(record).first().map_or(record, |join| join.exit)
    }

    /// When a record starts on the merged clock.
    fn start_of(&mut self, record: Record, generation: u32) -> Result<i128> {
        let joins = self.joins_before(record);
        let head = joins.first().map_or(record, |join| join.exit);
        let mut start = self.start_of_head(head, generation)?;
        for join in joins {
            start += i128::from(self.leg_ns(join.exit)?) + i128::from(join.ns);
            start -= i128::from(self.arrival_ns(join.entry)?);
        }
        Ok(start)
    }

    /// When a chain starts: a packet that was made of another one in that one's time.
    fn start_of_head(&mut self, head: Record, generation: u32) -> Result<i128> {
        let (header, machine) = (self.header(head)?, self.store.place(head).0);
        let alone = self.clocks.map(machine, header.start_ns).unwrap_or(i128::from(header.start_ns));
        if generation >= GENERATIONS_MAX {
            return Ok(alone);
        }
        if let Some(join) = self.store.before(head) {
            return Ok(self.start_of(join.exit, generation + 1)? + i128::from(self.leg_ns(join.exit)?));
        }
        let Some(parent) = self.parent_of(head, &header) else { return Ok(alone) };
        let since = i128::from(header.start_ns) - i128::from(self.header(parent)?.start_ns);
        Ok(self.start_of(parent, generation + 1)? + since)
    }

    /// The record on the same machine that this one was made of.
    fn parent_of(&self, record: Record, header: &RecordHeader) -> Option<Record> {
        if !header.flags.has(RecordFlags::CHILD) {
            return None;
        }
        let machine = self.store.place(record).0;
        let parent = self.machines[usize::from(machine)].parent(header.parent)?;
        Some(self.store.record(machine, parent)).filter(|&parent| parent != record)
    }
}
