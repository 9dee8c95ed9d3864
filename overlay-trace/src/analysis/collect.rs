//! Records in, numbers out.

use std::collections::BTreeMap;

use overlay_trace_common::record::{FLAG_CHILD, FLAG_FROM_DEVICE, FLAG_WAY_FULL, Outcome, RecordHeader};
use overlay_trace_common::way::Segment;
use rustc_hash::FxHashMap;

use super::{
    Analysis, By, Direction, Dist, Drop, Key, Outcomes, Row,
    direction::directions,
    key::Packed,
    order::order,
    parents::Parents,
    places::Places,
    plan::{Origin, Plan, Plans},
    stages::{COST_PARTS_SHIFT, Stages},
};
use crate::trace::{Checkpoint, Header, HopName, Names, RecordView};

/// No packet spends more than 78 hours in one step: a longer time betrays a damaged record. With it the
/// sum of a way of any length fits in a word.
const SEGMENT_NS_MAX: u64 = (1 << 48) - 1;

/// Collects records; [`finish`](Collector::finish) gives the numbers.
pub struct Collector {
    by: By,
    header: Header,
    stages: Stages,
    places: Places,
    parents: Parents,
    plans: Plans,
    outcomes: Outcomes,
    inconsistent: u64,
    cut_ways: u64,
    end_to_end: Dist,
    /// What no stage claims, in ns.
    unclaimed: u128,
    /// The end of the last packet, in ns of CLOCK_MONOTONIC.
    last_end_ns: u64,
    rows: Vec<Sums>,
    index: FxHashMap<Packed, u32>,
    drops: FxHashMap<(u32, u64, Packed), (u64, u64)>,
    /// The segments of the packet at hand; kept to spare allocations.
    decoded: Vec<Segment>,
    /// The times of the packet at hand by row of its plan; kept to spare allocations.
    times: Vec<u64>,
}

/// The sums of one row.
struct Sums {
    packed: Packed,
    segments: u64,
    bytes: u64,
    raw: Dist,
    /// `None` when the probes' cost was not measured.
    net: Option<Dist>,
}

impl Collector {
    /// A collector for the records of a recording with this header and these hops.
    pub fn new(header: &Header, hops: &BTreeMap<u16, HopName>, by: By) -> Collector {
        Collector {
            by,
            header: header.clone(),
            stages: Stages::new(header),
            places: Places::new(hops),
            parents: Parents::default(),
            plans: Plans::default(),
            outcomes: Outcomes::default(),
            inconsistent: 0,
            cut_ways: 0,
            end_to_end: Dist::default(),
            unclaimed: 0,
            last_end_ns: 0,
            rows: Vec::new(),
            index: FxHashMap::default(),
            drops: FxHashMap::default(),
            decoded: Vec::new(),
            times: Vec::new(),
        }
    }

    /// Adds a record.
    pub fn add(&mut self, record: &RecordView<'_>) {
        let mut decoded = std::mem::take(&mut self.decoded);
        decoded.clear();
        decoded.extend(record.segments());
        self.add_way(&record.header, &decoded);
        self.decoded = decoded;
    }

    fn add_way(&mut self, header: &RecordHeader, way: &[Segment]) {
        let origin = Origin {
            from_device: header.flags & FLAG_FROM_DEVICE != 0,
            parent: if header.flags & FLAG_CHILD != 0 { self.parents.get(header.parent) } else { None },
        };
        self.cut_ways += u64::from(header.flags & FLAG_WAY_FULL != 0);
        let mut plans = std::mem::take(&mut self.plans);
        let hash = Plans::hash(way, origin);
        let at = plans.find(hash, way, origin).unwrap_or_else(|| plans.add(hash, self.plan(way, origin)));
        self.add_packet(header, way, plans.get_mut(at));
        self.plans = plans;
    }

