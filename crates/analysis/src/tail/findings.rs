//! Which of the causes a recording gives evidence of.

use std::collections::BTreeMap;

use super::{
    Core, Cpus, Tail, TailRow,
    connection::TIMEOUT_NS,
    rule::{Evidence, Rule},
    rules::RULES,
    tcp::{Loss, LostAt},
};
use crate::breakdown::{Direction, Drop, Key};

/// A cause holds at least this part of the excess.
const EXCESS_MIN: f64 = 0.1;
/// Or at least this part of the slow packets has lost most by it: a single one can hold more than all others.
const LEADS_MIN: f64 = 0.5;
/// It alone makes a slow packet take so many times longer than an ordinary one takes as a whole: what is less is no
/// tail.
const LONGER_MIN: f64 = 2.0;
/// What programs do makes the slow packets that lost most by it take so many times longer. They come late on every
/// machine now and then, when another one has the CPU.
const LONGER_OF_PROGRAMS: f64 = 8.0;
/// And that on so many occasions: what waited together for one program that came late once is an accident.
const OCCASIONS_MIN: u64 = 3;
/// What is in one place by more than this part is not spread over several.
const ONE_PLACE: f64 = 0.7;
/// Of what is spread, a place that holds this part holds much.
const MUCH: f64 = 0.15;
/// One core has several flows to work for from so many on.
const FLOWS_MIN: u64 = 4;
/// From here on it is severe.
const LONGER_SEVERE: f64 = 10.0;
/// So many slow packets must have lost most by it: fewer are an accident.
const PACKETS_MIN: u64 = 3;
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
    /// What it has cost all slow packets, or all packets, together, in ns; for drops what the senders waited, or
    /// where that was not seen the shortest time that one usually waits.
    pub lost_ns: u128,
    /// Slow packets that lost most by it, or packets that were dropped.
    pub packets: u64,
    /// Where it is worst.
    pub key: Key,
    /// The kernel's reason and location, for drops.
    pub drop: Option<(String, String)>,
    /// What TCP sent again because of it.
    pub again: SentAgain,
    /// The one core that all was on.
    pub core: Option<Core>,
}

impl Finding {
    /// A warning, worst at this place, of which no more is known yet.
    fn at(rule: &'static Rule, key: &Key) -> Finding {
        Finding {
            rule,
            severity: Severity::Warning,
            share: None,
            lost_ns: 0,
            packets: 0,
            key: key.clone(),
            drop: None,
            again: SentAgain::default(),
            core: None,
        }
    }
}

/// Segments that TCP sent again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SentAgain {
    pub segments: u64,
    /// Those of them for which a timeout was waited.
    pub timeouts: u64,
    /// From the attempts before, together, in ns.
    pub waited_ns: u128,
    pub longest_ns: u64,
}

impl SentAgain {
    fn of<'a>(losses: impl Iterator<Item = &'a Loss>) -> SentAgain {
        losses.fold(SentAgain::default(), |sum, loss| SentAgain {
            segments: sum.segments + loss.segments,
            timeouts: sum.timeouts + if loss.again.is_timeout() { loss.segments } else { 0 },
            waited_ns: sum.waited_ns + loss.waited_ns,
            longest_ns: sum.longest_ns.max(loss.longest_ns),
        })
    }
}

