//! From sums to the numbers of a report.

use std::collections::VecDeque;

use super::{Analysis, By, Collector, Drop, Key, Outcomes, Row, key::Packed, order::order, sums::Totals};
use overlay_trace_format::{Balance, Checkpoint, Names};

impl Collector {
    /// The numbers of the records so far.
    pub fn finish(mut self, names: &Names) -> Analysis {
        let mut ready = VecDeque::new();
        while self.lineages.close_oldest(&mut ready) {
            self.add_ready(std::mem::take(&mut ready));
        }
        self.settle();
        let keys = self.sums.keys(|packed| self.name(self.by, packed));
        let order = order(&self.plans, &keys);
        let Totals { rows, end_to_end, mut alone } = self.sums.totals(|row| keys[row].kind == "work");
        alone.merge(&self.latency_with_lineage);
        let costs_known = self.stages.costs.are_known;
        let all = end_to_end.raw.sum();
        let mut rows: Vec<_> = keys.into_iter().zip(rows).map(Some).collect();
        let rows = order.into_iter().filter_map(|at| rows[at as usize].take());
        let rows: Vec<Row> = rows.map(|(key, total)| total.row(key, all, costs_known)).collect();
        let drops = self.drops(names);
        let completions = self.completions.named(&self.hop_keys);
        let duration_ns = self.last_end_ns.saturating_sub(self.header.start_monotonic_ns);
        Analysis {
            file: String::new(),
            header: self.header,
            names: names.clone(),
            last: Checkpoint { duration_ns, ..Checkpoint::default() },
            complete: true,
            balance: Balance::default(),
            traffic: Vec::new(),
            nics: Vec::new(),
            kernel_counters: None,
            doubtful_nics: Vec::new(),
            by: self.by,
            records: self.records,
            outcomes: self.outcomes,
            inconsistent: self.inconsistent,
            cut_paths: self.cut_paths,
            orphans: self.lineages.orphans,
            incomplete: self.lineages.incomplete,
            bytes: end_to_end.bytes,
            end_to_end: end_to_end.raw,
            net: costs_known.then_some(end_to_end.net),
            latency: alone,
            unclaimed: self.unclaimed,
            rows,
            drops,
            completions,
            left_out: Vec::new(),
            over_time: None,
        }
    }

    fn name(&self, by: By, packed: Packed) -> Key {
        packed.name(by, &self.stages.layers, &self.stages.names, &self.hop_keys.names)
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
        let mut drops: Vec<Drop> = self.drops.iter().map(drop).collect();
        drops.sort_by(|a, b| b.packets.cmp(&a.packets).then_with(|| drop_order(a).cmp(&drop_order(b))));
        drops
    }
}

impl Outcomes {
    /// Adds those of other packets.
    pub fn add(&mut self, other: &Outcomes) {
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
