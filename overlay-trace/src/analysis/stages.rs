//! What the analysis needs to know of each stage number, from the recording's own stage map.

use std::collections::BTreeSet;

use overlay_trace_common::way::Segment;

use super::{fold::Interrupts, key::number};
use crate::trace::{Header, ProbeKind, StageRow};

/// Costs are added in parts of 1/1024 ns.
pub(super) const COST_PARTS_SHIFT: u32 = 10;

/// What a stage number means.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Facts {
    pub layer: u8,
    pub wait: bool,
    /// A packet arrives here from a device.
    pub arrives: bool,
    /// A packet is handed to a device here.
    pub transmits: bool,
    /// A packet that is here is on its way out of the namespace.
    pub leaves: bool,
    /// A packet that is freed here without a drop has been delivered: 1 always, 2 if it was not about to
    /// leave.
    pub delivers: u8,
    pub exit: bool,
    /// The packet waits for the CPU in the middle of another stage.
    pub interrupts: bool,
    /// The packet waits behind others, whose probes hold it up too.
    pub behind_others: bool,
    /// Cost of the probe at the stage's entry, in 1/1024 ns.
    pub cost: u64,
}

/// The stage map of a recording, by stage number. Numbers that it does not have are stages of layer
/// `other` named after the number.
pub(super) struct Stages {
    pub names: Vec<String>,
    pub layers: Vec<String>,
    facts: Vec<Facts>,
    /// The stages that interrupt others.
    pub interrupts: Interrupts,
    exit_cost: u64,
    /// The number of the stage `other`.
    pub other: u8,
    /// Whether the cost of every kind of probe that was used has been measured.
    pub costs_known: bool,
}

impl Stages {
    pub fn new(header: &Header) -> Stages {
        let (mut layers, mut seen) = (Vec::new(), BTreeSet::new());
        let (mut names, mut facts) = (Vec::new(), Vec::new());
        for stage in 0..=255 {
            let unknown =
                StageRow { name: format!("stage-{stage}"), layer: "other".into(), ..StageRow::default() };
            let row = header.stages.get(stage).unwrap_or(&unknown);
            facts.push(Facts {
                cost: cost(header, row.probe),
                ..facts_of(row, number(&mut layers, &mut seen, &row.layer))
            });
            names.push(row.name.clone());
        }
        let other =
            header.stages.iter().position(|row| row.layer == "other" && row.outcome.is_none()).unwrap_or(255);
        Stages {
            interrupts: std::array::from_fn(|stage| facts[stage].interrupts),
            names,
            layers,
            facts,
            exit_cost: fixed(header.probe_cost_ns.exit),
            other: other as u8,
            costs_known: costs_known(header),
        }
    }

    pub fn of(&self, stage: u8) -> &Facts {
        &self.facts[usize::from(stage)]
    }

    /// Whether a stage claims nothing: it is of the layer `other`.
    pub fn is_other(&self, stage: u8) -> bool {
        self.of(stage).layer == self.of(self.other).layer
    }

    /// What the probe at the beginning of segment `at` cost, in 1/1024 ns. What is left of a stage after
    /// an interruption does not begin with a probe.
    pub fn probe_cost(&self, way: &[Segment], at: usize) -> u64 {
        let segment = way[at];
        let is_resumed =
            at >= 2 && self.of(way[at - 1].stage).interrupts && way[at - 2].stage == segment.stage;
        if is_resumed {
            return 0;
        }
        if self.begins_by_exit(way, at) {
            return self.exit_cost;
        }
        self.of(segment.stage).cost
    }

    /// Whether the packet came back from a stage whose exit is watched, to the stage before that.
    fn begins_by_exit(&self, way: &[Segment], at: usize) -> bool {
        let stage = way[at].stage;
        let mut before =
            way[..at].iter().rev().map(|segment| segment.stage).filter(|&before| !self.of(before).interrupts);
        let Some(left) = before.next() else { return false };
        let before = before.find(|&before| before != left);
        left != stage && self.of(left).exit && before == Some(stage)
    }
}

fn facts_of(row: &StageRow, layer: u8) -> Facts {
    let name = row.name.as_str();
    let transmits = name.ends_with("-xmit") || name.ends_with("-encap");
    Facts {
        layer,
        wait: row.kind == "wait",
        arrives: matches!(row.layer.as_str(), "backlog" | "gro" | "gro-cells"),
        transmits,
        leaves: transmits
            || row.layer == "qdisc"
            || name.starts_with("ip-forward")
            || name == "bridge-forward",
        delivers: match row.layer.as_str() {
            "socket" | "transport" => 1,
            "ip" => 2,
            _ => 0,
        },
        exit: row.exit,
        interrupts: row.layer == "cpu",
        behind_others: name == "batch-wait",
        cost: 0,
    }
}

fn cost(header: &Header, probe: Option<ProbeKind>) -> u64 {
    let costs = &header.probe_cost_ns;
    fixed(match probe {
        None => None,
        Some(ProbeKind::Fentry) => costs.entry,
        Some(ProbeKind::Kprobe) => costs.kprobe.or(costs.entry),
        Some(ProbeKind::TpBtf | ProbeKind::Tracepoint) => costs.tracepoint,
        Some(ProbeKind::Tc) => costs.tc,
    })
}

fn costs_known(header: &Header) -> bool {
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
