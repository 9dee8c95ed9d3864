//! What times are summed by.

use clap::ValueEnum;
use overlay_trace_common::{behaviour::Behaviour, stage::Layer};
use serde::Serialize;

use super::Direction;

/// How finely times are told apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum By {
    /// Stage, level, direction, namespace and device
    #[default]
    Stage,
    /// Stage, level and direction, wherever the packet was: what recordings of different networks have
    /// in common
    #[value(skip)]
    Anywhere,
    /// Layer and level
    Layer,
    /// Namespace, device and direction
    Device,
    /// Level: how many encapsulation headers surround the packet
    Level,
}

/// What a row's time is of; `None` where the analysis does not tell it apart.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct Key {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub layer: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stage: Option<String>,
    /// `work` or `wait`.
    pub kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub level: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub direction: Option<Direction>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub netns: Option<String>,
    /// Empty for "in the namespace, at no device yet".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
}

/// Namespace, direction and level.
pub type Part<'a> = (Option<&'a str>, Option<Direction>, Option<u8>);

impl Key {
    /// Whether the packet lay in a socket, for the program or the protocol to take it.
    pub fn is_socket_wait(&self) -> bool {
        self.kind == "wait"
            && self.layer.as_deref().is_some_and(|layer| {
                Layer::from_name(layer).is_some_and(|layer| Behaviour::of(layer).delivers.is_certain())
            })
    }

    /// The part of the path that the key belongs to.
    pub fn part(&self) -> Part<'_> {
        (self.netns.as_deref(), self.direction, self.level)
    }

    /// Whether the two keys are in the same namespace, direction and level.
    pub fn same_part(&self, other: &Key) -> bool {
        self.part() == other.part()
    }
}

/// A key's numbers in one word, so that they can be looked up fast.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Packed(u64);

impl Packed {
    /// The parts that an analysis by `by` does not tell apart are left out.
    pub(super) fn new(
        by: By,
        layer: u8,
        stage: u8,
        wait: bool,
        level: u8,
        direction: Direction,
        place: u16,
    ) -> Packed {
        let (layer, stage) = (u64::from(layer) << 32, u64::from(stage) << 24);
        let level = u64::from(level) << 19;
        let direction = (direction as u64) << 17;
        let place = u64::from(place);
        let parts = match by {
            By::Stage => layer | stage | level | direction | place,
            By::Anywhere => layer | stage | level | direction,
            By::Layer => layer | level,
            By::Device => direction | place,
            By::Level => level,
        };
        Packed(parts | u64::from(wait) << 16)
    }

    /// The stage's number, where the analysis tells stages apart.
    pub(super) fn stage(self) -> u8 {
        (self.0 >> 24) as u8
    }

    /// The same level, direction and hop key in another stage, which is a wait.
    pub(super) fn waiting_in(self, by: By, layer: u8, stage: u8) -> Packed {
        let place = self.0 & 0xff_ffff;
        Packed(Packed::new(by, layer, stage, true, 0, Direction::Egress, 0).0 | place)
    }

    /// The key in words: `layers` names the numbers of layers, and so on.
    pub(super) fn name(
        self,
        by: By,
        layers: &[String],
        stages: &[String],
        places: &[(String, String)],
    ) -> Key {
        let layer = || layers[(self.0 >> 32) as u8 as usize].clone();
        let stage = || stages[usize::from(self.stage())].clone();
        let level = (self.0 >> 19) as u8 & 31;
        let direction = Direction::ALL[(self.0 >> 17) as usize & 3];
        let place = || &places[self.0 as u16 as usize];
        Key {
            layer: matches!(by, By::Stage | By::Anywhere | By::Layer).then(layer),
            stage: matches!(by, By::Stage | By::Anywhere).then(stage),
            kind: if self.0 >> 16 & 1 == 1 { "wait" } else { "work" },
            level: (by != By::Device).then_some(level),
            direction: matches!(by, By::Stage | By::Anywhere | By::Device).then_some(direction),
            netns: matches!(by, By::Stage | By::Device).then(|| place().0.clone()),
            device: matches!(by, By::Stage | By::Device).then(|| place().1.clone()),
        }
    }
}
