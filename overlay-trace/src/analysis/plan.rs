//! What ways of the same shape have in common.
//!
//! Most packets take one of a few ways: the same steps at the same places, only the times differ. What
//! follows from the steps alone (directions, rows, probe costs) is worked out once per shape.

use std::hash::{BuildHasher, BuildHasherDefault};

use overlay_trace_common::way::Segment;
use rustc_hash::{FxHashMap, FxHasher};

use super::direction::{Direction, LastRun};

/// So many shapes are remembered; packets of later ones cost more to analyse, nothing else changes.
const SHAPES_MAX: usize = 4096;

/// What a plan depends on besides the steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Origin {
    /// The packet came from outside the machine.
    pub from_device: bool,
    /// Where the packet's parent was cut.
    pub parent: Option<LastRun>,
}

/// What follows from the steps of a way.
#[derive(Debug)]
pub(super) struct Plan {
    origin: Origin,
    /// The segments without their times.
    steps: Vec<u64>,
    /// The rows that the way visits, in the order of the first visits.
    pub rows: Vec<u32>,
    /// By row of `rows`: the cost of the probes in 1/1024 ns.
    pub costs: Vec<u64>,
    /// By segment: which of `rows` it belongs to.
    pub slots: Vec<u16>,
    /// Which segments no stage claims.
    pub unclaimed: Vec<u16>,
    pub last_run: Option<LastRun>,
    /// The place and direction of the last segment.
    pub end: (u16, Direction),
    /// Packets that took this way.
    pub packets: u64,
}

impl Plan {
    pub fn new(way: &[Segment], origin: Origin, last_run: Option<LastRun>, end: (u16, Direction)) -> Plan {
        let (rows, costs, slots, unclaimed) =
            (Vec::new(), Vec::new(), Vec::with_capacity(way.len()), Vec::new());
        let steps = way.iter().map(step).collect();
        Plan { origin, steps, rows, costs, slots, unclaimed, last_run, end, packets: 0 }
    }

    /// Adds the next segment: it belongs to this row, and the probe at its beginning cost so much.
    pub fn push(&mut self, row: u32, cost: u64) {
        let slot = self.rows.iter().position(|&known| known == row).unwrap_or_else(|| {
            self.rows.push(row);
            self.costs.push(0);
            self.rows.len() - 1
        });
        self.costs[slot] = self.costs[slot].saturating_add(cost);
        self.slots.push(slot as u16);
    }

    fn is_for(&self, way: &[Segment], origin: Origin) -> bool {
        self.origin == origin
            && self.steps.len() == way.len()
            && self.steps.iter().zip(way).all(|(&s, w)| s == step(w))
    }
}

/// A segment without its time.
fn step(segment: &Segment) -> u64 {
    u64::from(segment.stage) << 32 | u64::from(segment.level) << 16 | u64::from(segment.hop)
}

/// The plans of the shapes that came first.
#[derive(Default)]
pub(super) struct Plans {
    plans: Vec<Plan>,
    by_hash: FxHashMap<u64, u32>,
}

impl Plans {
    /// The hash of a shape.
    pub fn hash(way: &[Segment], origin: Origin) -> u64 {
        let start = BuildHasherDefault::<FxHasher>::default().hash_one(origin);
        way.iter().fold(start, |hash, segment| {
            (hash.rotate_left(5) ^ step(segment)).wrapping_mul(0x9e37_79b9_7f4a_7c15)
        })
    }

    /// The number of the plan of a way.
    pub fn find(&self, hash: u64, way: &[Segment], origin: Origin) -> Option<usize> {
        let at = *self.by_hash.get(&hash)? as usize;
        self.plans[at].is_for(way, origin).then_some(at)
    }

    /// Remembers a plan and returns its number. When there are too many, it is only remembered until the
    /// next one comes.
    pub fn add(&mut self, hash: u64, plan: Plan) -> usize {
        if self.plans.len() < SHAPES_MAX {
            self.by_hash.insert(hash, self.plans.len() as u32);
        } else {
            self.plans.truncate(SHAPES_MAX);
        }
        self.plans.push(plan);
        self.plans.len() - 1
    }

    /// The plan of a number that [`find`](Plans::find) or [`add`](Plans::add) has just returned.
    pub fn get_mut(&mut self, at: usize) -> &mut Plan {
        &mut self.plans[at]
    }

    /// The most frequent shape first; what came first goes before what came later.
    pub fn by_packets(&self) -> Vec<&Plan> {
        let mut plans: Vec<&Plan> = self.plans.iter().collect();
        plans.sort_by_key(|plan| std::cmp::Reverse(plan.packets));
        plans
    }
}
