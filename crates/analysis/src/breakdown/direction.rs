//! The direction in which a packet goes, as seen from the namespace that it is in.
//!
//! A way is cut into runs: stretches in one namespace and at one level, that begin with the packet being
//! made there (by a sender, or by encapsulation) or arriving through a device (or by decapsulation), and
//! end with it leaving or staying (delivery, or decapsulation).

use overlay_trace_common::path::Span;
use serde::{Serialize, Serializer};

use super::{places::Place, plan::Origin, stages::Stages};

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

/// Where and how a way ended, for the parts that a packet was cut into.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct LastRun {
    pub netns: u16,
    pub level: u8,
    pub direction: Direction,
}

/// The direction at each segment of a way into `out`; returns the last run.
pub(super) fn directions(
    way: &[Span],
    places: &[Place],
    stages: &Stages,
    origin: Origin,
    out: &mut Vec<Direction>,
) -> Option<LastRun> {
    out.clear();
    let first = way.first()?;
    let mut arrived = match origin.parent {
        Some(parent) if (parent.netns, parent.level) == (places[0].netns, first.level) => {
            parent.direction != Direction::Egress
        }
        _ => origin.from_device || stages.of(first.stage).arrives,
    };
    let mut start = 0;
    loop {
        let run = run_at(way, places, stages, start);
        let stays = match way.get(run.end) {
            Some(next) => next.level < way[start].level,
            None => !run.leaves,
        };
        let direction = match (arrived, stays) {
            (false, _) => Direction::Egress,
            (true, false) => Direction::Forward,
            (true, true) => Direction::Ingress,
        };
        out.resize(run.end, direction);
        let Some(next) = way.get(run.end) else {
            return Some(LastRun { netns: places[start].netns, level: way[start].level, direction });
        };
        arrived = next.level <= way[start].level;
        start = run.end;
    }
}

struct Run {
    /// The first segment behind the run.
    end: usize,
    /// Whether the packet was on its way out somewhere in the run.
    leaves: bool,
}

/// The run that begins at `start`. It also ends where a packet that was handed to a device arrives again
/// in the same namespace: over loopback, or between two devices of one node.
fn run_at(way: &[Span], places: &[Place], stages: &Stages, start: usize) -> Run {
    let (netns, level) = (places[start].netns, way[start].level);
    let (mut transmitted, mut leaves) = (false, false);
    let mut end = start;
    while end < way.len() && places[end].netns == netns && way[end].level == level {
        let facts = stages.of(way[end].stage);
        if facts.arrives && transmitted {
            break;
        }
        transmitted |= facts.transmits;
        leaves |= facts.leaves;
        end += 1;
    }
    Run { end, leaves }
}
