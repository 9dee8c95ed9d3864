//! The result: counts and groups of retransmissions.

use std::collections::BTreeMap;

use super::super::drop_site::DropSite;
use crate::breakdown::Key;

/// What made TCP retransmit a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RetransmitTrigger {
    /// The retransmission timer (RTO) expired.
    Timeout,
    /// A SYN or SYN-ACK timed out.
    Handshake,
    /// A timer below the kernel's minimum RTO: a tail loss probe, or a shortened RTO.
    Probe,
    /// Fast retransmit: acknowledgements reported the segment missing.
    Fast,
}

impl RetransmitTrigger {
    /// The name in every output.
    pub fn name(self) -> &'static str {
        match self {
            RetransmitTrigger::Timeout => "timeout",
            RetransmitTrigger::Handshake => "handshake",
            RetransmitTrigger::Probe => "probe",
            RetransmitTrigger::Fast => "fast",
        }
    }

    /// Whether the sender waited for a full timeout.
    pub fn is_timeout(self) -> bool {
        matches!(self, RetransmitTrigger::Timeout | RetransmitTrigger::Handshake)
    }
}

/// Retransmitted segments with the same trigger, whose attempts before were dropped at the same place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetransmissionGroup {
    pub trigger: RetransmitTrigger,
    pub segments: u64,
    /// Sum of the times since the attempts before, in ns.
    pub waited_ns: u128,
    pub longest_ns: u64,
    /// `None` where the recording does not show the drop of the attempt before.
    pub dropped_at: Option<DropSite>,
}

/// Waits for retransmission timeouts. The timer backs off exponentially, so they are multiples of the shortest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimeoutWaits {
    /// In ns.
    pub shortest_ns: u64,
    /// Segments by the multiple of the shortest wait (1, 2, 4…).
    pub by_multiple: BTreeMap<u64, u64>,
}

impl TimeoutWaits {
    /// `None` without any wait.
    pub(super) fn of(waits: &[u64]) -> Option<TimeoutWaits> {
        let shortest_ns = *waits.iter().min()?;
        let mut by_multiple = BTreeMap::new();
        for wait in waits {
            let multiple = wait.saturating_add(shortest_ns / 2) / shortest_ns.max(1);
            *by_multiple.entry(multiple).or_default() += 1;
        }
        Some(TimeoutWaits { shortest_ns, by_multiple })
    }
}

/// What TCP did during a recording.
#[derive(Clone, Debug, Default)]
pub struct TcpView {
    /// Segments with data or SYN, without retransmissions.
    pub segments: u64,
    /// The longest total wait first.
    pub retransmissions: Vec<RetransmissionGroup>,
    pub timeout_waits: Option<TimeoutWaits>,
    pub out_of_order: u64,
    /// Segments that advertised a zero window.
    pub zero_windows: u64,
    /// Where the first of those started.
    pub zero_window_at: Option<Key>,
}

impl TcpView {
    /// Retransmitted segments with such a trigger.
    pub fn count(&self, which: impl Fn(RetransmitTrigger) -> bool) -> u64 {
        self.retransmissions.iter().filter(|group| which(group.trigger)).map(|group| group.segments).sum()
    }
}
