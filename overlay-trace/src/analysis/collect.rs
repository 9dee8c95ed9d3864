//! Records in, numbers out.

use std::collections::BTreeMap;

use overlay_trace_common::record::{
    FLAG_CHILD, FLAG_FROM_DEVICE, FLAG_WAY_FULL, Outcome, RecordHeader, Segment,
};
use rustc_hash::FxHashMap;

use super::{
    Analysis, By, Direction, Dist, Drop, Key, Outcomes, Row,
    direction::{LastRun, directions},
    key::Packed,
    order::Ways,
    parents::Parents,
    places::{Place, Places},
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
    ways: Ways,
    outcomes: Outcomes,
    inconsistent: u64,
    cut_ways: u64,
    end_to_end: Dist,
    rows: Vec<Sums>,
    index: FxHashMap<Packed, u32>,
    drops: FxHashMap<(u32, u64, Packed), (u64, u64)>,
    // What belongs to the packet at hand; kept to spare allocations.
    way_places: Vec<Place>,
    way_directions: Vec<Direction>,
    visited: Vec<u32>,
}

/// The sums of one row.
struct Sums {
    packed: Packed,
    segments: u64,
    bytes: u64,
    raw: Dist,
    /// `None` when the probes' cost was not measured.
    net: Option<Dist>,
    /// Of the packet at hand: whether it was here, its time and the cost of its probes (1/1024 ns).
    visited: bool,
    ns: u64,
    cost: u64,
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
            ways: Ways::default(),
            outcomes: Outcomes::default(),
            inconsistent: 0,
            cut_ways: 0,
            end_to_end: Dist::default(),
            rows: Vec::new(),
            index: FxHashMap::default(),
            drops: FxHashMap::default(),
            way_places: Vec::new(),
            way_directions: Vec::new(),
            visited: Vec::new(),
        }
    }

    /// Adds a record.
    pub fn add(&mut self, record: &RecordView<'_>) {
        let RecordView { header, way } = record;
        self.places.of_way(way, &mut self.way_places);
        let last_run = self.directions(header, way);
        for (at, segment) in way.iter().enumerate() {
            let cost = self.stages.probe_cost(way, at);
            self.add_time(
                self.packed(*segment, self.way_places[at], self.way_directions[at]),
                segment.ns().min(SEGMENT_NS_MAX),
                cost,
            );
        }
        self.cut_ways += u64::from(header.flags & FLAG_WAY_FULL != 0);
        self.finish_packet(header, way);
        self.add_outcome(header, way, last_run);
    }

    fn directions(&mut self, header: &RecordHeader, way: &[Segment]) -> Option<LastRun> {
        let parent = if header.flags & FLAG_CHILD != 0 { self.parents.get(header.parent) } else { None };
        let from_device = header.flags & FLAG_FROM_DEVICE != 0;
        let last =
            directions(way, &self.way_places, &self.stages, from_device, parent, &mut self.way_directions);
        if header.outcome == Outcome::Split as u8
            && let Some(last) = last
        {
            self.parents.add(header.id, last);
        }
        last
    }

    fn packed(&self, segment: Segment, place: Place, direction: Direction) -> Packed {
        let facts = self.stages.of(segment.stage());
        let wait = facts.wait || segment.is_wait();
        Packed::new(self.by, facts.layer, segment.stage(), wait, segment.level(), direction, place.number)
    }

    fn add_time(&mut self, packed: Packed, ns: u64, cost: u64) {
        let next = self.rows.len() as u32;
        let at = *self.index.entry(packed).or_insert(next);
        if at == next {
            self.rows.push(Sums::new(packed, self.stages.costs_known));
        }
        let row = &mut self.rows[at as usize];
        if !row.visited {
            row.visited = true;
            self.visited.push(at);
        }
        row.ns += ns;
        row.cost = row.cost.saturating_add(cost);
    }

    /// Closes the sums of the packet at hand.
    fn finish_packet(&mut self, header: &RecordHeader, way: &[Segment]) {
        let total = header.end_ns.saturating_sub(header.start_ns);
        let claimed = self.visited.iter().map(|&at| self.rows[at as usize].ns).sum::<u64>();
        if claimed < total {
            let last = way.last().copied().unwrap_or_default();
            let segment = Segment(Segment::key(self.stages.other, last.level(), last.hop()));
            let place = self.way_places.last().copied().unwrap_or_default();
            let direction = self.way_directions.last().copied().unwrap_or(Direction::Ingress);
            self.add_time(self.packed(segment, place, direction), total - claimed, 0);
        }
        self.inconsistent += u64::from(claimed != total);
        self.end_to_end.add(total.max(claimed));
        self.ways.add(&self.visited);
        for &at in &self.visited {
            self.rows[at as usize].finish_packet(header);
        }
        self.visited.clear();
    }

    fn add_outcome(&mut self, header: &RecordHeader, way: &[Segment], last_run: Option<LastRun>) {
        match Outcome::from_u8(header.outcome) {
            Some(Outcome::Delivered) => self.outcomes.delivered += 1,
            Some(Outcome::Merged) => self.outcomes.merged += 1,
            Some(Outcome::Split) => self.outcomes.split += 1,
            Some(Outcome::Dropped) => {
                self.outcomes.dropped += 1;
                self.add_drop(header, way);
            }
            Some(Outcome::Freed) | None => {
                let delivers = way.last().map_or(0, |last| self.stages.of(last.stage()).delivers);
                let stays = last_run.is_some_and(|run| run.direction == Direction::Ingress);
                if delivers == 1 || delivers == 2 && stays {
                    self.outcomes.delivered += 1;
                } else {
                    self.outcomes.forwarded += 1;
                }
            }
        }
    }

    fn add_drop(&mut self, header: &RecordHeader, way: &[Segment]) {
        let (Some(&segment), Some(&place), Some(&direction)) =
            (way.last(), self.way_places.last(), self.way_directions.last())
        else {
            return;
        };
        let facts = self.stages.of(segment.stage());
        let wait = facts.wait || segment.is_wait();
        let key = Packed::new(
            By::Stage,
            facts.layer,
            segment.stage(),
            wait,
            segment.level(),
            direction,
            place.number,
        );
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
        let order = self.ways.order(&keys);
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
            last: Checkpoint::default(),
            complete: true,
            traffic: Vec::new(),
            by: self.by,
            outcomes: self.outcomes,
            inconsistent: self.inconsistent,
            cut_ways: self.cut_ways,
            end_to_end: self.end_to_end,
            rows,
            drops,
        }
    }
}

impl Sums {
    fn new(packed: Packed, costs_known: bool) -> Sums {
        let net = costs_known.then(Dist::default);
        Sums { packed, segments: 0, bytes: 0, raw: Dist::default(), net, visited: false, ns: 0, cost: 0 }
    }

    fn finish_packet(&mut self, header: &RecordHeader) {
        self.segments += u64::from(header.segments.max(1));
        self.bytes += u64::from(header.bytes);
        self.raw.add(self.ns);
        if let Some(net) = &mut self.net {
            let half = 1 << (COST_PARTS_SHIFT - 1);
            net.add(self.ns.saturating_sub(self.cost.saturating_add(half) >> COST_PARTS_SHIFT));
        }
        (self.visited, self.ns, self.cost) = (false, 0, 0);
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
