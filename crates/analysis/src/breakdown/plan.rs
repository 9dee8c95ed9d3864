//! What paths of the same shape have in common.
//!
//! Most packets take one of a few paths: the same steps at the same hops, only the times differ. Directions, rows and probe
//! costs follow from the steps alone and are computed once per shape.

use std::hash::{Hash, Hasher};

use overlay_trace_common::record::RecordHeader;
use rustc_hash::{FxHashMap, FxHasher};

use super::{
    direction::{Direction, LastRun, Origin},
    fold::Step,
};

/// So many shapes are remembered; when there are more, the least frequent are forgotten, and computed again when they
/// come again.
const SHAPES_MAX: usize = 4096;

/// The steps of a path that are in one row.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slot {
    pub row: u32,
    /// Where the times of packets with this cost are summed.
    pub cell: u32,
    /// The probes' cost in 1/1024 ns.
    pub cost: u64,
    /// The packet waits behind others here, whose probes hold it up too.
    pub behind_others: bool,
}

/// What follows from the steps of a path.
#[derive(Debug)]
pub(super) struct Plan {
    origin: Origin,
    steps: Box<[Step]>,
    /// By step: which of `slots` it belongs to.
    pub slot_of: Box<[u32]>,
    /// One per row that the path visits, in the order of the first visits. Those from `always` on are only
    /// visited by packets that were interrupted.
    pub slots: Vec<Slot>,
    pub always: usize,
    /// By step and stage: the slot of the time for which the step was interrupted.
    waits: FxHashMap<(u32, u8), u32>,
    /// Which slots up to `always` are times of waiting behind other packets.
    pub behind_others: Vec<u32>,
    /// Which steps no stage claims.
    pub unclaimed: Vec<u32>,
    /// The cell of the end-to-end time of packets that were not interrupted.
    pub end_to_end: u32,
    /// The probes' cost of the path, in 1/1024 ns.
    pub cost: u64,
    pub last_run: Option<LastRun>,
    /// The hop key and direction of the last step.
    pub end: (u16, Direction),
    /// Packets that took this path.
    pub packets: u64,
    /// What the cells of the slots up to `always` have not been told yet.
    pub owed: Owed,
}

/// Packets, and what they stand for.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Owed {
    pub packets: u64,
    pub segments: u64,
    pub bytes: u64,
}

impl Owed {
    /// Adds the packets that a record stands for.
    #[inline]
    pub fn add(&mut self, header: &RecordHeader) {
        let times = header.times();
        self.packets += times;
        self.segments = self.segments.saturating_add(times * u64::from(header.segments.max(1)));
        self.bytes = self.bytes.saturating_add(times * u64::from(header.bytes));
    }
}

impl Plan {
    pub fn new(steps: &[Step], origin: Origin, last_run: Option<LastRun>, end: (u16, Direction)) -> Plan {
        Plan {
            origin,
            steps: steps.into(),
            slot_of: Box::default(),
            slots: Vec::new(),
            always: 0,
            waits: FxHashMap::default(),
            behind_others: Vec::new(),
            unclaimed: Vec::new(),
            end_to_end: 0,
            cost: 0,
            last_run,
            end,
            packets: 0,
            owed: Owed::default(),
        }
    }

    fn is_for(&self, steps: &[Step], origin: Origin) -> bool {
        self.origin == origin && *self.steps == *steps
    }

    /// Adds the packets, and the rows of interruptions, of the same shape's plan from elsewhere.
    fn join(&mut self, other: &Plan) {
        self.packets += other.packets;
        for (wait, slot) in other.waits() {
            self.wait_at(wait, other.slots[slot as usize]);
        }
    }

    /// Gives rows and cells their numbers elsewhere.
    pub fn renumber(&mut self, rows: &[u32], cells: &[u32]) {
        for slot in &mut self.slots {
            slot.row = rows[slot.row as usize];
            slot.cell = cells[slot.cell as usize];
        }
        self.end_to_end = cells[self.end_to_end as usize];
    }

    /// The interruptions so far: step, stage, and slot, in order.
    fn waits(&self) -> Vec<((u32, u8), u32)> {
        let mut waits: Vec<_> = self.waits.iter().map(|(&wait, &slot)| (wait, slot)).collect();
        waits.sort_unstable();
        waits
    }

    /// The slot of an interruption, by step and stage, if it has happened before.
    pub fn known_wait(&self, wait: (u32, u8)) -> Option<u32> {
        self.waits.get(&wait).copied()
    }

