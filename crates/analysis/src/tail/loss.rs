//! Evidence of loss: drops, retransmission timeouts, zero windows.

use std::cmp::Reverse;

use rustc_hash::FxHashMap;

use super::{
    comparison::Tail,
    counted::has_grown,
    drop_evidence::{DropEvidence, SiteFacts},
    drop_site::{DropSite, Place, place},
    drop_table::{DropRow, Effect, drop_row, function_of, is_specific},
    excess::PACKETS_MIN,
    finding::{Confidence, Finding, LossyFlows, Retransmitted, Severity},
    rule::{Evidence, Rule, Sign},
    rules::rules,
    tcp::{RTO_MIN_NS, RetransmissionGroup},
};
use crate::breakdown::{Analysis, Drop, Key};

/// Losing this fraction of all packets is severe.
const LOST_SEVERE: f64 = 0.001;
/// So many packets of one flow, dropped one after the other, are no accident, however few they are.
const RUN_MIN: u64 = 2;

/// Drops of the same cause.
pub(super) struct Loss<'a> {
    rule: &'static Rule,
    /// The row of the drops' reason or function.
    row: Option<&'static DropRow>,
    drops: Vec<&'a Drop>,
    facts: SiteFacts,
}

/// What tells causes of drops apart.
#[derive(PartialEq, Eq, Hash)]
enum Cause {
    /// The rule that explains them, by its id.
    Rule(&'static str),
    /// No rule does: their row of the table of drops, by its names.
    Row(&'static [&'static str]),
    /// There is no row either: reason, location and place.
    Site(String, String, Place),
}

impl Cause {
    fn of(rule: &Rule, row: Option<&'static DropRow>, site: &DropSite) -> Cause {
        match (&rule.evidence, row) {
            (Evidence::OtherDrops, Some(row)) => Cause::Row(row.names),
            (Evidence::OtherDrops, None) => {
                Cause::Site(site.reason.clone(), site.location.clone(), place(&site.key))
            }
            _ => Cause::Rule(rule.id),
        }
    }
}

/// The drops of a recording by cause: each belongs to the first rule that explains it; what no rule explains belongs
/// together if the table of drops has one row for it.
pub(super) fn losses<'a>(analysis: &'a Analysis, evidence: &DropEvidence) -> Vec<Loss<'a>> {
    let mut losses: Vec<Loss<'a>> = Vec::new();
    let mut known = FxHashMap::default();
    for drop in &analysis.drops {
        let facts = evidence.of(drop);
        let site = DropSite::of(drop);
        let row = drop_row(&drop.reason, &drop.location);
        let Some(rule) = rule_of(&site, row, &facts, analysis) else { continue };
        let at = *known.entry(Cause::of(rule, row, &site)).or_insert(losses.len());
        match losses.get_mut(at) {
            Some(loss) => {
                loss.drops.push(drop);
                loss.facts.add(&facts);
            }
            None => losses.push(Loss { rule, row, drops: vec![drop], facts }),
        }
    }
    losses
}

/// The first rule that explains a drop. `None` if nothing is lost by it.
fn rule_of(
    site: &DropSite,
    row: Option<&DropRow>,
    facts: &SiteFacts,
    analysis: &Analysis,
) -> Option<&'static Rule> {
    let has_sign = |sign: Sign| match sign {
        Sign::Any => true,
        Sign::Raced => facts.is_raced(),
        Sign::OneDestination => facts.is_one_destination(),
        Sign::StaleEntry => facts.is_stale_entry(),
        Sign::TranslationLost => facts.is_translation_lost(),
        Sign::Sometimes => facts.is_sometimes(),
        Sign::Total => facts.is_total(),
        Sign::Longest => facts.is_longest(),
        Sign::Outer => site.key.level.is_some_and(|level| level > 0),
        Sign::NoReason => site.reason == "NOT_SPECIFIED",
        Sign::Forwards => forwards(analysis, &site.key),
        Sign::Counted(names) => {
            has_grown(analysis.kernel_counters.as_ref(), names, site.key.netns.as_deref())
        }
    };
    let is_wanted = row.is_none_or(|row| matches!(row.effect, Effect::Lost | Effect::Configured));
    // A segment that arrives when its connection has been closed is missed by nobody.
    let is_late = is_drop(site, &["NO_SOCKET"], &[], &["tcp_v4_rcv", "tcp_v6_rcv"]) && facts.is_closing();
    // A switch that does not know an address sends the frame to all; one of them is the receiver.
    let is_flooded = is_drop(site, &["OTHERHOST"], &[], &["ip_rcv_core"]) && facts.is_raced();
    // An acknowledgement that was overtaken by a newer one is refused by TCP itself.
    let is_overtaken = site.reason.starts_with("TCP_") && facts.is_empty();
    let is_lost = is_wanted && !is_late && !is_flooded && !is_overtaken && facts.clones < facts.packets;
    rules().find(|rule| match &rule.evidence {
        Evidence::Drops { reasons, stages, functions, sign, .. } => {
            is_drop(site, reasons, stages, functions) && has_sign(*sign)
        }
        Evidence::OtherDrops => is_lost,
        _ => false,
    })
}

