//! What the probes along a path have cost.

use overlay_trace_common::path::Span;

use super::{
    direction::Origin,
    stages::{Facts, Stages},
};

impl Stages {
    /// What the probe at the beginning of each segment of a way cost, with what else was done there, in
    /// 1/1024 ns. What a packet inherits from the one that it was made of was not done again.
    pub fn probe_costs(&self, way: &[Span], origin: Origin) -> Vec<u64> {
        let mut costs: Vec<u64> = (0..way.len()).map(|at| self.probe_cost(way, at)).collect();
        if !origin.is_child {
            let mut once = |is_there: fn(&Facts) -> bool, cost: u64| {
                if let Some(at) = way.iter().position(|segment| is_there(self.of(segment.stage))) {
                    costs[at] += cost;
                }
            };
            once(|facts| !facts.before_start, self.costs.start);
            once(|facts| facts.headers, self.costs.headers);
        }
        costs
    }

    /// What is left of a stage after an interruption does not begin with a probe.
    fn probe_cost(&self, way: &[Span], at: usize) -> u64 {
        let segment = way[at];
        let is_resumed =
            at >= 2 && self.of(way[at - 1].stage).interrupts && way[at - 2].stage == segment.stage;
        if is_resumed {
            return 0;
        }
        // The same stage once more, at the same place.
        if let Some(again) = self.costs.again.filter(|_| at > 0 && way[at - 1] == segment) {
            return again.min(self.of(segment.stage).cost);
        }
        let hop = if at > 0 && way[at - 1].hop != segment.hop { self.costs.hop } else { 0 };
        hop + if self.begins_by_exit(way, at) { self.costs.exit } else { self.of(segment.stage).cost }
    }

    /// Whether the packet came back from a stage whose exit is watched, to the stage before that.
    fn begins_by_exit(&self, way: &[Span], at: usize) -> bool {
        let stage = way[at].stage;
        let mut before =
            way[..at].iter().rev().map(|segment| segment.stage).filter(|&before| !self.of(before).interrupts);
        let Some(left) = before.next() else { return false };
        let before = before.find(|&before| before != left);
        left != stage && self.of(left).exit && before == Some(stage)
    }
}
