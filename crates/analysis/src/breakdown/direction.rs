//! The direction in which a packet goes, as seen from the namespace that it is in.
//!
//! A path is divided into runs: consecutive spans in one namespace and at one level. A run begins when the packet is
//! created there (by a sender, or by encapsulation) or arrives through a device (or by decapsulation), and ends when it
//! leaves or stays (delivery, or decapsulation).

use overlay_trace_common::path::Span;
use serde::{Serialize, Serializer};

use super::{hop_keys::HopKey, stages::Stages};

/// A packet's direction in a namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Direction {
    /// Made in the namespace, and leaves it.
    Egress,
    /// Came into the namespace through a device and leaves it through another.
    Forward,
    /// Came into the namespace through a device, and stays.
    Ingress,
}

impl Direction {
    pub(super) const ALL: [Direction; 4] =
        [Direction::Egress, Direction::Forward, Direction::Ingress, Direction::Ingress];

    /// The direction's name in every output.
    pub fn name(self) -> &'static str {
        match self {
            Direction::Egress => "egress",
            Direction::Forward => "forward",
            Direction::Ingress => "ingress",
        }
    }
}

impl Serialize for Direction {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// Where and how a path ended, for the parts that a packet was cut into.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct LastRun {
    pub netns: u16,
    pub level: u8,
    pub direction: Direction,
}

/// Where a packet came from, before the first span of its own record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Origin {
    /// The packet came from outside the machine.
    pub from_device: bool,
    /// It was made of another packet.
    pub is_child: bool,
    /// Where the packet that this one was made of ended, or was copied.
    pub parent: Option<LastRun>,
}

/// The direction at each span of a path into `out`; returns the last run.
pub(super) fn directions(
    path: &[Span],
    hop_keys: &[HopKey],
    stages: &Stages,
    origin: Origin,
    out: &mut Vec<Direction>,
) -> Option<LastRun> {
    out.clear();
    let first = path.first()?;
    let mut arrived = match origin.parent {
        Some(parent) if (parent.netns, parent.level) == (hop_keys[0].netns, first.level) => {
            parent.direction != Direction::Egress
        }
        _ => origin.from_device || stages.of(first.stage).arrives,
    };
    let mut start = 0;
    loop {
        let run = run_at(path, hop_keys, stages, start);
        let stays = match path.get(run.end) {
            Some(next) => next.level < path[start].level,
            None => !run.leaves,
        };
        let direction = match (arrived, stays) {
            (false, _) => Direction::Egress,
            (true, false) => Direction::Forward,
            (true, true) => Direction::Ingress,
        };
        out.resize(run.end, direction);
        let Some(next) = path.get(run.end) else {
            return Some(LastRun { netns: hop_keys[start].netns, level: path[start].level, direction });
        };
        arrived = next.level <= path[start].level;
        start = run.end;
    }
}

struct Run {
    /// The first span behind the run.
    end: usize,
    /// Whether the packet was leaving the namespace somewhere in the run.
    leaves: bool,
}

/// The run that begins at `start`. It also ends where a packet that was handed to a device arrives again
/// in the same namespace: over loopback, or between two devices of one node.
fn run_at(path: &[Span], hop_keys: &[HopKey], stages: &Stages, start: usize) -> Run {
    let (netns, level) = (hop_keys[start].netns, path[start].level);
    let (mut transmitted, mut leaves) = (false, false);
    let mut end = start;
    while end < path.len() && hop_keys[end].netns == netns && path[end].level == level {
        let facts = stages.of(path[end].stage);
        if facts.arrives && transmitted {
            break;
        }
        transmitted |= facts.transmits;
        leaves |= facts.leaves;
        end += 1;
    }
    Run { end, leaves }
}
