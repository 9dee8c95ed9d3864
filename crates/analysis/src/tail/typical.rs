//! What makes every packet slow. The slow packets do not show it, because the ordinary ones are slow for the same reason.

use super::{
    comparison::{Tail, TailRow},
    excess::PACKETS_MIN,
    finding::{Confidence, Finding, Severity},
    rule::Rule,
    sample::Of,
};
use crate::breakdown::Row;

/// A wait in which packets spend at least this part of their time, all of them together.
const SHARE_MIN: f64 = 0.3;
/// And of the packets that pass there, half wait at least this many times as long as all work on a whole path takes: a
/// queue in which packets only wait for those before them is shorter.
const WORK_FACTOR: f64 = 5.0;
/// Most of the time of all packets.
const MOST: f64 = 0.5;

/// Packets wait in one of these stages, whether they are slow or not.
pub(super) fn in_stages(tail: &Tail, rule: &'static Rule, stages: &[&str]) -> Option<Finding> {
    let is_here = |row: &&Row| row.key.stage.as_deref().is_some_and(|stage| stages.contains(&stage));
    let worst = tail
        .analysis
        .rows
        .iter()
        .filter(is_here)
        .filter(|row| is_long(tail, row))
        .max_by_key(|row| row.raw.sum())?;
    Some(finding(rule, worst))
}

/// Most ordinary requests wait between their packets in one of these stages, for a large part of their time and longer than
/// all work on their packets takes.
pub(super) fn in_requests(tail: &Tail, rule: &'static Rule, stages: &[&str]) -> Option<Finding> {
    if tail.of != Of::Requests {
        return None;
    }
    let is_here = |row: &&TailRow| row.key.stage.as_deref().is_some_and(|stage| stages.contains(&stage));
    let work_ns: i128 =
        tail.rows.iter().filter(|row| row.key.kind == "work").map(|row| row.ordinary_ns).sum();
    let worst = tail.rows.iter().filter(is_here).max_by_key(|row| row.ordinary_sum_ns)?;
    let (packets, all) = (worst.ordinary_packets, tail.ordinary.packets);
    let share = worst.ordinary_sum_ns as f64 / tail.ordinary.sum_ns.max(1) as f64;
    let is_usual = packets >= PACKETS_MIN && packets as f64 >= MOST * all as f64;
    (is_usual && share >= SHARE_MIN && worst.ordinary_ns > work_ns).then(|| Finding {
        severity: Severity::Warning,
        confidence: if share >= MOST { Confidence::Likely } else { Confidence::Possible },
        share: Some(share),
        lost_ns: worst.ordinary_sum_ns,
        packets,
        typical_ns: u64::try_from(worst.ordinary_sum_ns / u128::from(packets)).ok(),
        ..Finding::at(rule, &worst.key)
    })
}

/// The wait that holds most of an ordinary packet's time, if it is long and not in a socket, where packets wait for a
/// program to ask for them.
pub(super) fn longest(tail: &Tail) -> Option<&Row> {
    let rows = tail.analysis.rows.iter().filter(|row| row.key.kind == "wait" && !row.key.is_socket_wait());
    rows.filter(|row| row.share >= MOST && is_long(tail, row)).max_by_key(|row| row.raw.sum())
}

fn is_long(tail: &Tail, row: &Row) -> bool {
    // Few rows have such a share: of the others nothing is added up.
    if row.share < SHARE_MIN || row.raw.count() < PACKETS_MIN {
        return false;
    }
    let work: f64 = tail.analysis.rows.iter().filter(|row| row.key.kind == "work").map(|row| row.share).sum();
    let work_ns = work * tail.analysis.end_to_end.mean();
    row.raw.quantile(0.5) as f64 >= WORK_FACTOR * work_ns
}

fn finding(rule: &'static Rule, row: &Row) -> Finding {
    Finding {
        severity: Severity::Warning,
        confidence: if row.share >= MOST { Confidence::Likely } else { Confidence::Possible },
        share: Some(row.share),
        lost_ns: row.raw.sum(),
        packets: row.raw.count(),
        typical_ns: Some(row.raw.quantile(0.5)),
        ..Finding::at(rule, &row.key)
    }
}
