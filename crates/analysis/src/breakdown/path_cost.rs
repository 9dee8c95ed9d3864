//! What the probes along a path have cost.

use overlay_trace_common::path::Span;

use super::{
    direction::Origin,
    stages::{Facts, Stages},
};

impl Stages {
    /// The cost of the probe at the beginning of each span of a path, with the other work done there, in 1/1024 ns. A
    /// clone, segment or fragment has the start and the headers of its parent: they cost nothing again.
    pub fn probe_costs(&self, path: &[Span], origin: Origin) -> Vec<u64> {
        let mut costs: Vec<u64> =
            (0..path.len()).map(|at| self.probe_cost(path, at) + self.look_cost(path, at)).collect();
        if !origin.is_child {
            let mut once = |is_there: fn(&Facts) -> bool, cost: u64| {
                if let Some(at) = path.iter().position(|span| is_there(self.of(span.stage))) {
                    costs[at] += cost;
                }
            };
            once(|facts| !facts.before_start, self.costs.start);
            once(|facts| facts.headers, self.costs.headers);
        }
        costs
    }

    /// The cost at one span. A span that continues after an interruption does not begin with a probe.
    fn probe_cost(&self, path: &[Span], at: usize) -> u64 {
        let span = path[at];
        let is_resumed =
            at >= 2 && self.of(path[at - 1].stage).interrupts && path[at - 2].stage == span.stage;
        if is_resumed {
            return 0;
        }
        // The same stage once more, at the same hop.
        if let Some(again) = self.costs.again.filter(|_| at > 0 && path[at - 1] == span) {
            return again.min(self.of(span.stage).cost);
        }
        let hop = if at > 0 && path[at - 1].hop != span.hop { self.costs.hop } else { 0 };
        hop + if self.begins_by_exit(path, at) { self.costs.exit } else { self.of(span.stage).cost }
    }

    /// The cost of the next probe's look at the packet's device, which comes before it reads the clock: in the time of this
    /// span.
    fn look_cost(&self, path: &[Span], at: usize) -> u64 {
        match path.get(at + 1) {
            Some(next) if self.of(next.stage).looks && !self.of(path[at].stage).interrupts => self.costs.look,
            _ => 0,
        }
    }

    /// Whether the packet came back from a stage whose exit is watched, to the stage before that.
    fn begins_by_exit(&self, path: &[Span], at: usize) -> bool {
        let stage = path[at].stage;
        let mut before =
            path[..at].iter().rev().map(|span| span.stage).filter(|&before| !self.of(before).interrupts);
        let Some(left) = before.next() else { return false };
        let before = before.find(|&before| before != left);
        left != stage && self.of(left).exit && before == Some(stage)
    }
}
