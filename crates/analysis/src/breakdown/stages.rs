//! What the analysis needs to know of each stage number, from the recording's own stage map.

use std::collections::BTreeSet;

use super::{
    fold::Interrupts,
    probe_cost::{self, Costs},
};
use overlay_trace_common::{
    behaviour::{Delivery, Role},
    stage::{Kind, Layer},
};
use overlay_trace_format::{Header, StageRow};

/// What a stage number means: its [`Behaviour`](overlay_trace_common::behaviour::Behaviour), and what follows from the
/// rest of its row.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Facts {
    /// Number of the layer in [`Stages::layers`].
    pub layer: u8,
    pub wait: bool,
    pub exit: bool,
    /// The probe reads the packet's device through a helper.
    pub looks: bool,
    /// The packet's headers are read here, if they have not been before.
    pub headers: bool,
    pub arrives: bool,
    pub transmits: bool,
    pub leaves: bool,
    pub before_start: bool,
    pub interrupts: bool,
    pub behind_others: bool,
    pub shared_queue: bool,
    pub delivers: Delivery,
    pub role: Role,
    /// Cost of the probe at the stage's entry, in 1/1024 ns.
    pub cost: u64,
}

impl Facts {
    fn of(header: &Header, row: &StageRow, layer: u8) -> Facts {
        let behaviour = &row.behaviour;
        Facts {
            layer,
            wait: row.kind == Kind::Wait.name(),
            exit: row.exit,
            looks: row.looks,
            headers: row.headers,
            arrives: behaviour.arrives,
            transmits: behaviour.transmits,
            leaves: behaviour.leaves,
            before_start: behaviour.before_start,
            interrupts: behaviour.interrupts,
            behind_others: behaviour.behind_others,
            shared_queue: behaviour.shared_queue,
            delivers: behaviour.delivers,
            role: behaviour.role,
            cost: probe_cost::of_stage(header, row),
        }
    }
}

/// The stage map of a recording, by stage number. Numbers that it does not have are stages of layer
/// `other` named after the number.
pub(super) struct Stages {
    pub names: Vec<String>,
    pub layers: Vec<String>,
    facts: Vec<Facts>,
    /// The stages that interrupt others.
    pub interrupts: Interrupts,
    pub costs: Costs,
    /// The number of the stage `other`.
    pub other: u8,
}

impl Stages {
    pub fn new(header: &Header) -> Stages {
        let (mut layers, mut seen) = (Vec::new(), BTreeSet::new());
        let (mut names, mut facts) = (Vec::new(), Vec::new());
        for stage in 0..=255 {
            let layer = Layer::Other.name().into();
            let unknown = StageRow { name: format!("stage-{stage}"), layer, ..StageRow::default() };
            let row = header.stages.get(stage).unwrap_or(&unknown);
            facts.push(Facts::of(header, row, number(&mut layers, &mut seen, &row.layer)));
            names.push(row.name.clone());
        }
        Stages {
            interrupts: std::array::from_fn(|stage| facts[stage].interrupts),
            names,
            layers,
            facts,
            costs: Costs::new(header),
            other: other_stage(header),
        }
    }

    pub fn of(&self, stage: u8) -> &Facts {
        &self.facts[usize::from(stage)]
    }

    /// Whether a stage claims nothing: it is of the layer `other`.
    pub fn is_other(&self, stage: u8) -> bool {
        self.of(stage).layer == self.of(self.other).layer
    }
}

/// The number of the stage that owns what no other stage claims.
pub(super) fn other_stage(header: &Header) -> u8 {
    let is_other = |row: &StageRow| row.layer == Layer::Other.name() && row.outcome.is_none();
    header.stages.iter().position(is_other).unwrap_or(255) as u8
}

/// Numbers for names, in order of first appearance.
fn number(names: &mut Vec<String>, seen: &mut BTreeSet<String>, name: &str) -> u8 {
    if seen.insert(name.into()) {
        names.push(name.into());
    }
    names.iter().position(|known| known == name).unwrap_or(0) as u8
}
