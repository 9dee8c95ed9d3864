//! What the probes of a way have cost.

use overlay_trace_common::path::Span;

use super::{plan::Origin, stages::Stages};
use overlay_trace_format::{Header, ProbeKind, StageRow};

/// Costs are added in parts of 1/1024 ns.
pub(super) const COST_PARTS_SHIFT: u32 = 10;

/// What probes cost besides the hit at a stage's entry, in 1/1024 ns.
pub(super) struct Costs {
    exit: u64,
    again: Option<u64>,
    birth: u64,
    headers: u64,
    hop: u64,
    /// Whether the cost of every kind of probe that was used has been measured.
    pub are_known: bool,
}

impl Costs {
    pub fn new(header: &Header) -> Costs {
        let costs = &header.probe_cost_ns;
        Costs {
            exit: fixed(costs.exit),
            again: costs.again.map(|ns| fixed(Some(ns))),
            birth: fixed(costs.birth),
            headers: fixed(costs.headers),
            hop: fixed(costs.hop),
            are_known: are_known(header),
        }
    }
}

impl Stages {
    /// What the probe at the beginning of each segment of a way cost, with what else was done there, in
    /// 1/1024 ns. What a packet inherits from the one that it was made of was not done again.
    pub fn probe_costs(&self, way: &[Span], origin: Origin) -> Vec<u64> {
        let mut costs: Vec<u64> = (0..way.len()).map(|at| self.probe_cost(way, at)).collect();
        if !origin.is_child {
            let mut once = |is_there: fn(&super::stages::Facts) -> bool, cost: u64| {
                if let Some(at) = way.iter().position(|segment| is_there(self.of(segment.stage))) {
                    costs[at] += cost;
                }
            };
            once(|facts| !facts.before_birth, self.costs.birth);
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

/// What the probe at a stage's entry costs, in 1/1024 ns.
pub(super) fn of_stage(header: &Header, row: &StageRow) -> u64 {
    let costs = &header.probe_cost_ns;
    // Until the softirq has begun, of which a tracepoint tells.
    let is_told_by_softirq = row.name == "softirq-wait" || row.name == "ksoftirqd-wait";
    let teller = header.stages.iter().find(|row| is_told_by_softirq && row.name == "softirq-interruption");
    fixed(match teller.unwrap_or(row).probe {
        None => None,
        Some(ProbeKind::Fentry) => costs.entry,
        Some(ProbeKind::Kprobe) => costs.kprobe.or(costs.entry),
        Some(ProbeKind::TpBtf | ProbeKind::Tracepoint) => costs.tracepoint,
        Some(ProbeKind::Tc) => costs.tc,
    })
}

fn are_known(header: &Header) -> bool {
    let costs = &header.probe_cost_ns;
    let mut probes =
        header.stages.iter().filter_map(|row| row.probe.map(|probe| (probe, row.exit))).peekable();
    probes.peek().is_some()
        && probes.all(|(probe, exit)| match probe {
            ProbeKind::Fentry | ProbeKind::Kprobe => costs.entry.is_some() && (!exit || costs.exit.is_some()),
            ProbeKind::TpBtf | ProbeKind::Tracepoint => costs.tracepoint.is_some(),
            ProbeKind::Tc => costs.tc.is_some(),
        })
}

fn fixed(ns: Option<f64>) -> u64 {
    (ns.unwrap_or(0.0).max(0.0) * f64::from(1 << COST_PARTS_SHIFT)).round() as u64
}
