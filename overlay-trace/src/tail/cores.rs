//! On which CPUs packets were, by row, and of how many flows the slow ones are.

use std::hash::BuildHasher;

use overlay_trace_common::record::RecordHeader;
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

/// What is known so far, by row.
#[derive(Default)]
pub(super) struct Cores {
    rows: Vec<Visits>,
}

#[derive(Clone, Default)]
struct Visits {
    all: u64,
    /// By CPU.
    on: Vec<u64>,
    /// Hashes of the flows of slow packets.
    flows: FxHashSet<u64>,
}

impl Cores {
    /// Adds the way of so many packets.
    pub fn add(&mut self, way: &[Stretch], times: u64) {
        for &Stretch { row, cpu, .. } in way {
            let visits = self.at(row);
            visits.all += times;
            if let Some(cpu) = cpu {
                let cpu = usize::from(cpu);
                if cpu >= visits.on.len() {
                    visits.on.resize(cpu + 1, 0);
                }
                visits.on[cpu] += times;
            }
        }
    }

    /// Notes of which flow a slow packet is.
    pub fn add_slow(&mut self, header: &RecordHeader, way: &[Stretch]) {
        let flow = FxBuildHasher.hash_one(flow(header));
        for stretch in way {
            let flows = &mut self.at(stretch.row).flows;
            if flows.len() < FLOWS_MAX {
                flows.insert(flow);
            }
        }
    }

    /// The CPU of a row's packets, if it is one.
    pub fn core(&self, row: usize) -> Option<Core> {
        let Visits { all, on, flows } = self.rows.get(row)?;
        let (cpu, most) = (0..).zip(on).max_by_key(|&(_, visits)| *visits)?;
        (*most as f64 >= ALL * *all as f64).then_some(Core { cpu, flows: flows.len() as u64 })
    }

    fn at(&mut self, row: u32) -> &mut Visits {
        let row = row as usize;
        if row >= self.rows.len() {
            self.rows.resize(row + 1, Visits::default());
        }
        &mut self.rows[row]
    }
}
