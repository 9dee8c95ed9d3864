//! Evidence in the excess: the time that slow packets spend beyond what ordinary ones do, by stage.

use std::collections::BTreeMap;

use super::{
    comparison::{Tail, TailRow},
    cpus::{CpuVisits, SingleCpu},
    finding::{Confidence, Finding, Severity},
    rule::Rule,
};
use crate::breakdown::Direction;

/// A cause holds at least this fraction of the excess.
const SHARE_MIN: f64 = 0.1;
/// Or it is the largest excess of at least this fraction of the slow packets: a single packet can hold more time than
/// all others.
const DOMINANT_MIN: f64 = 0.5;
/// With this fraction of the excess, or of the slow packets, it explains most of them.
const HALF: f64 = 0.5;
/// By itself it makes a slow packet take this many times the mean of ordinary ones. Less is no tail.
const FACTOR_MIN: f64 = 2.0;
/// From this factor on it is severe.
const FACTOR_SEVERE: f64 = 10.0;
/// The factor for delays by programs, among the packets that they delay most: on every machine programs are scheduled
/// late now and then.
const FACTOR_OF_PROGRAMS: f64 = 8.0;
/// A program was late on at least this many separate occasions: packets that waited for one late wake-up prove nothing.
const OCCASIONS_MIN: u64 = 3;
/// An excess is spread over several places if none of them holds more than this fraction.
const ONE_PLACE: f64 = 0.7;
/// A place with this fraction of a spread excess can stand for it.
const LARGE_PART: f64 = 0.15;
/// Packets of at least this many flows on one CPU could have been distributed over several.
const FLOWS_MIN: u64 = 4;
/// A cause has at least this many packets: fewer can be chance.
pub(super) const PACKETS_MIN: u64 = 3;

/// Slow packets spend more time in these stages.
pub(super) fn in_stages(tail: &Tail, rule: &'static Rule, stages: &[&str]) -> Option<Finding> {
    in_rows(tail, rule, &rows_of(tail, stages))
}

/// The same, where the first stage holds a notable part: the others are its consequence.
///
/// The part is measured against the excess of these stages, not against the whole, of which a single packet that is slow
/// for another reason can hold nearly all.
pub(super) fn led_by_first(tail: &Tail, rule: &'static Rule, stages: &[&str]) -> Option<Finding> {
    let first = total(&rows_of(tail, &stages[..1])) as f64;
    let all = total(&rows_of(tail, stages)).max(1) as f64;
    in_stages(tail, rule, stages).filter(|_| first >= SHARE_MIN * all)
}

/// Slow packets spend more time in several places, one after the other. The finding's place is the first one along the
/// path with a large part.
pub(super) fn spread(tail: &Tail, rule: &'static Rule, stages: &[&str]) -> Option<Finding> {
    let rows = rows_of(tail, stages);
    let total_ns = total(&rows);
    let part = |row: &TailRow| row.excess_ns() as f64 / total_ns.max(1) as f64;
    let is_spread = rows.first().is_some_and(|largest| part(largest) <= ONE_PLACE);
    let first = rows.iter().filter(|row| part(row) >= LARGE_PART).min_by_key(|row| row.at_ns)?;
    let found = in_rows(tail, rule, &rows).filter(|_| is_spread)?;
    Some(Finding { key: first.key.clone(), ..found })
}

/// Slow packets of several flows wait on one CPU. The finding's place is where most of them reach that CPU, because that
/// is where they can be steered to others.
pub(super) fn on_one_cpu(tail: &Tail, rule: &'static Rule, stages: &[&str]) -> Option<Finding> {
    let (cpu, rows) = rows_on_one_cpu(tail, stages)?;
    let flows = rows.iter().map(|row| row.cpus.flows).max()?;
    let found = in_rows(tail, rule, &rows)?;
    let arrival =
        rows.iter().filter(|row| 2 * row.slow_packets >= tail.slow.packets).min_by_key(|row| row.at_ns);
    let key = arrival.map_or_else(|| found.key.clone(), |row| row.key.clone());
    Some(Finding { cpu: Some(SingleCpu { cpu, flows }), key, ..found })
}

