//! The first sentences of a tail: the cause and what it explains, or that none is known and where to look.

use super::{sentences, tcp};
use crate::{
    report::{
        counters,
        place::place,
        units::{count, percent, time},
    },
    tail::{Confidence, DropRow, Effect, Evidence, Finding, Of, Severity, Tail, drop_row, rules},
};

/// Fewer requests without an answer can be those that were in flight as the recording ended.
const UNANSWERED_MIN: u64 = 3;
const UNANSWERED_SHARE: f64 = 0.01;

/// The answer, the most important sentence first.
pub(super) fn summary(tail: &Tail) -> Vec<String> {
    [headline(tail), unanswered(tail), tcp::answer(tail), Some(sentences::answer(tail)), typical(tail)]
        .into_iter()
        .flatten()
        .collect()
}

/// The first cause, or where the excess is if none is known; `None` where there is nothing to say.
fn headline(tail: &Tail) -> Option<String> {
    // Drops that can be meant slow nothing down.
    let is_meant = |finding: &&Finding| finding.severity == Severity::Note && finding.share.is_none();
    let Some(finding) = tail.findings.first().filter(|finding| !is_meant(finding)) else {
        return tail.is_comparison().then(|| unknown(tail)).flatten();
    };
    let confidence = match finding.confidence {
        Confidence::Certain => "Cause",
        Confidence::Likely => "Likely cause",
        Confidence::Possible => "Possible cause",
    };
    let place = if finding.has_place() { format!(" [{}]", place(&finding.key)) } else { String::new() };
    Some(format!("{confidence}: {}{place}. {}", finding.what(), explains(tail, finding)))
}

/// How many requests had no answer, which the times of the others do not show.
fn unanswered(tail: &Tail) -> Option<String> {
    let answered = tail.slow.packets.saturating_add(tail.ordinary.packets);
    let all = answered.saturating_add(tail.unanswered);
    let is_notable = tail.of == Of::Requests
        && tail.unanswered >= UNANSWERED_MIN
        && tail.unanswered as f64 >= UNANSWERED_SHARE * all as f64;
    is_notable.then(|| {
        let lost = tail.findings.iter().find(|finding| finding.lossy.is_some());
        let seek = if lost.is_some() { "" } else { ", and no drop in this recording says why" };
        format!("{} of {} requests had no answer{seek}.", count(tail.unanswered), count(all))
    })
}

/// How much a cause explains, of the packets and of the time.
fn explains(tail: &Tail, finding: &Finding) -> String {
    let slow = format!("{} slow {}", count(tail.slow.packets), tail.of.name());
    match (&finding.rule.evidence, finding.share) {
        (_, Some(share)) if finding.typical_ns.is_some() || finding.rule.is_of_all() => {
            format!(
                "It takes {} of the {} of all {}, not only of slow ones.",
                percent(share),
                whole(finding),
                tail.of.name()
            )
        }
        (_, Some(share)) => {
            let less = if share < 0.5 { ": less than half, see where the rest is" } else { "" };
            let packets = count(finding.packets);
            format!(
                "It is the largest delay of {packets} of {slow}, and {} of the time that they lost{less}.",
                percent(share)
            )
        }
        (Evidence::Timeouts, _) => {
            format!("{} segments were sent again after a timeout.", count(finding.packets))
        }
        (Evidence::ZeroWindows | Evidence::Copies { .. }, _) => {
            format!("It was seen {} times.", count(finding.packets))
        }
        _ if let Some(group) = &finding.throttled => {
            format!(
                "It was stopped in {} of {} periods.",
                count(group.throttled_periods),
                count(group.periods)
            )
        }
        _ if !finding.counted.is_empty() => {
            format!("The kernel counted {}.", counters::sentence(&finding.counted))
        }
        _ => lost(tail, finding),
    }
}

fn whole(finding: &Finding) -> &'static str {
    if finding.key.kind == "work" { "working time" } else { "time" }
}

/// How many packets a drop took, and how long TCP waited for them.
fn lost(tail: &Tail, finding: &Finding) -> String {
    let packets = if finding.packets == 1 {
        "1 packet was".into()
    } else {
        format!("{} packets were", count(finding.packets))
    };
    let waited = match finding.retransmitted.waited_ns {
        0 => String::new(),
        ns => format!("; TCP waited {} for what it sent again", time(ns as f64)),
    };
    let requests = match tail.of {
        Of::Requests if tail.slow_waited > 0 => {
            format!(
                "; {} of {} slow requests waited for a timeout",
                count(tail.slow_waited),
                count(tail.slow.packets)
            )
        }
        _ => String::new(),
    };
    format!("{packets} lost{waited}{requests}.")
}

/// Where to look, without a known cause.
fn unknown(tail: &Tail) -> Option<String> {
    let row = sentences::most(tail)?;
    let stage = row.key.stage.as_deref().unwrap_or_default();
    let check = rules().find(|rule| rule.is_about(stage)).map_or("", |rule| rule.check);
    let look = if check.is_empty() { String::new() } else { format!(" Look at: {check}.") };
    let (packets, slow) = (count(row.dominant), count(tail.slow.packets));
    Some(format!(
        "No known cause stands out: {packets} of {slow} slow {} lost most in {}.{look}",
        tail.of.name(),
        place(&row.key)
    ))
}

/// That ordinary packets are slow as well, where no cause says so.
fn typical(tail: &Tail) -> Option<String> {
    let row = tail.longest_typical_wait()?;
    let stage = row.key.stage.as_deref().unwrap_or_default();
    let is_named = tail.findings.iter().any(|finding| {
        finding.typical_ns.is_some() || finding.rule.is_about(stage) || finding.key.stage == row.key.stage
    });
    (!is_named).then(|| {
        format!(
            "The typical packet is slow here too: {} of all packets' time is {}, {} or more for half of those that pass. \
             If that is unusual, compare with another recording (overlay-trace diff).",
            percent(row.share),
            place(&row.key),
            time(row.raw.quantile(0.5) as f64)
        )
    })
}

/// Every dropped packet by what it means; `None` without any.
pub(super) fn drops(tail: &Tail) -> Option<String> {
    let drops = &tail.analysis.drops;
    let all: u64 = drops.iter().map(|drop| drop.packets).sum();
    if all == 0 {
        return None;
    }
    let explained: u64 =
        tail.findings.iter().filter(|finding| finding.lossy.is_some()).map(|finding| finding.packets).sum();
    let of = |effect: Effect| -> u64 {
        let is = |row: Option<&DropRow>| row.is_some_and(|row| row.effect == effect);
        drops.iter().filter(|drop| is(drop_row(&drop.reason, &drop.location))).map(|drop| drop.packets).sum()
    };
    let (refused, unwanted) = (of(Effect::Refused), of(Effect::Unwanted));
    let rest = all.saturating_sub(explained + refused + unwanted);
    let parts = [
        (explained, "in a cause below"),
        (refused, "refused as duplicates"),
        (unwanted, "that nobody waited for (closed sockets, multicast)"),
        (rest, "single, copies, multicast or discovery: no cause"),
    ];
    let parts: Vec<String> = parts
        .into_iter()
        .filter(|(packets, _)| *packets > 0)
        .map(|(packets, what)| format!("{} {what}", count(packets)))
        .collect();
    let packets = if all == 1 { "packet" } else { "packets" };
    Some(format!("{} {packets}: {}", count(all), parts.join(", ")))
}
