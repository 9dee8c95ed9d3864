//! A cause that a recording gives evidence of.

use super::{cpus::SingleCpu, rule::Rule, tcp::RetransmissionGroup};
use crate::breakdown::Key;

/// How bad a cause is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    Note,
    Warning,
    Severe,
}

impl Severity {
    /// The severity's name in every output.
    pub fn name(self) -> &'static str {
        match self {
            Severity::Note => "note",
            Severity::Warning => "warning",
            Severity::Severe => "severe",
        }
    }
}

/// A cause that a recording gives evidence of.
#[derive(Clone, Debug)]
pub struct Finding {
    pub rule: &'static Rule,
    pub severity: Severity,
    /// The fraction of the slow packets' excess, or of all packets' time, that it holds; `None` for drops.
    pub share: Option<f64>,
    /// The time that all slow packets, or all packets, lost by it, in ns. For drops: the time that senders waited for
    /// retransmissions; where no retransmission was seen, the least timeout per packet.
    pub lost_ns: u128,
    /// Slow packets whose largest excess it is, or packets that were dropped.
    pub packets: u64,
    /// The place with the largest part of it.
    pub key: Key,
    /// The kernel's drop reason and location, for drops.
    pub drop: Option<(String, String)>,
    /// What TCP retransmitted because of it.
    pub retransmitted: Retransmitted,
    /// The one CPU that all packets were on.
    pub cpu: Option<SingleCpu>,
}

impl Finding {
    /// A warning about a place, with nothing else filled in.
    pub(super) fn at(rule: &'static Rule, key: &Key) -> Finding {
        Finding {
            rule,
            severity: Severity::Warning,
            share: None,
            lost_ns: 0,
            packets: 0,
            key: key.clone(),
            drop: None,
            retransmitted: Retransmitted::default(),
            cpu: None,
        }
    }
}

/// Totals of retransmitted TCP segments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retransmitted {
    pub segments: u64,
    /// Those of them that waited for a retransmission timeout (RTO).
    pub timeouts: u64,
    /// Sum of the times since the attempts before, in ns.
    pub waited_ns: u128,
    pub longest_ns: u64,
}

impl Retransmitted {
    pub(super) fn of<'a>(groups: impl Iterator<Item = &'a RetransmissionGroup>) -> Retransmitted {
        groups.fold(Retransmitted::default(), |sum, group| Retransmitted {
            segments: sum.segments + group.segments,
            timeouts: sum.timeouts + if group.trigger.is_timeout() { group.segments } else { 0 },
            waited_ns: sum.waited_ns + group.waited_ns,
            longest_ns: sum.longest_ns.max(group.longest_ns),
        })
    }
}
