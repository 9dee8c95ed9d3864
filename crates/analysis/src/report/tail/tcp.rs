//! The sentences about TCP in a tail.

use crate::{
    report::{
        place::place,
        units::{count, time},
    },
    tail::{DropSite, Finding, Of, RetransmitTrigger, Retransmitted, Tail},
};

/// The answer, if slow samples waited for retransmission timeouts: most of the requests; or of packets, whose own time
/// such a wait is not part of, if it is longer than all that slow ones lost.
pub(super) fn answer(tail: &Tail) -> Option<String> {
    let timeouts = tail.tcp.count(RetransmitTrigger::is_timeout);
    let groups = tail.tcp.retransmissions.iter().filter(|group| group.trigger.is_timeout());
    let waited_ns: u128 = groups.map(|group| group.waited_ns).sum();
    let lost_ns = u128::try_from(tail.excess_ns()).unwrap_or(0) * u128::from(tail.slow.packets);
    let who = match tail.of {
        _ if timeouts == 0 => return None,
        Of::Requests if tail.slow_waited * 2 < tail.slow.packets.max(1) => return None,
        Of::Requests => {
            let (waited, slow) = (count(tail.slow_waited), count(tail.slow.packets));
            let threshold = time(tail.threshold_ns as f64);
            format!("{waited} of {slow} requests above {threshold} waited for a retransmission timeout (RTO)")
        }
        Of::Packets | Of::Flows if waited_ns < lost_ns => return None,
        Of::Packets | Of::Flows => {
            format!("{} waited for a retransmission timeout (RTO)", segments(timeouts))
        }
    };
    Some(format!("{who}{}: {}.", waits(tail), dropped(tail, timeouts)))
}

/// ` (28 for 203ms, 3 for 2 times that)`.
fn waits(tail: &Tail) -> String {
    let Some(waits) = &tail.tcp.timeout_waits else { return String::new() };
    let part = |(multiple, segments): (&u64, &u64)| match multiple {
        1 => format!("{} for {}", count(*segments), time(waits.shortest_ns as f64)),
        multiple => format!("{} for {multiple} times that", count(*segments)),
    };
    format!(" ({})", waits.by_multiple.iter().map(part).collect::<Vec<_>>().join(", "))
}

/// Where the segments were dropped before they timed out.
fn dropped(tail: &Tail, timeouts: u64) -> String {
    let known = tail.tcp.retransmissions.iter().filter(|group| group.trigger.is_timeout());
    let Some((worst, site)) =
        known.filter_map(|group| group.dropped_at.as_ref().map(|site| (group, site))).next()
    else {
        return "the recording does not show where they were lost".into();
    };
    let how_many = match worst.segments {
        segments if segments == timeouts => "they".to_string(),
        segments => format!("{} of them", count(segments)),
    };
    let cause = tail.findings.iter().find(|finding| is_at(finding, site));
    let why = cause.map_or(String::new(), |finding| format!(" ({})", finding.what()));
    format!("{how_many} had been dropped{} in {}{why}", by(site), place(&site.key))
}

fn is_at(finding: &Finding, site: &DropSite) -> bool {
    let drop = finding.drop.as_ref();
    drop.is_some_and(|(reason, location)| *reason == site.reason && *location == site.location)
}

/// ` by gro_cells_receive`.
fn by(site: &DropSite) -> String {
    match site.location.split('+').next() {
        None | Some("") => String::new(),
        Some(function) => format!(" by {function}"),
    }
}

/// What TCP did; `None` without TCP.
pub(super) fn line(tail: &Tail) -> Option<String> {
    let tcp = &tail.tcp;
    if tcp.segments == 0 {
        return None;
    }
    let triggers = [
        (RetransmitTrigger::Timeout, "after a timeout (RTO)"),
        (RetransmitTrigger::Handshake, "in the handshake"),
        (RetransmitTrigger::Probe, "after a shorter timer"),
        (RetransmitTrigger::Fast, "fast"),
    ];
    let parts: Vec<String> = triggers
        .into_iter()
        .map(|(trigger, words)| (tcp.count(|other| other == trigger), words))
        .filter(|(segments, _)| *segments > 0)
        .map(|(segments, words)| format!("{} {words}", count(segments)))
        .collect();
    let parts = if parts.is_empty() { "none".into() } else { parts.join(", ") };
    Some(format!(
        "{}; retransmitted: {parts}; {} out of order, {} zero windows",
        segments(tcp.segments),
        count(tcp.out_of_order),
        count(tcp.zero_windows)
    ))
}

/// The retransmissions that a cause led to, to follow its own evidence.
pub(super) fn retransmitted(retransmitted: &Retransmitted) -> String {
    if retransmitted.segments == 0 {
        return String::new();
    }
    format!(
        "; TCP retransmitted {}, {} after a timeout: {} of waiting in total, {} at most",
        of_segments(retransmitted.segments),
        count(retransmitted.timeouts),
        time(retransmitted.waited_ns as f64),
        time(retransmitted.longest_ns as f64)
    )
}

fn segments(number: u64) -> String {
    if number == 1 { "1 TCP segment".into() } else { format!("{} TCP segments", count(number)) }
}

fn of_segments(number: u64) -> String {
    if number == 1 { "1 segment".into() } else { format!("{} segments", count(number)) }
}
