//! The sentences about slow packets.

use super::tcp;
use crate::{
    breakdown::Key,
    report::{
        place::place,
        units::{count, percent, signed_time, time},
    },
    tail::{Finding, Of, Tail, TailRow, Threshold},
};

/// The answer names at most this many places, until they make up this fraction of the excess.
const NAMED: usize = 3;
const ENOUGH: f64 = 0.8;
/// A place with less than this fraction is not named.
const NAMED_SHARE_MIN: f64 = 0.1;

/// The answer in one sentence.
pub(super) fn answer(tail: &Tail) -> String {
    let (threshold, what) = (time(tail.threshold_ns as f64), tail.of.name());
    let (slow, all) = (tail.slow.units, tail.slow.units + tail.ordinary.units);
    if all == 0 {
        return match tail.of {
            Of::Requests => "No request with its answer was found in the recording.".into(),
            Of::Packets | Of::Flows => "No packet finished its path during the recording.".into(),
        };
    }
    if slow == 0 {
        return format!("None of {} {what} took longer than {threshold}.", count(all));
    }
    let part = percent(slow as f64 / all as f64);
    let (slow, all) = (count(slow), count(all));
    let each = if tail.of == Of::Flows { " per packet" } else { "" };
    let who = match tail.threshold {
        Threshold::Quantile(_) => {
            format!("The slowest {part} of {what} ({slow} of {all}, above {threshold}{each})")
        }
        Threshold::Time(_) => format!("The {part} of {what} above {threshold}{each} ({slow} of {all})"),
    };
    let took = format!("{who} took {}{each}", time(tail.slow.mean_ns as f64));
    if tail.ordinary.packets == 0 {
        return format!("{took}: there are no others to compare them with.");
    }
    format!("{took} instead of {}; {}.", time(tail.ordinary.mean_ns as f64), largest(tail))
}

/// The places that hold most of the excess.
fn largest(tail: &Tail) -> String {
    let (mut named, mut parts) = (0.0, Vec::new());
    for row in tail.rows.iter().take(NAMED) {
        let share = tail.share(row.excess_ns());
        if named >= ENOUGH || share < NAMED_SHARE_MIN {
            break;
        }
        named += share;
        let of = if parts.is_empty() { " of the excess is" } else { "" };
        parts.push(format!("{}{of} {}", percent(share), place(&row.key)));
    }
    if parts.is_empty() { "no single stage holds a tenth of the excess".into() } else { parts.join(", ") }
}

/// What in the recording shows a cause.
pub(super) fn evidence(tail: &Tail, finding: &Finding) -> String {
    let retransmitted = tcp::retransmitted(&finding.retransmitted);
    let place = place(&finding.key);
    match (&finding.drop, finding.share) {
        _ if finding.rule.is_of_no_time() => {
            format!("{} segments, most in {place}{retransmitted}", count(finding.packets))
        }
        _ if finding.rule.is_of_copies() => {
            format!("{} copies were made, most in {place}", count(finding.packets))
        }
        (Some((reason, location)), _) => {
            let why = [reason.as_str(), location.as_str()];
            let why: Vec<&str> = why.into_iter().filter(|why| !why.is_empty()).collect();
            let packets = count(finding.packets);
            format!("{packets} packets dropped, most in {place}: {}{retransmitted}", why.join(" in "))
        }
        (None, Some(share)) if finding.rule.is_of_all() => {
            format!("{} of all packets' time, most in {place}", percent(share))
        }
        (None, share) if let Some(single) = finding.cpu => format!(
            "{} of the excess, from {place} on: packets of {} flows, all on CPU {} of {}",
            percent(share.unwrap_or(0.0)),
            count(single.flows),
            single.cpu,
            tail.analysis.header.cpus.unwrap_or(0)
        ),
        (None, share) if !finding.rule.spread_over().is_empty() => {
            format!("{} of the excess, from {place} on", percent(share.unwrap_or(0.0)))
        }
        (None, share) => format!(
            "{} of the excess, most in {place}; the largest excess of {} of {} slow packets",
            percent(share.unwrap_or(0.0)),
            count(finding.packets),
            count(tail.slow.packets)
        ),
    }
}

/// `level 1 +9.89µs (16.9%)`: the excess of some rows.
pub(super) fn excess_part(tail: &Tail, name: &str, matches: &dyn Fn(&Key) -> bool) -> String {
    let excess = tail.rows.iter().filter(|row| matches(&row.key)).map(TailRow::excess_ns).sum();
    format!("{name} {} ({})", signed_time(excess as f64), percent(tail.share(excess)))
}
