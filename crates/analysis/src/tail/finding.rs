//! A cause that a recording gives evidence of.

use overlay_trace_format::ThrottledCgroup;

use super::{
    counted::CountedAt,
    cpus::SingleCpu,
    drop_evidence::SiteFacts,
    drop_table::DropRow,
    rule::{Advice, Evidence, Rule, Sign},
    tcp::RetransmissionGroup,
};
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

/// How sure it is that the cause is the one that is named. The book defines the words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Confidence {
    /// Something else may explain more: it holds less than half of what was lost.
    Possible,
    /// The evidence fits it, and not what looks alike.
    Likely,
    /// The kernel itself says so.
    Certain,
}

impl Confidence {
    /// The word in every output.
    pub fn name(self) -> &'static str {
        match self {
            Confidence::Possible => "possible",
            Confidence::Likely => "likely",
            Confidence::Certain => "certain",
        }
    }
}

/// The flows that dropped packets belong to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LossyFlows {
    /// Counted up to a limit.
    pub flows: u64,
    /// Those of which nothing got through after the first drop.
    pub silenced: u64,
    /// The most packets of one flow that were dropped with none in between that got through.
    pub run: u64,
}

impl LossyFlows {
    pub(super) fn of(facts: &SiteFacts) -> LossyFlows {
        LossyFlows { flows: facts.flows(), silenced: facts.silenced(), run: facts.run }
    }
}

/// A cause that a recording gives evidence of.
#[derive(Clone, Debug)]
pub struct Finding {
    pub rule: &'static Rule,
    pub severity: Severity,
    pub confidence: Confidence,
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
    /// What the table of drops says of that reason or location.
    pub row: Option<&'static DropRow>,
    /// The flows of the dropped packets.
    pub lossy: Option<LossyFlows>,
    /// Every packet spends most of its time there, not only the slow ones: half of those that pass take at least so
    /// long, in ns. Of requests: their mean.
    pub typical_ns: Option<u64>,
    /// What TCP retransmitted because of it.
    pub retransmitted: Retransmitted,
    /// The one CPU that all packets were on.
    pub cpu: Option<SingleCpu>,
    /// The kernel's counters that show it, for causes that these tell of.
    pub counted: Vec<CountedAt>,
    /// The control group whose CPU quota ran out.
    pub throttled: Option<ThrottledCgroup>,
}

impl Finding {
    /// The cause as a clause: for drops that no rule names, what the table says of them.
    pub fn what(&self) -> &'static str {
        match (&self.rule.evidence, self.row) {
            (Evidence::OtherDrops, Some(row)) => row.means,
            _ => self.rule.what,
        }
    }

    /// Whether the recording shows where it is.
    pub fn has_place(&self) -> bool {
        let is_named = |name: &Option<String>| name.as_deref().is_some_and(|name| !name.is_empty());
        is_named(&self.key.stage) || is_named(&self.key.netns)
    }

    /// What the cause can come from, where one reason has several; none where the rule or the stage tells them apart.
    pub fn possible(&self) -> &'static [&'static str] {
        match (&self.rule.evidence, self.row) {
            (Evidence::Drops { sign: Sign::Any, stages: [], .. } | Evidence::OtherDrops, Some(row)) => {
                row.causes
            }
            _ => &[],
        }
    }

    /// How to make sure.
    pub fn check(&self) -> &'static str {
        let of_row = self.row.map_or("", |row| row.check);
        if self.rule.check.is_empty() { of_row } else { self.rule.check }
    }

    /// What helps.
    pub fn advice(&self) -> Vec<&'static Advice> {
        let of_row = self.row.filter(|_| self.rule.advice.is_empty());
        self.rule.advice.iter().chain(of_row.map(|row| &row.helps)).collect()
    }

    /// A warning about a place, with nothing else filled in.
    pub(super) fn at(rule: &'static Rule, key: &Key) -> Finding {
        Finding {
            rule,
            severity: Severity::Warning,
            confidence: Confidence::Likely,
            share: None,
            lost_ns: 0,
            packets: 0,
            key: key.clone(),
            drop: None,
            row: None,
            lossy: None,
            typical_ns: None,
            retransmitted: Retransmitted::default(),
            cpu: None,
            counted: Vec::new(),
            throttled: None,
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
