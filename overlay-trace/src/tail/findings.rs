//! Which of the causes a recording gives evidence of.

use super::{
    Tail, TailRow,
    rules::{Evidence, RULES, Rule},
};
use crate::analysis::{Drop, Key};

/// A cause holds at least this part of the excess.
const EXCESS_MIN: f64 = 0.1;
/// It alone makes a slow packet take at least this part longer than an ordinary one takes as a whole: what is
/// less is no tail.
const LONGER_MIN: f64 = 1.0;
/// From here on it is severe.
const LONGER_SEVERE: f64 = 10.0;
/// So many slow packets must have lost most by it: fewer are an accident.
const PACKETS_MIN: u64 = 3;
/// A layer is large if it has this part of all packets' time.
const TIME_MIN: f64 = 0.3;
/// Losing this part of all packets is severe.
const LOST_SEVERE: f64 = 0.001;

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
    /// The part of the slow packets' excess, or of all packets' time, that it holds; `None` for drops.
    pub share: Option<f64>,
    /// What it has cost all slow packets, or all packets, together, in ns; 0 for drops, whose cost is the
    /// senders' waiting.
    pub lost_ns: u128,
    /// Slow packets that lost most by it, or packets that were dropped.
    pub packets: u64,
    /// Where it is worst.
    pub key: Key,
    /// The kernel's reason and location, for drops.
    pub drop: Option<(String, String)>,
}

/// The causes, the gravest first: by time lost, then by packets lost.
pub(super) fn findings(tail: &Tail) -> Vec<Finding> {
    let find = |rule: &'static Rule| match &rule.evidence {
        Evidence::Excess(stages) => excess(tail, rule, stages),
        Evidence::Time(layers) => time(tail, rule, layers),
        Evidence::Drops { reasons, stages, functions, intended } => {
            let matches = |drop: &&Drop| is_drop(drop, reasons, stages, functions);
            drops(tail, rule, *intended, tail.analysis.drops.iter().filter(matches))
        }
    };
    let mut findings: Vec<Finding> = RULES.iter().filter_map(find).collect();
    findings.sort_by_key(|finding| std::cmp::Reverse((finding.severity, finding.lost_ns, finding.packets)));
    findings
}

fn excess(tail: &Tail, rule: &'static Rule, stages: &[&str]) -> Option<Finding> {
    let is_here = |row: &&TailRow| row.key.stage.as_deref().is_some_and(|stage| stages.contains(&stage));
    let rows: Vec<&TailRow> = tail.rows.iter().filter(is_here).collect();
    let excess_ns: i128 = rows.iter().map(|row| row.excess_ns()).sum();
    let share = tail.share(excess_ns);
    let longer = excess_ns as f64 / tail.ordinary.mean_ns.max(1) as f64;
    let packets = rows.iter().map(|row| row.leads).sum();
    let is_cause =
        tail.is_comparison() && share >= EXCESS_MIN && longer >= LONGER_MIN && packets >= PACKETS_MIN;
    let worst = rows.iter().max_by_key(|row| row.excess_ns()).filter(|_| is_cause)?;
    Some(Finding {
        rule,
        severity: if longer >= LONGER_SEVERE { Severity::Severe } else { Severity::Warning },
        share: Some(share),
        lost_ns: u128::try_from(excess_ns).unwrap_or(0).saturating_mul(tail.slow.packets.into()),
        packets,
        key: worst.key.clone(),
        drop: None,
    })
}

fn time(tail: &Tail, rule: &'static Rule, layers: &[&str]) -> Option<Finding> {
    let is_here = |key: &Key| key.layer.as_deref().is_some_and(|layer| layers.contains(&layer));
    let rows: Vec<_> = tail.analysis.rows.iter().filter(|row| is_here(&row.key)).collect();
    let share: f64 = rows.iter().map(|row| row.share).sum();
    let worst = rows.iter().max_by_key(|row| row.raw.sum()).filter(|_| share >= TIME_MIN)?;
    Some(Finding {
        rule,
        severity: Severity::Note,
        share: Some(share),
        lost_ns: rows.iter().map(|row| row.raw.sum()).sum(),
        packets: worst.raw.count(),
        key: worst.key.clone(),
        drop: None,
    })
}

pub(super) fn is_drop(drop: &Drop, reasons: &[&str], stages: &[&str], functions: &[&str]) -> bool {
    let function = drop.location.split('+').next().unwrap_or_default();
    let in_stage = drop.key.stage.as_deref().is_some_and(|stage| stages.contains(&stage));
    let by_reason = reasons.contains(&drop.reason.as_str()) && (stages.is_empty() || in_stage);
    // What a function drops for a reason of its own is that reason's.
    let has_reason = !matches!(drop.reason.as_str(), "" | "NOT_SPECIFIED");
    by_reason || !has_reason && functions.contains(&function)
}

fn drops<'a>(
    tail: &Tail,
    rule: &'static Rule,
    intended: bool,
    drops: impl Iterator<Item = &'a Drop>,
) -> Option<Finding> {
    let drops: Vec<&Drop> = drops.collect();
    let packets: u64 = drops.iter().map(|drop| drop.packets).sum();
    let worst = drops.iter().max_by_key(|drop| drop.packets)?;
    let part = packets as f64 / tail.analysis.finished().max(1) as f64;
    Some(Finding {
        rule,
        // A lost packet costs its sender a timeout, which is longer than anything that is measured here.
        severity: match part {
            _ if intended => Severity::Note,
            part if part >= LOST_SEVERE => Severity::Severe,
            _ => Severity::Warning,
        },
        share: None,
        lost_ns: 0,
        packets,
        key: worst.key.clone(),
        drop: Some((worst.reason.clone(), worst.location.clone())),
    })
}