    /// The slot of an interruption, which is made from `slot` if it is new.
    pub fn wait_at(&mut self, wait: (u32, u8), slot: Slot) -> u32 {
        let known = self.slots.iter().position(|known| known.row == slot.row);
        *self.waits.entry(wait).or_insert_with(|| {
            known.unwrap_or_else(|| {
                self.slots.push(slot);
                self.slots.len() - 1
            }) as u32
        })
    }

    /// The rows along the path.
    pub fn rows(&self) -> Vec<u32> {
        let mut steps: Vec<(u32, u8, u32)> =
            self.waits().into_iter().map(|((step, stage), slot)| (step, stage, slot)).collect();
        // Each step before its interruptions: no stage that interrupts has number 0.
        steps.extend(self.slot_of.iter().enumerate().map(|(step, &slot)| (step as u32, 0, slot)));
        steps.sort_unstable();
        steps.into_iter().map(|(.., slot)| self.slots[slot as usize].row).collect()
    }
}

/// The plans of the shapes that packets had.
#[derive(Default)]
pub(super) struct Plans {
    plans: Vec<Plan>,
    by_hash: FxHashMap<u64, u32>,
}

impl Plans {
    /// The hash of a shape.
    pub fn hash(steps: &[Step], origin: Origin) -> u64 {
        const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
        let mut hasher = FxHasher::default();
        origin.hash(&mut hasher);
        // Two sums in turn, so that one multiplication need not wait for the other.
        let mut sums = [hasher.finish(), steps.len() as u64];
        let mut pairs = steps.chunks_exact(4);
        for four in &mut pairs {
            for (sum, two) in sums.iter_mut().zip(four.chunks_exact(2)) {
                let word = u64::from(two[0].0) << 32 | u64::from(two[1].0);
                *sum = (sum.rotate_left(5) ^ word).wrapping_mul(FACTOR);
            }
        }
        for step in pairs.remainder() {
            sums[0] = (sums[0].rotate_left(5) ^ u64::from(step.0)).wrapping_mul(FACTOR);
        }
        (sums[0].rotate_left(29) ^ sums[1]).wrapping_mul(FACTOR)
    }

    /// The number of the plan of a path.
    pub fn find(&self, hash: u64, steps: &[Step], origin: Origin) -> Option<usize> {
        let at = *self.by_hash.get(&hash)? as usize;
        self.plans[at].is_for(steps, origin).then_some(at)
    }

    /// Whether there is no room for one more: [`forget`](Plans::forget) has to be called.
    pub fn is_full(&self) -> bool {
        self.plans.len() >= SHAPES_MAX
    }

    /// Remembers a plan and returns its number.
    pub fn add(&mut self, hash: u64, plan: Plan) -> usize {
        self.by_hash.insert(hash, self.plans.len() as u32);
        self.plans.push(plan);
        self.plans.len() - 1
    }

    /// Forgets the less frequent half of the plans; they must not owe anything.
    pub fn forget(&mut self) {
        let mut packets: Vec<u64> = self.plans.iter().map(|plan| plan.packets).collect();
        packets.sort_unstable();
        let middle = packets.get(packets.len() / 2).copied().unwrap_or(0);
        let mut room = self.plans.len() / 2;
        self.plans.retain(|plan| {
            let stays = plan.packets >= middle && room > 0;
            room -= usize::from(stays);
            stays
        });
        self.by_hash.clear();
        for (at, plan) in self.plans.iter().enumerate() {
            self.by_hash.insert(Plans::hash(&plan.steps, plan.origin), at as u32);
        }
    }

    /// The plan of a number that [`find`](Plans::find) or [`add`](Plans::add) has just returned.
    pub fn get_mut(&mut self, at: usize) -> &mut Plan {
        &mut self.plans[at]
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Plan> {
        self.plans.iter_mut()
    }

    /// Takes in the plans of the records that came after, which must not owe anything. `renumber` gives
    /// their rows and cells the numbers that these have here.
    pub fn append(&mut self, later: Plans, renumber: impl Fn(&mut Plan)) {
        for mut plan in later.plans {
            renumber(&mut plan);
            let hash = Plans::hash(&plan.steps, plan.origin);
            match self.find(hash, &plan.steps, plan.origin) {
                Some(at) => self.plans[at].join(&plan),
                None => {
                    self.by_hash.entry(hash).or_insert(self.plans.len() as u32);
                    self.plans.push(plan);
                }
            }
        }
    }

    /// The most frequent shape first; what came first goes before what came later.
    pub fn by_packets(&self) -> Vec<&Plan> {
        let mut plans: Vec<&Plan> = self.plans.iter().collect();
        plans.sort_by_key(|plan| std::cmp::Reverse(plan.packets));
        plans
    }
}
