//! Evidence of loss: drops, retransmission timeouts, zero windows.

use super::{
    comparison::Tail,
    drop_site::DropSite,
    excess::PACKETS_MIN,
    finding::{Finding, Retransmitted, Severity},
    rule::{Evidence, Rule},
    rules::rules,
    tcp::{RTO_MIN_NS, RetransmissionGroup},
};
use crate::breakdown::{Drop, Key};

/// Losing this fraction of all packets is severe.
const LOST_SEVERE: f64 = 0.001;

/// Whether a rule about such reasons, stages and functions explains a drop.
pub(super) fn is_drop(drop: &DropSite, reasons: &[&str], stages: &[&str], functions: &[&str]) -> bool {
    let function = drop.location.split('+').next().unwrap_or_default();
    let in_stage = drop.key.stage.as_deref().is_some_and(|stage| stages.contains(&stage));
    // The function decides only where no specific reason was given.
    let has_reason = !matches!(drop.reason.as_str(), "" | "NOT_SPECIFIED");
    // Kernels before 5.17 give no reason; nf_hook_slow drops for one reason only.
    let reason = if !has_reason && function == "nf_hook_slow" { "NETFILTER_DROP" } else { &drop.reason };
    let by_reason = reasons.contains(&reason) && (stages.is_empty() || in_stage);
    by_reason || !has_reason && functions.contains(&function)
}

/// The drops that a rule is about, with the retransmissions that they caused.
pub(super) fn drops<'a>(
    tail: &Tail,
    rule: &'static Rule,
    intended: bool,
    drops: impl Iterator<Item = &'a Drop>,
) -> Option<Finding> {
    let drops: Vec<&Drop> = drops.collect();
    let packets: u64 = drops.iter().map(|drop| drop.packets).sum();
    let worst = drops.iter().max_by_key(|drop| drop.packets)?;
    let is_here = |group: &&RetransmissionGroup| {
        let dropped_at = group.dropped_at.as_ref();
        dropped_at.is_some_and(|site| drops.iter().any(|drop| site.is(drop)))
    };
    let retransmitted = Retransmitted::of(tail.tcp.retransmissions.iter().filter(is_here));
    let fraction = packets as f64 / tail.analysis.finished().max(1) as f64;
    let without_retransmission = packets.saturating_sub(retransmitted.segments);
    Some(Finding {
        severity: match fraction {
            // Even an intended drop is not meant to make TCP wait.
            _ if retransmitted.timeouts >= PACKETS_MIN => Severity::Severe,
            _ if intended => Severity::Note,
            fraction if fraction >= LOST_SEVERE => Severity::Severe,
            _ => Severity::Warning,
        },
        lost_ns: retransmitted.waited_ns + u128::from(without_retransmission) * u128::from(RTO_MIN_NS),
        packets,
        drop: Some((worst.reason.clone(), worst.location.clone())),
        retransmitted,
        ..Finding::at(rule, &worst.key)
    })
}

/// Retransmission timeouts that no rule about drops explains.
pub(super) fn timeouts(tail: &Tail, rule: &'static Rule) -> Option<Finding> {
    let groups = tail.tcp.retransmissions.iter().filter(|group| group.trigger.is_timeout());
    let unexplained: Vec<&RetransmissionGroup> =
        groups.filter(|group| !group.dropped_at.as_ref().is_some_and(is_explained)).collect();
    let retransmitted = Retransmitted::of(unexplained.iter().copied());
    let worst = unexplained.first().filter(|_| retransmitted.segments >= PACKETS_MIN)?;
    Some(Finding {
        severity: Severity::Severe,
        lost_ns: retransmitted.waited_ns,
        packets: retransmitted.segments,
        drop: worst.dropped_at.as_ref().map(|site| (site.reason.clone(), site.location.clone())),
        retransmitted,
        ..Finding::at(rule, worst.dropped_at.as_ref().map_or(&Key::default(), |site| &site.key))
    })
}

/// Receivers that advertised a zero window.
pub(super) fn zero_windows(tail: &Tail, rule: &'static Rule) -> Option<Finding> {
    let key = tail.tcp.zero_window_at.as_ref().filter(|_| tail.tcp.zero_windows >= PACKETS_MIN)?;
    Some(Finding { packets: tail.tcp.zero_windows, ..Finding::at(rule, key) })
}

fn is_explained(site: &DropSite) -> bool {
    rules().any(|rule| match &rule.evidence {
        Evidence::Drops { reasons, stages, functions, .. } => is_drop(site, reasons, stages, functions),
        _ => false,
    })
}
