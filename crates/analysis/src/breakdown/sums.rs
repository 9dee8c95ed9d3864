//! The sums of the rows, as recorded and net of probe overhead.
//!
//! What the probes cost a packet at a row is nearly always one of a few values: so often a stage is
//! entered. Packets of about the same cost share a cell, whose distribution is kept as it was recorded;
//! net of that cost it is the same one, shifted.

use overlay_trace_common::record::RecordHeader;
use rustc_hash::FxHashMap;

use super::{By, Dist, Key, Row, key::Packed, plan::Owed, probe_cost::COST_PARTS_SHIFT, shares::Part};

/// The sums of the packets that had about the same cost at a row.
#[derive(Default)]
pub(super) struct Cell {
    pub raw: Dist,
    pub segments: u64,
    pub bytes: u64,
    /// The cost of these packets' own probes, in 1/1024 ns.
    pub cost: u128,
    /// The part of the time in ns that passed with the work of other packets, whose probes held it up.
    pub behind_others: u128,
}

impl Cell {
    /// Adds packets without their time.
    pub fn add_owed(&mut self, owed: Owed, cost: u64) {
        self.segments = self.segments.saturating_add(owed.segments);
        self.bytes = self.bytes.saturating_add(owed.bytes);
        self.cost += u128::from(owed.packets) * u128::from(cost);
    }

    /// Adds the end-to-end time of `times` packets.
    #[inline]
    pub fn add_end_to_end(&mut self, (ns, bytes): (u64, u32), cost: u64, behind_others: u64, times: u64) {
        self.raw.add_times(ns, times);
        self.bytes = self.bytes.saturating_add(u64::from(bytes) * times);
        self.cost += u128::from(cost) * u128::from(times);
        self.behind_others += u128::from(behind_others) * u128::from(times);
    }

    /// What the probes have cost here, in ns, where `burden` is the part of the work of packets that is
    /// their probes' cost.
    fn cost_ns(&self, burden: f64) -> u128 {
        let own = (self.cost + (1 << (COST_PARTS_SHIFT - 1))) >> COST_PARTS_SHIFT;
        own + (self.behind_others as f64 * burden) as u128
    }
}

/// The row of the end-to-end time of packets without a lineage.
pub(super) const END_TO_END: u32 = u32::MAX;
/// The row of the end-to-end time of packets with a lineage.
pub(super) const WITH_LINEAGE: u32 = u32::MAX - 1;

/// The cells of all rows.
#[derive(Default)]
pub(super) struct Sums {
    rows: Vec<Packed>,
    row_index: FxHashMap<Packed, u32>,
    cells: Vec<Cell>,
    /// By row, class of cost, class of time behind others.
    cell_index: FxHashMap<(u32, u16, u16), u32>,
}

/// The time of a row, or end to end, as recorded and net of probe overhead.
#[derive(Clone, Debug, Default)]
pub(super) struct Total {
    pub segments: u64,
    pub bytes: u64,
    pub raw: Dist,
    /// Its sum is never below zero, and so are its values: a cost that is not known exactly can be more
    /// than the shortest times.
    pub net: Dist,
    /// What the probes have cost, in ns.
    cost: u128,
}

/// The totals of all rows.
#[derive(Default)]
pub(super) struct Totals {
    /// By number of row.
    pub rows: Vec<Total>,
    /// End to end. The sum of its `net` is that of all rows.
    pub end_to_end: Total,
    /// End to end of the packets without a lineage, as recorded.
    pub alone: Dist,
}

impl Sums {
    /// The number of the row of a key.
    pub fn row(&mut self, packed: Packed) -> u32 {
        let next = self.rows.len() as u32;
        let row = *self.row_index.entry(packed).or_insert(next);
        if row == next {
            self.rows.push(packed);
        }
        row
    }

    /// The number of the row of a stage of waiting where the row `at` is.
    pub fn waiting(&mut self, at: u32, by: By, layer: u8, stage: u8) -> u32 {
        self.row(self.rows[at as usize].waiting_in(by, layer, stage))
    }

    /// The number of the cell of packets with this cost (in 1/1024 ns) and this time behind others.
    pub fn cell(&mut self, row: u32, cost: u64, behind_others: u64) -> u32 {
        let next = self.cells.len() as u32;
        let cell = *self.cell_index.entry((row, class(cost), class(behind_others))).or_insert(next);
        if cell == next {
            self.cells.push(Cell::default());
        }
        cell
    }

