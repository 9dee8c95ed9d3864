//! On which CPUs packets were, by row, and of how many flows the slow ones are.

use std::hash::BuildHasher;

use overlay_trace_common::{abi::CPUS_MAX, record::RecordHeader};
use rustc_hash::{FxBuildHasher, FxHashSet};

use super::items::{Stretch, flow};

/// So many flows are counted at a place; more are as many to everybody.
const FLOWS_MAX: usize = 1 << 12;
/// What so much of a place's visits has in common, all have: now and then a packet takes its own way.
const ALL: f64 = 0.98;

/// The CPU that as good as all packets were on at a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Core {
    pub cpu: u16,
    /// How many flows the slow packets there are of, as far as they were counted.
    pub flows: u64,
}

/// On which CPUs packets were at a place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cpus {
    /// How often packets were there.
    pub visits: u64,
    /// The same by CPU, where that is known.
    pub on: Vec<u64>,
    /// How many flows the slow ones are of, as far as they were counted.
    pub flows: u64,
}

impl Cpus {
    /// The CPU that the packets were on, if it is one.
    pub fn one(&self) -> Option<u16> {
        let (cpu, most) = (0..).zip(&self.on).max_by_key(|&(_, visits)| *visits)?;
        (*most as f64 >= ALL * self.visits as f64).then_some(cpu)
    }

    /// Adds visits of packets of the same flows.
    pub(super) fn add(&mut self, other: &Cpus) {
        self.visits += other.visits;
        self.on.resize(self.on.len().max(other.on.len()), 0);
        self.on.iter_mut().zip(&other.on).for_each(|(sum, visits)| *sum += visits);
        self.flows = self.flows.max(other.flows);
    }

    fn visit(&mut self, cpu: Option<u16>, times: u64) {
        self.visits += times;
        if let Some(cpu) = cpu.map(usize::from).filter(|cpu| *cpu < CPUS_MAX) {
            self.on.resize(self.on.len().max(cpu + 1), 0);
            self.on[cpu] += times;
        }
    }
}

/// What is known so far, by row: with hashes of the flows of slow packets.
#[derive(Default)]
pub(super) struct Cores {
    rows: Vec<(Cpus, FxHashSet<u64>)>,
}

impl Cores {
    /// Adds the way of so many packets.
    pub fn add(&mut self, way: &[Stretch], times: u64) {
        for &Stretch { row, cpu, .. } in way {
            self.at(row).0.visit(cpu, times);
        }
    }

    /// Notes of which flow a slow packet is.
    pub fn add_slow(&mut self, header: &RecordHeader, way: &[Stretch]) {
        let flow = FxBuildHasher.hash_one(flow(header));
        for stretch in way {
            let (_, flows) = self.at(stretch.row);
            if flows.len() < FLOWS_MAX {
                flows.insert(flow);
            }
        }
    }

    /// The CPUs of a row.
    pub fn of(&self, row: usize) -> Cpus {
        let Some((cpus, flows)) = self.rows.get(row) else { return Cpus::default() };
        Cpus { flows: flows.len() as u64, ..cpus.clone() }
    }

    fn at(&mut self, row: u32) -> &mut (Cpus, FxHashSet<u64>) {
        let row = row as usize;
        if row >= self.rows.len() {
            self.rows.resize(row + 1, Default::default());
        }
        &mut self.rows[row]
    }
}
