//! What the analysis needs to know of each stage number, from the recording's own stage map.

use std::collections::BTreeSet;

use super::{
    cost::{self, Costs},
    fold::Interrupts,
    key::number,
};
use overlay_trace_format::{Header, StageRow};

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
    /// No packet exists yet.
    pub before_birth: bool,
    /// The packet's headers are read here, if they have not been before.
    pub headers: bool,
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
    pub costs: Costs,
    /// The number of the stage `other`.
    pub other: u8,
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
                cost: cost::of_stage(header, row),
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
            costs: Costs::new(header),
            other: other as u8,
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
        before_birth: name == "socket-send" || name == "tcp-send",
        headers: row.headers,
        interrupts: row.layer == "cpu",
        behind_others: name == "batch-wait",
        cost: 0,
    }
}