    /// Works out what follows from a way's steps.
    fn plan(&mut self, way: &[Segment], origin: Origin) -> Plan {
        let (mut places, mut runs) = (Vec::new(), Vec::new());
        self.places.of_way(way, &mut places);
        let last_run = directions(way, &places, &self.stages, origin, &mut runs);
        let end = (
            places.last().map_or(0, |place| place.number),
            runs.last().copied().unwrap_or(Direction::Ingress),
        );
        let mut plan = Plan::new(way, origin, last_run, end);
        for (at, (place, direction)) in places.iter().zip(runs).enumerate() {
            let packed = self.packed(self.by, way[at], place.number, direction);
            plan.push(self.row(packed), self.stages.probe_cost(way, at));
            if self.stages.of(way[at].stage).layer == self.stages.of(self.stages.other).layer {
                plan.unclaimed.push(at as u16);
            }
        }
        plan
    }

    fn packed(&self, by: By, segment: Segment, place: u16, direction: Direction) -> Packed {
        let facts = self.stages.of(segment.stage);
        Packed::new(by, facts.layer, segment.stage, facts.wait, segment.level, direction, place)
    }

    /// The number of the row of a key.
    fn row(&mut self, packed: Packed) -> u32 {
        let next = self.rows.len() as u32;
        let row = *self.index.entry(packed).or_insert(next);
        if row == next {
            self.rows.push(Sums::new(packed, self.stages.costs_known));
        }
        row
    }

    fn add_packet(&mut self, header: &RecordHeader, way: &[Segment], plan: &mut Plan) {
        plan.packets += 1;
        self.times.clear();
        self.times.resize(plan.rows.len(), 0);
        for (segment, &slot) in way.iter().zip(&plan.slots) {
            self.times[usize::from(slot)] += segment.ns.min(SEGMENT_NS_MAX);
        }
        let unclaimed = |at: &u16| u128::from(way[usize::from(*at)].ns.min(SEGMENT_NS_MAX));
        self.unclaimed += plan.unclaimed.iter().map(unclaimed).sum::<u128>();
        self.last_end_ns = self.last_end_ns.max(header.end_ns);
        let total = header.end_ns.saturating_sub(header.start_ns);
        let claimed = self.times.iter().sum::<u64>();
        if claimed < total {
            self.add_unclaimed(header, way, plan, total - claimed);
        }
        self.inconsistent += u64::from(claimed != total);
        self.end_to_end.add(total.max(claimed));
        for ((&row, &ns), &cost) in plan.rows.iter().zip(&self.times).zip(&plan.costs) {
            self.rows[row as usize].add(header, ns, cost);
        }
        if header.outcome == Outcome::Split as u8
            && let Some(last) = plan.last_run
        {
            self.parents.add(header.id, last);
        }
        self.add_outcome(header, way, plan);
    }

    /// Adds what a packet's segments leave over to `other`, where the packet was at its end.
    fn add_unclaimed(&mut self, header: &RecordHeader, way: &[Segment], plan: &Plan, ns: u64) {
        self.unclaimed += u128::from(ns);
        let level = way.last().map_or(0, |last| last.level);
        let segment = Segment { stage: self.stages.other, level, ..Segment::default() };
        let packed = self.packed(self.by, segment, plan.end.0, plan.end.1);
        let row = self.row(packed);
        match plan.rows.iter().position(|&known| known == row) {
            Some(slot) => self.times[slot] += ns,
            None => self.rows[row as usize].add(header, ns, 0),
        }
    }

    fn add_outcome(&mut self, header: &RecordHeader, way: &[Segment], plan: &Plan) {
        match Outcome::from_u8(header.outcome) {
            Some(Outcome::Delivered) => self.outcomes.delivered += 1,
            Some(Outcome::Merged) => self.outcomes.merged += 1,
            Some(Outcome::Split) => self.outcomes.split += 1,
            Some(Outcome::Dropped) => {
                self.outcomes.dropped += 1;
                self.add_drop(header, way, plan);
            }
            Some(Outcome::Freed) | None => {
                let delivers = self.last_stage(way).map_or(0, |last| self.stages.of(last.stage).delivers);
                let stays = plan.last_run.is_some_and(|run| run.direction == Direction::Ingress);
                if delivers == 1 || delivers == 2 && stays {
                    self.outcomes.delivered += 1;
                } else {
                    self.outcomes.forwarded += 1;
                }
            }
        }
    }