/// The causes, the gravest first: by time lost, then by packets lost.
pub(super) fn findings(tail: &Tail) -> Vec<Finding> {
    let find = |rule: &'static Rule| match &rule.evidence {
        Evidence::Excess(stages) => excess(tail, rule, stages),
        Evidence::Led(stages) => {
            let is_led = holds_part(tail, &stages[..1], stages);
            excess(tail, rule, stages).filter(|_| is_led)
        }
        Evidence::Spread(stages) => spread(tail, rule, stages),
        Evidence::OneCore(stages) => one_core(tail, rule, stages),
        Evidence::OfProgram(stages) => of_program(tail, rule, stages),
        Evidence::Time { layers, least } => time(tail, rule, layers, *least),
        Evidence::Copies { stages, least } => copies(tail, rule, stages, *least),
        Evidence::Drops { reasons, stages, functions, intended } => {
            let matches = |drop: &&Drop| is_drop(&LostAt::of(drop), reasons, stages, functions);
            drops(tail, rule, *intended, tail.analysis.drops.iter().filter(matches))
        }
        Evidence::Timeouts => timeouts(tail, rule),
        Evidence::ZeroWindows => zero_windows(tail, rule),
    };
    let mut findings: Vec<Finding> = RULES.iter().filter_map(find).collect();
    let of_one_core: Vec<&TailRow> = findings
        .iter()
        .filter(|finding| finding.core.is_some())
        .filter_map(|finding| on_one_core(tail, finding.rule.stages()))
        .flat_map(|(_, rows)| rows)
        .collect();
    findings.retain(|finding| finding.core.is_some() || !is_among(tail, finding.rule, &of_one_core));
    let told: Vec<&str> = findings.iter().flat_map(|finding| finding.rule.spread_over()).copied().collect();
    findings.retain(|finding| match &finding.rule.evidence {
        Evidence::Excess(stages) => !stages.iter().all(|stage| told.contains(stage)),
        _ => true,
    });
    let waits: Vec<Finding> = findings.iter().filter(|finding| finding.drop.is_none()).cloned().collect();
    for drop in findings.iter_mut().filter(|finding| finding.drop.is_some()) {
        // What waits in vain and is dropped where it waits: that it is dropped is the graver.
        for wait in waits.iter().filter(|wait| is_same_place(&wait.key, &drop.key)) {
            drop.severity = drop.severity.max(wait.severity);
            drop.lost_ns = drop.lost_ns.max(wait.lost_ns + 1);
        }
    }
    findings.sort_by_key(|finding| std::cmp::Reverse((finding.severity, finding.lost_ns, finding.packets)));
    findings
}

/// Whether two places are one, whatever direction packets had there.
pub(super) fn is_same_place(one: &Key, other: &Key) -> bool {
    let place = |key: &'_ Key| (key.stage.clone(), key.level, key.netns.clone(), key.device.clone());
    place(one) == place(other)
}

/// The rows of some stages, the largest excess first.
fn rows_of<'a>(tail: &'a Tail, stages: &[&str]) -> Vec<&'a TailRow> {
    let is_here = |row: &&TailRow| row.key.stage.as_deref().is_some_and(|stage| stages.contains(&stage));
    tail.rows.iter().filter(is_here).collect()
}

/// What the rows hold together, without those that hold less than usual, in ns.
fn held(rows: &[&TailRow]) -> i128 {
    rows.iter().map(|row| row.excess_ns().max(0)).sum()
}

/// Whether some stages hold a part worth telling of what they and others hold together. It is not measured against the
/// whole excess, of which a single packet, slow for another reason, can hold nearly all.
fn holds_part(tail: &Tail, part: &[&str], of: &[&str]) -> bool {
    held(&rows_of(tail, part)) as f64 >= EXCESS_MIN * held(&rows_of(tail, of)).max(1) as f64
}

/// What is spread over several places; it is named by the first along the packets' path that holds much of it.
fn spread(tail: &Tail, rule: &'static Rule, stages: &[&str]) -> Option<Finding> {
    let rows = rows_of(tail, stages);
    let held_ns = held(&rows);
    let part = |row: &TailRow| row.excess_ns() as f64 / held_ns.max(1) as f64;
    let is_spread = rows.first().is_some_and(|largest| part(largest) <= ONE_PLACE);
    let first = rows.iter().filter(|row| part(row) >= MUCH).min_by_key(|row| row.at_ns)?;
    let found = excess(tail, rule, stages).filter(|_| is_spread)?;
    Some(Finding { key: first.key.clone(), ..found })
}

/// It is named by where most of the slow packets come to the core, not by where they then wait longest: it is there
/// that they can be sent to others.
fn one_core(tail: &Tail, rule: &'static Rule, stages: &[&str]) -> Option<Finding> {
    let (cpu, rows) = on_one_core(tail, stages)?;
    let flows = rows.iter().map(|row| row.cpus.flows).max()?;
    let found = excess_in(tail, rule, &rows)?;
    let come_in =
        rows.iter().filter(|row| 2 * row.slow_packets >= tail.slow.packets).min_by_key(|row| row.at_ns);
    let key = come_in.map_or_else(|| found.key.clone(), |row| row.key.clone());
    Some(Finding { core: Some(Core { cpu, flows }), key, ..found })
}

