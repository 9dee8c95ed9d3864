//! The stage map that a recording carries.

use overlay_trace_common::{
    behaviour::{self, Delivery, Role},
    record::Outcome,
    stage::{Headers, Kind, LevelChange, Stage, Target},
};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::probe_kind::ProbeKind;

/// A row of the stage map, as far as a reader needs it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct StageRow {
    pub name: String,
    pub layer: String,
    /// `work` or `wait`.
    pub kind: String,
    /// `keep`, `up` (encapsulation) or `down` (decapsulation).
    pub level: String,
    /// For stages that end a path: `freed`, `delivered`, `dropped`, `merged`, `split`.
    pub outcome: Option<String>,
    /// One sentence for people.
    pub about: String,
    /// The probe of the stage; `None` if it had none.
    pub probe: Option<ProbeKind>,
    /// Whether the stage's exit was probed too.
    pub exit: bool,
    /// Whether the probe reads the packet's device through a helper: before it reads the clock.
    #[serde(skip_serializing_if = "is_default")]
    pub looks: bool,
    /// Whether the packet's headers are read here, if they have not been before.
    pub headers: bool,
    /// For the transmit stage of a kind of devices: `rtnl_link_ops.kind` (`veth`, `vxlan`); empty for a NIC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub link_kind: Option<String>,
    /// What the stage means for the analysis. Recordings of versions before 5 lack it: it is filled in when they are
    /// opened.
    #[serde(skip_serializing_if = "is_default")]
    pub behaviour: Behaviour,
}

/// What a stage means for the analysis: see [`behaviour::Behaviour`], whose fields these are. In a file a field that
/// has its default is left out.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Behaviour {
    #[serde(skip_serializing_if = "is_default")]
    pub arrives: bool,
    #[serde(skip_serializing_if = "is_default")]
    pub transmits: bool,
    #[serde(skip_serializing_if = "is_default")]
    pub leaves: bool,
    #[serde(skip_serializing_if = "is_default")]
    pub before_start: bool,
    #[serde(skip_serializing_if = "is_default")]
    pub interrupts: bool,
    #[serde(skip_serializing_if = "is_default")]
    pub behind_others: bool,
    #[serde(skip_serializing_if = "is_default")]
    pub shared_queue: bool,
    #[serde(skip_serializing_if = "is_default")]
    pub clones: bool,
    /// `no`, `local`, `transport` or `socket`. What a newer version may call otherwise is read as `no`.
    #[serde(
        skip_serializing_if = "is_default",
        serialize_with = "delivery_name",
        deserialize_with = "delivery"
    )]
    pub delivers: Delivery,
    /// The name of a [`Role`]. What a newer version may call otherwise is read as `stack`.
    #[serde(skip_serializing_if = "is_default", serialize_with = "role_name", deserialize_with = "role")]
    pub role: Role,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub probed_by: Option<String>,
}

impl From<&Stage> for StageRow {
    fn from(stage: &Stage) -> StageRow {
        let targets = stage.points.iter().flat_map(|point| point.probes).map(|probe| probe.target);
        let mut link_kinds = targets.filter_map(|target| match target {
            Target::Transmit(kind) => Some(kind.to_owned()),
            Target::Function(_) | Target::Tracepoint(_) => None,
        });
        StageRow {
            name: stage.name.into(),
            layer: stage.layer.name().into(),
            kind: match stage.kind {
                Kind::Work => "work".into(),
                Kind::Wait => "wait".into(),
            },
            level: match stage.level {
                LevelChange::Keep => "keep".into(),
                LevelChange::Up => "up".into(),
                LevelChange::Down => "down".into(),
            },
            outcome: stage.outcome.map(|outcome| outcome_name(outcome).into()),
            about: stage.about.into(),
            probe: None,
            exit: stage.points.iter().any(|point| point.exit),
            looks: false,
            headers: stage.points.iter().any(|point| point.headers != Headers::No),
            link_kind: link_kinds.next(),
            behaviour: Behaviour::from(&stage.behaviour),
        }
    }
}

impl From<&behaviour::Behaviour> for Behaviour {
    fn from(behaviour: &behaviour::Behaviour) -> Behaviour {
        let behaviour::Behaviour {
            arrives,
            transmits,
            leaves,
            before_start,
            interrupts,
            behind_others,
            shared_queue,
            clones,
            delivers,
            role,
            probed_by,
        } = *behaviour;
        let probed_by = probed_by.map(str::to_owned);
        Behaviour {
            arrives,
            transmits,
            leaves,
            before_start,
            interrupts,
            behind_others,
            shared_queue,
            clones,
            delivers,
            role,
            probed_by,
        }
    }
}

/// How outputs call the end of a path.
pub fn outcome_name(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Freed => "freed",
        Outcome::Delivered => "delivered",
        Outcome::Dropped => "dropped",
        Outcome::Merged => "merged",
        Outcome::Split => "split",
    }
}

/// The name of an IP protocol, of those that container networks carry.
pub fn protocol_name(number: u8) -> Option<&'static str> {
    Some(match number {
        1 => "icmp",
        6 => "tcp",
        17 => "udp",
        58 => "icmpv6",
        132 => "sctp",
        _ => return None,
    })
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

fn delivery_name<S: Serializer>(delivery: &Delivery, out: S) -> Result<S::Ok, S::Error> {
    out.serialize_str(delivery.name())
}

fn delivery<'de, D: Deserializer<'de>>(from: D) -> Result<Delivery, D::Error> {
    let name = String::deserialize(from)?;
    Ok(Delivery::ALL.iter().copied().find(|delivery| delivery.name() == name).unwrap_or_default())
}

fn role_name<S: Serializer>(role: &Role, out: S) -> Result<S::Ok, S::Error> {
    out.serialize_str(role.name())
}

fn role<'de, D: Deserializer<'de>>(from: D) -> Result<Role, D::Error> {
    let name = String::deserialize(from)?;
    Ok(Role::ALL.iter().copied().find(|role| role.name() == name).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use overlay_trace_common::stage_map::STAGES;

    use super::*;

    #[test]
    fn every_row_survives_the_file_and_refers_to_rows_that_exist() {
        for stage in STAGES {
            let row = StageRow::from(stage);
            let text = serde_json::to_string(&row).unwrap();
            assert_eq!(serde_json::from_str::<StageRow>(&text).unwrap(), row, "{text}");
            if let Some(other) = &row.behaviour.probed_by {
                assert!(STAGES.iter().any(|stage| stage.name == other), "{other}");
            }
            // A device that a packet is handed to takes it out of the namespace.
            assert!(row.link_kind.is_none() || row.behaviour.transmits && row.behaviour.leaves, "{text}");
        }
    }

    #[test]
    fn what_a_newer_version_calls_otherwise_is_read_as_the_default() {
        let text =
            r#"{"behaviour": {"role": "quantum", "delivers": "never", "unheard_of": 1, "clones": true}}"#;
        let row: StageRow = serde_json::from_str(text).unwrap();
        assert_eq!(row.behaviour, Behaviour { clones: true, ..Behaviour::default() });
    }
}
