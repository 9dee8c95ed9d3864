//! Where and why the kernel dropped a packet.

use crate::breakdown::{Drop, Key};

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

/// Whether two keys are the same stage at the same place, whatever the packets' direction.
pub(super) fn is_same_place(one: &Key, other: &Key) -> bool {
    let place = |key: &'_ Key| (key.stage.clone(), key.level, key.netns.clone(), key.device.clone());
    place(one) == place(other)
}
