//! What there is to say about merged recordings: machines, clocks, joins and crossings.

mod clocks;
mod crossings;
mod text;

use serde::Serialize;

use crate::{join::Counts, links::Clocks, machine::Machine, paths::Sums};

pub use clocks::{ClockSummary, EpochSummary, IntervalSummary};
pub(crate) use crossings::Found;
pub use crossings::{CrossingSummary, LostSummary};

/// What was merged.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    pub machines: Vec<MachineSummary>,
    pub clocks: Vec<ClockSummary>,
    pub joined: JoinedSummary,
    pub crossings: Vec<CrossingSummary>,
    /// Where packets were lost between two recordings.
    pub lost: Vec<LostSummary>,
    pub end_to_end_ns: Total,
}

/// A machine and its recording.
#[derive(Clone, Debug, Serialize)]
pub struct MachineSummary {
    pub node: String,
    pub boot_id: String,
    pub hypervisor: Option<String>,
    pub kernel: String,
    pub probe_set: String,
    pub taps: usize,
    pub records: usize,
    pub duration_ns: u64,
}

/// Packets joined, and those that were not.
#[derive(Clone, Debug, Serialize)]
pub struct JoinedSummary {
    /// Paths with a crossing, and those that were seen from creation to delivery.
    pub paths: u64,
    pub whole: u64,
    #[serde(flatten)]
    pub counts: Counts,
}

/// End-to-end time of all records, and its parts.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Total {
    pub sum: u128,
    pub count: u64,
    pub legs: u128,
    pub crossings: u128,
    /// Sum less its parts: 0.
    pub difference: i128,
}

/// The summary of what was found.
pub(crate) fn summary(
    machines: &[Machine],
    clocks: &Clocks,
    counts: Counts,
    (crossings, lost): (Vec<CrossingSummary>, Vec<LostSummary>),
    sums: Sums,
) -> Summary {
    let difference = sums.end_to_end_ns as i128 - sums.legs_ns as i128 - sums.crossings_ns as i128;
    Summary {
        machines: machines.iter().map(machine_summary).collect(),
        clocks: (0..machines.len())
            .map(|machine| clocks::summary(machines, clocks, machine as u16))
            .collect(),
        joined: JoinedSummary { paths: sums.crossing, whole: sums.whole, counts },
        crossings,
        lost,
        end_to_end_ns: Total {
            sum: sums.end_to_end_ns,
            count: sums.records,
            legs: sums.legs_ns,
            crossings: sums.crossings_ns,
            difference,
        },
    }
}

fn machine_summary(machine: &Machine) -> MachineSummary {
    let header = &machine.recording.header;
    let marks = header.machine.clone().unwrap_or_default();
    let taps = machine.recording.hops.keys().filter(|&&hop| machine.edge(hop) == Some(true)).count();
    MachineSummary {
        node: machine.name.clone(),
        boot_id: marks.boot_id,
        hypervisor: marks.hypervisor,
        kernel: header.kernel.clone(),
        probe_set: header.probe_set.clone(),
        taps,
        records: machine.count as usize,
        duration_ns: machine.recording.last.duration_ns,
    }
}
