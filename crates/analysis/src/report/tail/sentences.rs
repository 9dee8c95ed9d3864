//! The sentences about slow packets.

use super::tcp;
use crate::{
    breakdown::{Drop, Key},
    report::{
        counters,
        place::place,
        units::{count, percent, signed_time, time},
    },
    tail::{Evidence, Finding, LossyFlows, Of, Tail, TailRow, Threshold},
};

/// The answer names at most this many places, until they make up this fraction of the excess.
const NAMED: usize = 3;
const ENOUGH: f64 = 0.8;
/// A place that is the largest excess of less than this fraction of the slow packets is of a few packets only.
const FEW: f64 = 0.05;
/// A place with less than this fraction is not named.
const NAMED_SHARE_MIN: f64 = 0.1;

/// The answer in one sentence.
pub(super) fn answer(tail: &Tail) -> String {
    let (threshold, what) = (time(tail.threshold_ns as f64), tail.of.name());
    let (slow, all) = (tail.slow.units, tail.slow.units + tail.ordinary.units);
    if all == 0 {
        return match tail.of {
            Of::Requests => "No request with its answer was found in the recording.".into(),
            Of::Packets | Of::Flows => nothing(tail),
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

/// Why a recording can be empty.
fn nothing(tail: &Tail) -> String {
    let header = &tail.analysis.header;
    let filter = match &*header.filter {
        "" => String::new(),
        filter => format!(" the filter ({filter}) may let nothing through;"),
    };
    let unseen = match header.unseen_stages.len() {
        0 => String::new(),
        number => format!(" {number} stages had no probe;"),
    };
    format!(
        "No packet finished its path during the recording, so there is nothing to say about any:{filter}{unseen} there may \
         have been no traffic; `overlay-trace doctor` says what can be seen here."
    )
}

/// The places that hold most of the excess, and single packets that hold much of it: a mean is theirs then.
fn largest(tail: &Tail) -> String {
    let share = |row: &TailRow| tail.share(row.excess_ns());
    let large: Vec<&TailRow> = tail.rows.iter().filter(|row| share(row) >= NAMED_SHARE_MIN).collect();
    let (few, many): (Vec<&TailRow>, Vec<&TailRow>) =
        large.into_iter().partition(|row| (row.dominant as f64) < FEW * tail.slow.packets as f64);
    let (mut named, mut parts) = (0.0, Vec::new());
    for row in many.into_iter().take(NAMED) {
        if named >= ENOUGH {
            break;
        }
        named += share(row);
        let of = if parts.is_empty() { " of the excess is" } else { "" };
        parts.push(format!("{}{of} {}", percent(share(row)), place(&row.key)));
    }
    if parts.is_empty() && few.is_empty() {
        return "no single stage holds a tenth of the excess".into();
    }
    if parts.is_empty() {
        parts.extend(most_packets(tail));
    }
    let few = few.iter().take(1).filter(|_| named < ENOUGH).map(|row| {
        let who = match row.dominant {
            0 => "no packet's largest part".into(),
            1 => "of 1 packet".into(),
            packets => format!("of {} packets", count(packets)),
        };
        format!("{} of the excess is {} ({who})", percent(share(row)), place(&row.key))
    });
    parts.into_iter().chain(few).collect::<Vec<_>>().join(", ")
}

/// `390 of 400 lost most in qdisc-wait at eth0 of node2 (level 1)`.
pub(super) fn most_packets(tail: &Tail) -> Option<String> {
    let row = most(tail)?;
    let (packets, slow) = (count(row.dominant), count(tail.slow.packets));
    Some(format!("{packets} of {slow} lost most in {}", place(&row.key)))
}

/// The row that most slow packets lost most of their time in.
pub(super) fn most(tail: &Tail) -> Option<&TailRow> {
    tail.rows.iter().max_by_key(|row| row.dominant).filter(|row| row.dominant > 0)
}

/// What in the recording shows a cause.
pub(super) fn evidence(tail: &Tail, finding: &Finding) -> String {
    let retransmitted = tcp::retransmitted(&finding.retransmitted);
    let place = place(&finding.key);
    match (&finding.drop, finding.share) {
        _ if let Some(group) = &finding.throttled => {
            let share =
                finding.share.map(|share| format!("; {} of the excess, most in {place}", percent(share)));
            counters::throttled(group) + &share.unwrap_or_default()
        }
        _ if !finding.counted.is_empty() => counters::sentence(&finding.counted) + &refused(tail, finding),
        _ if finding.rule.is_of_no_time() => {
            let place = if finding.has_place() {
                format!("most in {place}")
            } else {
                "lost at no place that the recording shows".into()
            };
            format!("{} segments, {place}{retransmitted}", count(finding.packets))
        }
        (_, Some(share))
            if let (Some(ns), Evidence::RequestWait(_)) = (finding.typical_ns, &finding.rule.evidence) =>
        {
            format!(
                "{} of the ordinary requests' time in {place}: {} of {} wait there, {} on average",
                percent(share),
                count(finding.packets),
                count(tail.ordinary.packets),
                time(ns as f64)
            )
        }
        (_, Some(share)) if let Some(ns) = finding.typical_ns => format!(
            "{} of all packets' time, slow or not, in {place}: half of the {} packets that pass there wait {} or more",
            percent(share),
            count(finding.packets),
            time(ns as f64)
        ),
        _ if finding.rule.is_of_copies() => {
            format!("{} copies were made, most in {place}", count(finding.packets))
        }
        (Some((reason, location)), _) => {
            let why = [reason.as_str(), location.as_str()];
            let why: Vec<&str> = why.into_iter().filter(|why| !why.is_empty()).collect();
            let packets = count(finding.packets);
            let flows = finding.lossy.as_ref().map_or(String::new(), lossy);
            format!(
                "{packets} packets dropped{flows}, most in {place}: {}{retransmitted}{}",
                why.join(" in "),
                agreeing(tail, finding)
            )
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

/// The kernel's counters of the same packets.
fn agreeing(tail: &Tail, finding: &Finding) -> String {
    let same = crate::tail::agreeing(tail, finding);
    if same.is_empty() {
        String::new()
    } else {
        format!("; the kernel counted {}", counters::sentence(&same))
    }
}

/// Why resets were sent: segments that found no socket.
fn refused(tail: &Tail, finding: &Finding) -> String {
    let is_reset = finding.counted.iter().any(|at| at.counter == "TcpOutRsts");
    let sent_in = |netns: &Option<String>| {
        finding.counted.iter().any(|at| at.counter == "TcpOutRsts" && netns.as_ref() == Some(&at.netns))
    };
    let is_refused = |drop: &&Drop| {
        let is_tcp = drop.location.starts_with("tcp_v4_rcv") || drop.location.starts_with("tcp_v6_rcv");
        is_tcp && matches!(&*drop.reason, "NO_SOCKET" | "" | "NOT_SPECIFIED") && sent_in(&drop.key.netns)
    };
    let segments: u64 = tail.analysis.drops.iter().filter(is_refused).map(|drop| drop.packets).sum();
    if !is_reset || segments == 0 {
        return String::new();
    }
    format!("; {} segments found no socket there (NO_SOCKET), which is answered by a reset", count(segments))
}

/// ` of 3 flows (2 of which got nothing through any more)`.
fn lossy(flows: &LossyFlows) -> String {
    let of = |flows: u64| if flows == 1 { "1 flow".into() } else { format!("{} flows", count(flows)) };
    let after = match flows.silenced {
        0 if flows.run > 1 => format!(" (up to {} in a row)", count(flows.run)),
        0 => String::new(),
        silenced if silenced == flows.flows => " (nothing of them got through afterwards)".into(),
        silenced => format!(" (nothing of {} of them got through afterwards)", count(silenced)),
    };
    format!(" of {}{after}", of(flows.flows))
}

/// `level 1 +9.89µs (16.9%)`: the excess of some rows.
pub(super) fn excess_part(tail: &Tail, name: &str, matches: &dyn Fn(&Key) -> bool) -> String {
    let excess = tail.rows.iter().filter(|row| matches(&row.key)).map(TailRow::excess_ns).sum();
    format!("{name} {} ({})", signed_time(excess as f64), percent(tail.share(excess)))
}
