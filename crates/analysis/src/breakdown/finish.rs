//! From sums to the numbers of a report.

use std::collections::VecDeque;

use overlay_trace_common::record::RecordHeader;
use rustc_hash::FxHashMap;

use super::{Analysis, By, Collector, Drop, Key, Outcomes, Row, key::Packed, order::order, sums::Totals};
use overlay_trace_format::{Checkpoint, Names};

/// Packets and bytes by drop reason, location, and the stage that the packet was in.
#[derive(Default)]
pub(super) struct Drops(FxHashMap<(u32, u64, Packed), (u64, u64)>);

impl Drops {
    pub fn add(&mut self, header: &RecordHeader, key: Packed) {
        let times = header.times();
        let dropped = (times, times * u64::from(header.bytes));
        self.add_many((header.drop_reason, header.drop_location, key), dropped);
    }

    pub fn append(&mut self, later: Drops) {
        later.0.into_iter().for_each(|(key, dropped)| self.add_many(key, dropped));
    }

    fn add_many(&mut self, key: (u32, u64, Packed), dropped: (u64, u64)) {
        let (packets, bytes) = self.0.entry(key).or_default();
        *packets += dropped.0;
        *bytes = bytes.saturating_add(dropped.1);
    }
}

impl Collector {
    /// The numbers of the records so far.
    pub fn finish(mut self, names: &Names) -> Analysis {
        let mut ready = VecDeque::new();
        while self.families.close_oldest(&mut ready) {
            self.add_ready(std::mem::take(&mut ready));
        }
        self.settle();
        let keys = self.sums.keys(|packed| self.name(self.by, packed));
        let order = order(&self.plans, &keys);
        let Totals { rows, whole, mut alone } = self.sums.totals(|row| keys[row].kind == "work");
        alone.merge(&self.latency_of_related);
        let costs_known = self.stages.costs.are_known;
        let all = whole.raw.sum();
        let mut rows: Vec<_> = keys.into_iter().zip(rows).map(Some).collect();
        let rows = order.into_iter().filter_map(|at| rows[at as usize].take());
        let rows: Vec<Row> = rows.map(|(key, total)| total.row(key, all, costs_known)).collect();
        let drops = self.drops(names);
        let duration_ns = self.last_end_ns.saturating_sub(self.header.start_monotonic_ns);
        Analysis {
            file: String::new(),
            header: self.header,
            names: names.clone(),
            last: Checkpoint { duration_ns, ..Checkpoint::default() },
            complete: true,
            traffic: Vec::new(),
            by: self.by,
            records: self.records,
            outcomes: self.outcomes,
            inconsistent: self.inconsistent,
            cut_ways: self.cut_ways,
            orphans: self.families.orphans,
            incomplete: self.families.incomplete,
            bytes: whole.bytes,
            end_to_end: whole.raw,
            net: costs_known.then_some(whole.net),
            latency: alone,
            unclaimed: self.unclaimed,
            rows,
            drops,
            left_out: Vec::new(),
        }
    }

    fn name(&self, by: By, packed: Packed) -> Key {
        packed.name(by, &self.stages.layers, &self.stages.names, &self.places.names)
    }

    fn drops(&self, names: &Names) -> Vec<Drop> {
        let drop =
            |(&(reason, location, packed), &(packets, bytes)): (&(u32, u64, Packed), &(u64, u64))| Drop {
                packets,
                bytes,
                reason: names.reason(reason),
                location: names.symbol(location),
                key: self.name(By::Stage, packed),
            };
        let mut drops: Vec<Drop> = self.drops.0.iter().map(drop).collect();
        drops.sort_by(|a, b| b.packets.cmp(&a.packets).then_with(|| drop_order(a).cmp(&drop_order(b))));
        drops
    }
}

impl Outcomes {
    pub(super) fn add(&mut self, other: &Outcomes) {
        self.delivered += other.delivered;
        self.dropped += other.dropped;
        self.forwarded += other.forwarded;
        self.merged += other.merged;
        self.split += other.split;
    }
}

fn drop_order(drop: &Drop) -> (&str, &str, &Key) {
    (&drop.reason, &drop.location, &drop.key)
}