/// Whether packets were forwarded in the namespace of a place.
fn forwards(analysis: &Analysis, at: &Key) -> bool {
    let is_there = |key: &Key| key.stage.as_deref() == Some("ip-forward") && key.netns == at.netns;
    analysis.rows.iter().any(|row| is_there(&row.key))
}

/// Whether a rule about such reasons, stages and functions explains a drop.
pub(super) fn is_drop(drop: &DropSite, reasons: &[&str], stages: &[&str], functions: &[&str]) -> bool {
    let function = function_of(&drop.location);
    let in_stage = drop.key.stage.as_deref().is_some_and(|stage| stages.contains(&stage));
    // The function decides only where no specific reason was given.
    let has_reason = is_specific(&drop.reason);
    // Kernels before 5.17 give no reason; nf_hook_slow drops for one reason only.
    let reason = if !has_reason && function == "nf_hook_slow" { "NETFILTER_DROP" } else { &drop.reason };
    let by_reason = reasons.contains(&reason) && (stages.is_empty() || in_stage);
    by_reason || !has_reason && functions.contains(&function)
}

impl Loss<'_> {
    /// Whether the retransmissions of a group are for packets that were dropped here.
    fn has_caused(&self, group: &RetransmissionGroup) -> bool {
        group.dropped_at.as_ref().is_some_and(|site| self.drops.iter().any(|drop| site.is(drop)))
    }

    /// The packets of programs: without multicast and discovery, which are lost now and then on every machine.
    fn of_traffic(&self) -> u64 {
        let packets: u64 = self.drops.iter().map(|drop| drop.packets).sum();
        packets.saturating_sub(self.facts.background)
    }

    /// The finding, with the retransmissions that the drops caused. `None` if there are too few of them: fewer than
    /// three, unless they are all that a flow sent for a while, or TCP waited for its timer because of them.
    pub fn finding(&self, tail: &Tail) -> Option<Finding> {
        let packets = self.of_traffic();
        let retransmitted =
            Retransmitted::of(tail.tcp.retransmissions.iter().filter(|group| self.has_caused(group)));
        let is_rare = packets < PACKETS_MIN;
        if packets == 0 || is_rare && self.facts.run < RUN_MIN && retransmitted.timeouts == 0 {
            return None;
        }
        // Of a cause that several reasons can come from, the first one that the rule lists is nearest to it.
        let rank = |drop: &Drop| match &self.rule.evidence {
            Evidence::Drops { reasons, sign, .. } if *sign != Sign::Any => {
                reasons.iter().position(|reason| *reason == drop.reason).unwrap_or(reasons.len())
            }
            _ => 0,
        };
        let worst = self.drops.iter().max_by_key(|drop| (Reverse(rank(drop)), drop.packets))?;
        let fraction = packets as f64 / tail.analysis.finished().max(1) as f64;
        let without_retransmission = packets.saturating_sub(retransmitted.segments);
        let intended = match self.rule.evidence {
            Evidence::Drops { intended, .. } => intended,
            _ => self.row.is_some_and(|row| row.effect == Effect::Configured),
        };
        // The kernel itself tells by its counters.
        let is_told =
            |sign: Sign| matches!(sign, Sign::Any | Sign::Outer | Sign::NoReason | Sign::Counted(_));
        let is_told_apart = matches!(self.rule.evidence, Evidence::Drops { sign, .. } if !is_told(sign));
        Some(Finding {
            severity: match fraction {
                // Even an intended drop is not meant to make TCP wait.
                _ if retransmitted.timeouts >= PACKETS_MIN => Severity::Severe,
                // Nor is it to take some packets of a flow and to let others through.
                _ if intended && !self.facts.is_partial() => Severity::Note,
                _ if is_rare => Severity::Warning,
                fraction if fraction >= LOST_SEVERE => Severity::Severe,
                _ => Severity::Warning,
            },
            confidence: if is_told_apart { Confidence::Likely } else { Confidence::Certain },
            lost_ns: retransmitted.waited_ns + u128::from(without_retransmission) * u128::from(RTO_MIN_NS),
            packets,
            drop: Some((worst.reason.clone(), worst.location.clone())),
            row: self.row,
            lossy: (self.facts.flows() > 0).then(|| LossyFlows::of(&self.facts)),
            retransmitted,
            ..Finding::at(self.rule, &worst.key)
        })
    }
}

/// Retransmission timeouts that no drop explains. Where the drop was seen but is no finding, its place is named.
pub(super) fn timeouts(tail: &Tail, rule: &'static Rule, losses: &[Loss<'_>]) -> Option<Finding> {
    let groups = tail.tcp.retransmissions.iter().filter(|group| group.trigger.is_timeout());
    let unexplained: Vec<&RetransmissionGroup> =
        groups.filter(|group| !losses.iter().any(|loss| loss.has_caused(group))).collect();
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
