//! On which CPUs packets were, by row, and of how many flows the slow ones are.

use std::hash::BuildHasher;

use overlay_trace_common::{abi::CPUS_MAX, record::RecordHeader};
use rustc_hash::{FxBuildHasher, FxHashSet};

use super::sample::{RowSpan, flow};

/// At most this many flows are counted per row; the findings ask for far fewer.
const FLOWS_MAX: usize = 1 << 12;
/// A row is on one CPU if this fraction of its visits is: single packets can be steered elsewhere.
const NEARLY_ALL: f64 = 0.98;

/// The one CPU that (nearly) all packets were on at a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SingleCpu {
    pub cpu: u16,
    /// Flows of the slow packets there, counted up to a limit.
    pub flows: u64,
}

/// On which CPUs packets were in one row.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CpuVisits {
    /// Visits of packets, with or without a known CPU.
    pub visits: u64,
    /// Visits by CPU, where it is known.
    pub on: Vec<u64>,
    /// Flows of the slow packets, counted up to a limit.
    pub flows: u64,
}

impl CpuVisits {
    /// The CPU that the packets were on, if it is one.
    pub fn one(&self) -> Option<u16> {
        let (cpu, most) = (0..).zip(&self.on).max_by_key(|&(_, visits)| *visits)?;
        (*most as f64 >= NEARLY_ALL * self.visits as f64).then_some(cpu)
    }

    /// Adds visits of packets of the same flows.
    pub(super) fn add(&mut self, other: &CpuVisits) {
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

/// The visits of one row, with hashes of the flows of slow packets.
#[derive(Clone, Default)]
struct RowVisits {
    cpus: CpuVisits,
    flows: FxHashSet<u64>,
}

/// Collects visits by row.
#[derive(Default)]
pub(super) struct CpusByRow {
    rows: Vec<RowVisits>,
}

impl CpusByRow {
    /// Adds the path of `times` packets.
    pub fn add(&mut self, path: &[RowSpan], times: u64) {
        for &RowSpan { row, cpu, .. } in path {
            self.at(row).cpus.visit(cpu, times);
        }
    }

    /// Counts the flow of a slow packet in every row of its path.
    pub fn add_slow(&mut self, header: &RecordHeader, path: &[RowSpan]) {
        let flow = FxBuildHasher.hash_one(flow(header));
        for span in path {
            let flows = &mut self.at(span.row).flows;
            if flows.len() < FLOWS_MAX {
                flows.insert(flow);
            }
        }
    }

    /// The visits of a row.
    pub fn of(&self, row: usize) -> CpuVisits {
        let Some(RowVisits { cpus, flows }) = self.rows.get(row) else { return CpuVisits::default() };
        CpuVisits { flows: flows.len() as u64, ..cpus.clone() }
    }

    fn at(&mut self, row: u32) -> &mut RowVisits {
        let row = row as usize;
        if row >= self.rows.len() {
            self.rows.resize(row + 1, RowVisits::default());
        }
        &mut self.rows[row]
    }
}