    /// Adds a packet's time in a row.
    pub fn add(&mut self, part: &Part, header: &RecordHeader) {
        let word = |wide| u64::try_from(wide).unwrap_or(u64::MAX);
        let cell = self.cell(part.row, word(part.cost), word(part.behind_others));
        let cell = self.at(cell);
        let times = header.times();
        cell.raw.add_wide(part.ns, times);
        cell.segments = cell.segments.saturating_add(times * u64::from(header.segments.max(1)));
        cell.bytes = cell.bytes.saturating_add(times * u64::from(header.bytes));
        cell.cost += part.cost * u128::from(times);
        cell.behind_others += part.behind_others * u128::from(times);
    }

    #[inline]
    pub fn at(&mut self, cell: u32) -> &mut Cell {
        &mut self.cells[cell as usize]
    }

    /// Adds the cells of other sums; returns the numbers that their rows and cells have here.
    pub fn merge(&mut self, other: Sums) -> (Vec<u32>, Vec<u32>) {
        let rows: Vec<u32> = other.rows.iter().map(|&packed| self.row(packed)).collect();
        let mut cells = vec![0; other.cells.len()];
        let mut keys: Vec<_> = other.cell_index.into_iter().collect();
        keys.sort_unstable_by_key(|&(_, cell)| cell);
        for ((row, cost, behind_others), from) in keys {
            let row = rows.get(row as usize).copied().unwrap_or(row);
            let next = self.cells.len() as u32;
            let to = *self.cell_index.entry((row, cost, behind_others)).or_insert(next);
            if to == next {
                self.cells.push(Cell::default());
            }
            cells[from as usize] = to;
            let (to, from) = (&mut self.cells[to as usize], &other.cells[from as usize]);
            to.raw.merge(&from.raw);
            to.segments = to.segments.saturating_add(from.segments);
            to.bytes = to.bytes.saturating_add(from.bytes);
            to.cost += from.cost;
            to.behind_others += from.behind_others;
        }
        (rows, cells)
    }

    /// The rows' keys, by number of row.
    pub fn keys(&self, name: impl Fn(Packed) -> Key) -> Vec<Key> {
        self.rows.iter().map(|&packed| name(packed)).collect()
    }

    /// The totals of all rows.
    pub fn totals(&self, is_work: impl Fn(usize) -> bool) -> Totals {
        let burden = self.burden(is_work);
        let mut totals = Totals { rows: vec![Total::default(); self.rows.len()], ..Totals::default() };
        let mut cells: Vec<_> = self.cell_index.iter().collect();
        cells.sort_unstable();
        for (&(row, ..), &cell) in cells {
            let cell = &self.cells[cell as usize];
            if row == END_TO_END {
                totals.alone.merge(&cell.raw);
            }
            totals.rows.get_mut(row as usize).unwrap_or(&mut totals.end_to_end).add(cell, burden);
        }
        let mut net_sum = 0;
        for total in &mut totals.rows {
            let net = total.raw.sum().saturating_sub(total.cost);
            total.net.set_sum(net);
            net_sum += net;
        }
        totals.end_to_end.net.set_sum(net_sum);
        totals
    }

    /// The part of the packets' work that is their probes' cost, 0 to 1.
    fn burden(&self, is_work: impl Fn(usize) -> bool) -> f64 {
        let (mut cost, mut work) = (0, 0);
        for (&(row, ..), &cell) in &self.cell_index {
            if (row as usize) < self.rows.len() && is_work(row as usize) {
                let cell = &self.cells[cell as usize];
                work += cell.raw.sum();
                cost += cell.cost >> COST_PARTS_SHIFT;
            }
        }
        if work == 0 { 0.0 } else { (cost as f64 / work as f64).min(1.0) }
    }
}

impl Total {
    fn add(&mut self, cell: &Cell, burden: f64) {
        let cost = cell.cost_ns(burden);
        let each = cost / u128::from(cell.raw.count().max(1));
        self.segments = self.segments.saturating_add(cell.segments);
        self.bytes = self.bytes.saturating_add(cell.bytes);
        self.cost += cost;
        self.raw.merge(&cell.raw);
        self.net.merge_lessened(&cell.raw, u64::try_from(each).unwrap_or(u64::MAX));
    }

    /// The row of a report, where all packets took `end_to_end` ns end to end.
    pub fn row(self, key: Key, end_to_end: u128, costs_known: bool) -> Row {
        let share = if end_to_end == 0 { 0.0 } else { self.raw.sum() as f64 / end_to_end as f64 };
        let Total { segments, bytes, raw, net, .. } = self;
        Row { key, segments, bytes, share, raw, net: costs_known.then_some(net) }
    }
}

/// Which values are about the same: those that differ by less than an eighth of their power of two.
fn class(value: u64) -> u16 {
    let bits = u64::BITS - value.leading_zeros();
    if bits < 4 {
        return value as u16;
    }
    (bits * 8 + (value >> (bits - 4)) as u32 - 24) as u16
}
