//! Which of the known causes a recording gives evidence of.

use super::{
    comparison::{Tail, TailRow},
    counted,
    drop_evidence::DropEvidence,
    drop_site::is_same_place,
    excess::{self, PACKETS_MIN},
    finding::{Finding, Severity},
    loss::{self, Loss},
    rule::{Evidence, Rule},
    rules::rules,
    typical,
};
use crate::breakdown::Key;

/// The causes, the gravest first: by severity, then by time lost, then by packets.
pub(super) fn findings(tail: &Tail, evidence: &DropEvidence) -> Vec<Finding> {
    let losses = loss::losses(&tail.analysis, evidence);
    let of_drops = losses.iter().filter_map(|loss| loss.finding(tail));
    let mut findings: Vec<Finding> =
        rules().filter_map(|rule| apply(tail, rule, &losses)).chain(of_drops).collect();
    remove_covered_by_one_cpu(tail, &mut findings);
    remove_covered_by_spread(&mut findings);
    remove_covered_by_quota(&mut findings);
    raise_drops_above_waits(&mut findings);
    findings.sort_by_key(|finding| std::cmp::Reverse((finding.severity, finding.lost_ns, finding.packets)));
    findings
}

/// The finding of a rule about anything but drops, which are found together.
fn apply(tail: &Tail, rule: &'static Rule, losses: &[Loss<'_>]) -> Option<Finding> {
    match &rule.evidence {
        Evidence::Excess(stages) => excess::in_stages(tail, rule, stages),
        Evidence::Queue(stages) => {
            excess::in_stages(tail, rule, stages).or_else(|| typical::in_stages(tail, rule, stages))
        }
        Evidence::RequestWait(stages) => {
            typical::in_requests(tail, rule, stages).or_else(|| excess::in_stages(tail, rule, stages))
        }
        Evidence::ExcessLed(stages) => excess::led_by_first(tail, rule, stages),
        Evidence::ExcessSpread(stages) => excess::spread(tail, rule, stages),
        Evidence::ExcessOnOneCpu(stages) => excess::on_one_cpu(tail, rule, stages),
        Evidence::ExcessInProgram(stages) => excess::in_program(tail, rule, stages),
        Evidence::TimeShare { layers, least } => time_share(tail, rule, layers, *least),
        Evidence::Copies { stages, least } => copies(tail, rule, stages, *least),
        Evidence::Drops { .. } | Evidence::OtherDrops => None,
        Evidence::Timeouts => loss::timeouts(tail, rule, losses),
        Evidence::ZeroWindows => loss::zero_windows(tail, rule),
        Evidence::Counted(counters) => counted::grown(tail, rule, counters),
        Evidence::Throttled => counted::throttled(tail, rule),
        Evidence::Stolen => counted::stolen(tail, rule),
        Evidence::Squeezed => counted::squeezed(tail, rule),
    }
}

/// A wait on one overloaded CPU is one finding: rules about single queues of that CPU are left out.
fn remove_covered_by_one_cpu(tail: &Tail, findings: &mut Vec<Finding>) {
    let rows: Vec<&TailRow> = findings
        .iter()
        .filter(|finding| finding.cpu.is_some())
        .filter_map(|finding| excess::rows_on_one_cpu(tail, finding.rule.stages()))
        .flat_map(|(_, rows)| rows)
        .collect();
    findings.retain(|finding| finding.cpu.is_some() || !excess::is_among(tail, finding.rule, &rows));
}

/// A wait that is spread over several queues is one finding: rules about single ones of them are left out.
fn remove_covered_by_spread(findings: &mut Vec<Finding>) {
    let covered: Vec<&str> =
        findings.iter().flat_map(|finding| finding.rule.spread_over()).copied().collect();
    findings.retain(|finding| match &finding.rule.evidence {
        Evidence::Excess(stages) | Evidence::Queue(stages) | Evidence::RequestWait(stages) => {
            !stages.iter().all(|stage| covered.contains(stage))
        }
        _ => true,
    });
}

/// A program that is stopped by its quota is late: that is one finding.
fn remove_covered_by_quota(findings: &mut Vec<Finding>) {
    let stopped = findings.iter().filter(|finding| finding.throttled.is_some() && finding.share.is_some());
    let netns: Vec<Option<String>> = stopped.map(|finding| finding.key.netns.clone()).collect();
    let is_late = |finding: &Finding| matches!(finding.rule.evidence, Evidence::ExcessInProgram(_));
    findings.retain(|finding| !(is_late(finding) && netns.contains(&finding.key.netns)));
}

/// Where packets wait in a queue and are dropped from it, the drop is graver than the wait.
fn raise_drops_above_waits(findings: &mut [Finding]) {
    let waits: Vec<Finding> = findings.iter().filter(|finding| finding.drop.is_none()).cloned().collect();
    for drop in findings.iter_mut().filter(|finding| finding.drop.is_some()) {
        for wait in waits.iter().filter(|wait| is_same_place(&wait.key, &drop.key)) {
            drop.severity = drop.severity.max(wait.severity);
            drop.lost_ns = drop.lost_ns.max(wait.lost_ns + 1);
        }
    }
}

/// All packets spend a large part of their time in some layers. Work is compared with all work, and waiting with the
/// whole time, because how long packets wait says nothing about how much is done for them.
fn time_share(tail: &Tail, rule: &'static Rule, layers: &[&str], least: f64) -> Option<Finding> {
    let is_here = |key: &Key| key.layer.as_deref().is_some_and(|layer| layers.contains(&layer));
    let rows: Vec<_> = tail.analysis.rows.iter().filter(|row| is_here(&row.key)).collect();
    let worst = rows.iter().max_by_key(|row| row.raw.sum())?;
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

/// Copies are counted in the stage that they start in. The stage that made them is known from the other packets at the
/// same place.
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
