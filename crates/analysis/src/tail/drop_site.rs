//! Where and why the kernel dropped a packet.

use std::collections::BTreeSet;

use crate::breakdown::{Drop, Key, Rows, TracedPacket};
use overlay_trace_format::Names;

/// Where and why a packet was dropped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DropSite {
    /// Name of the `enum skb_drop_reason` value; empty for "none given".
    pub reason: String,
    /// `function+offset` of the `kfree_skb` tracepoint's location.
    pub location: String,
    pub key: Key,
}

impl DropSite {
    pub(super) fn of(drop: &Drop) -> DropSite {
        DropSite { reason: drop.reason.clone(), location: drop.location.clone(), key: drop.key.clone() }
    }

    /// Whether this is the same place and reason. The direction is ignored: it can be derived differently for a packet
    /// and for its retransmission.
    pub(super) fn is(&self, drop: &Drop) -> bool {
        (&self.reason, &self.location) == (&drop.reason, &drop.location)
            && is_same_place(&self.key, &drop.key)
    }
}

/// A stage, level, namespace and device.
pub(super) type Place = (Option<String>, Option<u8>, Option<String>, Option<String>);

/// Where a key is, whatever the packets' direction.
pub(super) fn place(key: &Key) -> Place {
    (key.stage.clone(), key.level, key.netns.clone(), key.device.clone())
}

/// Whether two keys are the same stage at the same place, whatever the packets' direction.
pub(super) fn is_same_place(one: &Key, other: &Key) -> bool {
    (&one.stage, one.level, &one.netns, &one.device)
        == (&other.stage, other.level, &other.netns, &other.device)
}

/// The same by the numbers of the reason, the location, and the row that the packet was in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct DropNumbers {
    pub reason: u32,
    pub location: u64,
    pub row: u32,
}

impl DropNumbers {
    /// Where a packet's path ended. A packet that waited for the CPU was dropped in the stage before that; `interrupts`
    /// are the stages of such waits.
    pub fn of(packet: &TracedPacket<'_>, rows: &[u32], interrupts: &BTreeSet<u8>) -> DropNumbers {
        let mut path = packet.path.iter().zip(rows).rev();
        let last = path.find(|(span, _)| !interrupts.contains(&span.stage));
        let row = last.map_or(0, |(_, row)| *row);
        DropNumbers { reason: packet.header.drop_reason, location: packet.header.drop_location, row }
    }

    /// The site in names.
    pub fn site(self, rows: &Rows, names: &Names) -> DropSite {
        DropSite {
            reason: names.reason(self.reason),
            location: names.symbol(self.location),
            key: rows.key(self.row),
        }
    }
}