    /// The last segment that is not the wait of an interrupted stage.
    fn last_stage(&self, way: &[Segment]) -> Option<Segment> {
        way.iter().rev().find(|segment| !self.stages.of(segment.stage).interrupts).copied()
    }

    fn add_drop(&mut self, header: &RecordHeader, way: &[Segment], plan: &Plan) {
        let Some(last) = self.last_stage(way) else { return };
        let key = self.packed(By::Stage, last, plan.end.0, plan.end.1);
        let (packets, bytes) = self.drops.entry((header.drop_reason, header.drop_location, key)).or_default();
        *packets += 1;
        *bytes += u64::from(header.bytes);
    }

    /// The numbers of the records so far.
    pub fn finish(self, names: &Names) -> Analysis {
        let name = |by, packed: Packed| -> Key {
            packed.name(by, &self.stages.layers, &self.stages.names, &self.places.names)
        };
        let keys: Vec<Key> = self.rows.iter().map(|row| name(self.by, row.packed)).collect();
        let order = order(&self.plans, &keys);
        let mut drops: Vec<Drop> = self
            .drops
            .iter()
            .map(|(&(reason, location, packed), &(packets, bytes))| Drop {
                packets,
                bytes,
                reason: named(&names.drop_reasons, reason, |number| number.to_string()),
                location: named(&names.symbols, location, |address| format!("{address:#x}")),
                key: name(By::Stage, packed),
            })
            .collect();
        drops.sort_by(|a, b| b.packets.cmp(&a.packets).then_with(|| drop_order(a).cmp(&drop_order(b))));
        let total = self.end_to_end.sum();
        let duration_ns = self.last_end_ns.saturating_sub(self.header.start_monotonic_ns);
        let mut rows: Vec<Option<Sums>> = self.rows.into_iter().map(Some).collect();
        let rows = order
            .into_iter()
            .filter_map(|at| Some((keys[at as usize].clone(), rows[at as usize].take()?)))
            .map(|(key, sums)| sums.row(key, total))
            .collect();
        Analysis {
            file: String::new(),
            header: self.header,
            names: names.clone(),
            last: Checkpoint { duration_ns, ..Checkpoint::default() },
            complete: true,
            traffic: Vec::new(),
            by: self.by,
            outcomes: self.outcomes,
            inconsistent: self.inconsistent,
            cut_ways: self.cut_ways,
            end_to_end: self.end_to_end,
            unclaimed: self.unclaimed,
            rows,
            drops,
            left_out: Vec::new(),
        }
    }
}

impl Sums {
    fn new(packed: Packed, costs_known: bool) -> Sums {
        let net = costs_known.then(Dist::default);
        Sums { packed, segments: 0, bytes: 0, raw: Dist::default(), net }
    }

    /// Adds a packet with its time here in ns and its probes' cost in 1/1024 ns.
    fn add(&mut self, header: &RecordHeader, ns: u64, cost: u64) {
        self.segments += u64::from(header.segments.max(1));
        self.bytes += u64::from(header.bytes);
        self.raw.add(ns);
        if let Some(net) = &mut self.net {
            let half = 1 << (COST_PARTS_SHIFT - 1);
            net.add(ns.saturating_sub(cost.saturating_add(half) >> COST_PARTS_SHIFT));
        }
    }

    fn row(self, key: Key, total: u128) -> Row {
        let share = if total == 0 { 0.0 } else { self.raw.sum() as f64 / total as f64 };
        Row { key, segments: self.segments, bytes: self.bytes, share, raw: self.raw, net: self.net }
    }
}

fn drop_order(drop: &Drop) -> (&str, &str, &Key) {
    (&drop.reason, &drop.location, &drop.key)
}

/// The name of a number; empty for 0, which stands for "none given".
fn named<N: Ord + Default + Copy>(
    names: &BTreeMap<N, String>,
    number: N,
    plain: impl Fn(N) -> String,
) -> String {
    if number == N::default() {
        return String::new();
    }
    names.get(&number).cloned().unwrap_or_else(|| plain(number))
}