/// The rows of these stages at places where all packets were on one CPU, the same one, though most of what they hold
/// is of several flows and the node has more CPUs. On which one a packet leaves is its program's choice.
fn on_one_core<'a>(tail: &'a Tail, stages: &[&str]) -> Option<(u16, Vec<&'a TailRow>)> {
    tail.analysis.header.cpus.filter(|cpus| *cpus > 1)?;
    let mut rows = rows_of(tail, stages);
    rows.retain(|row| row.key.direction != Some(Direction::Egress));
    // A CPU that puts packets into its own queue is at it already: only those of others wait for its softirq.
    let mut places: BTreeMap<_, Cpus> = BTreeMap::new();
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
        !several.is_empty() && 2 * held(&several) >= held(rows)
    });
    by_cpu.into_iter().max_by_key(|(_, rows)| held(rows))
}

/// Whether most of what a rule is about is in these rows.
fn is_among(tail: &Tail, rule: &'static Rule, rows: &[&TailRow]) -> bool {
    let own = rows_of(tail, rule.stages());
    let among: Vec<&TailRow> =
        own.iter().copied().filter(|row| rows.iter().any(|other| other.place == row.place)).collect();
    held(&among) as f64 > ONE_PLACE * held(&own) as f64
}

fn excess(tail: &Tail, rule: &'static Rule, stages: &[&str]) -> Option<Finding> {
    excess_in(tail, rule, &rows_of(tail, stages))
}

/// What is judged by the packets that lost most by it: those that are slow for another reason make it no less true.
fn of_program(tail: &Tail, rule: &'static Rule, stages: &[&str]) -> Option<Finding> {
    let rows = rows_of(tail, stages);
    let (leads, lost_ns) =
        rows.iter().fold((0, 0), |(leads, ns), row| (leads + row.leads, ns + row.leads_ns));
    let longer = lost_ns as f64 / leads.max(1) as f64 / tail.ordinary.mean_ns.max(1) as f64;
    let occasions = rows.iter().map(|row| row.occasions).max()?;
    excess_in(tail, rule, &rows).filter(|_| longer >= LONGER_OF_PROGRAMS && occasions >= OCCASIONS_MIN)
}

fn excess_in(tail: &Tail, rule: &'static Rule, rows: &[&TailRow]) -> Option<Finding> {
    let excess_ns: i128 = rows.iter().map(|row| row.excess_ns()).sum();
    let share = tail.share(excess_ns);
    let longer = excess_ns as f64 / tail.ordinary.mean_ns.max(1) as f64;
    let packets = rows.iter().map(|row| row.leads).sum();
    let is_large = share >= EXCESS_MIN || packets as f64 >= LEADS_MIN * tail.slow.packets as f64;
    let is_cause = tail.is_comparison() && is_large && longer >= LONGER_MIN && packets >= PACKETS_MIN;
    let worst = rows.iter().max_by_key(|row| row.excess_ns()).filter(|_| is_cause)?;
    Some(Finding {
        severity: if longer >= LONGER_SEVERE { Severity::Severe } else { Severity::Warning },
        share: Some(share),
        lost_ns: u128::try_from(excess_ns).unwrap_or(0).saturating_mul(tail.slow.packets.into()),
        packets,
        ..Finding::at(rule, &worst.key)
    })
}

fn time(tail: &Tail, rule: &'static Rule, layers: &[&str], least: f64) -> Option<Finding> {
    let is_here = |key: &Key| key.layer.as_deref().is_some_and(|layer| layers.contains(&layer));
    let rows: Vec<_> = tail.analysis.rows.iter().filter(|row| is_here(&row.key)).collect();
    let worst = rows.iter().max_by_key(|row| row.raw.sum())?;
    // How long packets wait is another matter than how much is to be done for them.
    let is_work = worst.key.kind == "work";
    let all = tail.analysis.rows.iter().filter(|row| !is_work || row.key.kind == "work");
    let all: f64 = all.map(|row| row.share).sum();
    let share = rows.iter().map(|row| row.share).sum::<f64>() / all.max(f64::MIN_POSITIVE);
    if share < least {
        return None;
    }
    Some(Finding {
        severity: if is_work { Severity::Note } else { Severity::Warning },
        share: Some(share),
        lost_ns: rows.iter().map(|row| row.raw.sum()).sum(),
        packets: worst.raw.count(),
        ..Finding::at(rule, &worst.key)
    })
}