/// A program delays packets. Judged by the packets that it delays most, so that packets that are slow for another reason
/// change nothing.
pub(super) fn in_program(tail: &Tail, rule: &'static Rule, stages: &[&str]) -> Option<Finding> {
    let rows = rows_of(tail, stages);
    let (packets, excess_ns) =
        rows.iter().fold((0, 0), |(packets, ns), row| (packets + row.dominant, ns + row.dominant_ns));
    let factor = excess_ns as f64 / packets.max(1) as f64 / tail.ordinary.mean_ns.max(1) as f64;
    let occasions = rows.iter().map(|row| row.occasions).max()?;
    in_rows(tail, rule, &rows).filter(|_| factor >= FACTOR_OF_PROGRAMS && occasions >= OCCASIONS_MIN)
}

/// Whether a part of the excess is large: by its share, or as the largest excess of so many of the slow packets.
pub(super) fn is_notable(tail: &Tail, share: f64, packets: u64) -> bool {
    share >= SHARE_MIN || packets as f64 >= DOMINANT_MIN * tail.slow.packets as f64
}

fn in_rows(tail: &Tail, rule: &'static Rule, rows: &[&TailRow]) -> Option<Finding> {
    let excess_ns: i128 = rows.iter().map(|row| row.excess_ns()).sum();
    let share = tail.share(excess_ns);
    let factor = excess_ns as f64 / tail.ordinary.mean_ns.max(1) as f64;
    let packets = rows.iter().map(|row| row.dominant).sum();
    let is_cause = tail.is_comparison()
        && is_notable(tail, share, packets)
        && factor >= FACTOR_MIN
        && packets >= PACKETS_MIN;
    let worst = rows.iter().max_by_key(|row| row.excess_ns()).filter(|_| is_cause)?;
    Some(Finding {
        severity: if factor >= FACTOR_SEVERE { Severity::Severe } else { Severity::Warning },
        confidence: if share >= HALF || packets as f64 >= HALF * tail.slow.packets as f64 {
            Confidence::Likely
        } else {
            Confidence::Possible
        },
        share: Some(share),
        lost_ns: u128::try_from(excess_ns).unwrap_or(0).saturating_mul(tail.slow.packets.into()),
        packets,
        ..Finding::at(rule, &worst.key)
    })
}

/// The rows of these stages at places where all packets were on one and the same CPU, if most of their excess is of
/// several flows and the node has more CPUs. Egress is excluded: there the sending program chooses the CPU.
pub(super) fn rows_on_one_cpu<'a>(tail: &'a Tail, stages: &[&str]) -> Option<(u16, Vec<&'a TailRow>)> {
    tail.analysis.header.cpus.filter(|cpus| *cpus > 1)?;
    let mut rows = rows_of(tail, stages);
    rows.retain(|row| row.key.direction != Some(Direction::Egress));
    // By place, not by row: a CPU that enqueues to itself causes no softirq wait, so the rows of a place see different
    // packets.
    let mut places: BTreeMap<_, CpuVisits> = BTreeMap::new();
    let place = |row: &TailRow| (row.key.netns.clone(), row.key.device.clone(), row.key.level);
    rows.iter().for_each(|row| places.entry(place(row)).or_default().add(&row.cpus));
    let mut by_cpu: BTreeMap<u16, Vec<&TailRow>> = BTreeMap::new();
    for row in rows {
        if let Some(cpu) = places[&place(row)].one() {
            by_cpu.entry(cpu).or_default().push(row);
        }
    }
    by_cpu.retain(|_, rows| {
        let several: Vec<&TailRow> = rows.iter().filter(|row| row.cpus.flows >= FLOWS_MIN).copied().collect();
        !several.is_empty() && 2 * total(&several) >= total(rows)
    });
    by_cpu.into_iter().max_by_key(|(_, rows)| total(rows))
}

/// Whether most of the excess that a rule is about is in these rows.
pub(super) fn is_among(tail: &Tail, rule: &'static Rule, rows: &[&TailRow]) -> bool {
    let own = rows_of(tail, rule.stages());
    let is_there = |row: &&TailRow| rows.iter().any(|other| other.position == row.position);
    let among: Vec<&TailRow> = own.iter().copied().filter(is_there).collect();
    total(&among) as f64 > ONE_PLACE * total(&own) as f64
}

/// The rows of some stages, the largest excess first.
fn rows_of<'a>(tail: &'a Tail, stages: &[&str]) -> Vec<&'a TailRow> {
    let is_here = |row: &&TailRow| row.key.stage.as_deref().is_some_and(|stage| stages.contains(&stage));
    tail.rows.iter().filter(is_here).collect()
}

/// The sum of the rows' excesses in ns; rows where slow packets are faster count as 0.
fn total(rows: &[&TailRow]) -> i128 {
    rows.iter().map(|row| row.excess_ns().max(0)).sum()
}