/// Copies are told by the stage that they begin in, and what made them by the stage of other packets at that place.
fn copies(tail: &Tail, rule: &'static Rule, stages: &[&str], least: f64) -> Option<Finding> {
    let rows = &tail.analysis.rows;
    let place = |key: &Key| (key.level, key.netns.clone(), key.device.clone());
    let is_of =
        |key: &Key, stages: &[&str]| key.stage.as_deref().is_some_and(|stage| stages.contains(&stage));
    let clones = tail.analysis.header.stages.iter().filter(|stage| stage.behaviour.clones);
    let clones: Vec<&str> = clones.map(|stage| stage.name.as_str()).collect();
    let copied = rows.iter().filter(|row| is_of(&row.key, &clones)).filter_map(|row| {
        let makers = rows.iter().filter(|at| is_of(&at.key, stages) && place(&at.key) == place(&row.key));
        Some((row, makers.max_by_key(|at| at.raw.count())?))
    });
    let (row, maker) = copied.max_by_key(|(row, _)| row.raw.count())?;
    let (copies, packets) = (row.raw.count(), maker.raw.count());
    if copies < PACKETS_MIN || (copies as f64) < least * packets as f64 {
        return None;
    }
    Some(Finding { lost_ns: row.raw.sum(), packets: copies, ..Finding::at(rule, &maker.key) })
}

/// Timeouts of segments that were lost, as far as no rule about drops tells why.
fn timeouts(tail: &Tail, rule: &'static Rule) -> Option<Finding> {
    let losses = tail.tcp.losses.iter().filter(|loss| loss.again.is_timeout());
    let unexplained: Vec<&Loss> =
        losses.filter(|loss| !loss.lost_at.as_ref().is_some_and(is_explained)).collect();
    let again = SentAgain::of(unexplained.iter().copied());
    let worst = unexplained.first().filter(|_| again.segments >= PACKETS_MIN)?;
    Some(Finding {
        severity: Severity::Severe,
        lost_ns: again.waited_ns,
        packets: again.segments,
        drop: worst.lost_at.as_ref().map(|lost| (lost.reason.clone(), lost.location.clone())),
        again,
        ..Finding::at(rule, worst.lost_at.as_ref().map_or(&Key::default(), |lost| &lost.key))
    })
}

fn is_explained(lost: &LostAt) -> bool {
    RULES.iter().any(|rule| match &rule.evidence {
        Evidence::Drops { reasons, stages, functions, .. } => is_drop(lost, reasons, stages, functions),
        _ => false,
    })
}

fn zero_windows(tail: &Tail, rule: &'static Rule) -> Option<Finding> {
    let key = tail.tcp.closed_by.as_ref().filter(|_| tail.tcp.zero_windows >= PACKETS_MIN)?;
    Some(Finding { packets: tail.tcp.zero_windows, ..Finding::at(rule, key) })
}

/// Whether a drop is what a rule is about.
pub(super) fn is_drop(drop: &LostAt, reasons: &[&str], stages: &[&str], functions: &[&str]) -> bool {
    let function = drop.location.split('+').next().unwrap_or_default();
    let in_stage = drop.key.stage.as_deref().is_some_and(|stage| stages.contains(&stage));
    // What a function drops for a reason of its own is that reason's.
    let has_reason = !matches!(drop.reason.as_str(), "" | "NOT_SPECIFIED");
    // Kernels before 5.17 give none; here the function says as much.
    let reason = if !has_reason && function == "nf_hook_slow" { "NETFILTER_DROP" } else { &drop.reason };
    let by_reason = reasons.contains(&reason) && (stages.is_empty() || in_stage);
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
    let is_here = |loss: &&Loss| {
        let lost_at = loss.lost_at.as_ref();
        lost_at.is_some_and(|lost| drops.iter().any(|drop| lost.is(drop)))
    };
    let again = SentAgain::of(tail.tcp.losses.iter().filter(is_here));
    let part = packets as f64 / tail.analysis.finished().max(1) as f64;
    let unseen = packets.saturating_sub(again.segments);
    Some(Finding {
        severity: match part {
            // Nobody wants TCP to wait.
            _ if again.timeouts >= PACKETS_MIN => Severity::Severe,
            _ if intended => Severity::Note,
            part if part >= LOST_SEVERE => Severity::Severe,
            _ => Severity::Warning,
        },
        lost_ns: again.waited_ns + u128::from(unseen) * u128::from(TIMEOUT_NS),
        packets,
        drop: Some((worst.reason.clone(), worst.location.clone())),
        again,
        ..Finding::at(rule, &worst.key)
    })
}
