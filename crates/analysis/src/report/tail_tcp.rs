//! TCP's view of a tail, for people.

use super::{
    tail_text::at,
    units::{count, time},
};
use crate::tail::{Again, Finding, LostAt, Of, SentAgain, Tail};

/// The answer, if the slow ones have waited for TCP's timeouts; else nothing.
pub(super) fn answer(tail: &Tail) -> Option<String> {
    let timeouts = tail.tcp.count(Again::is_timeout);
    let who = match tail.of {
        _ if timeouts == 0 => return None,
        Of::Requests if tail.slow_waited * 2 < tail.slow.packets.max(1) => return None,
        Of::Requests => {
            let (waited, slow) = (count(tail.slow_waited), count(tail.slow.packets));
            let above = time(tail.threshold_ns as f64);
            format!("{waited} of {slow} requests above {above} waited for a retransmission timeout")
        }
        Of::Packets | Of::Flows => format!("{} waited for a retransmission timeout", segments(timeouts)),
    };
    Some(format!("{who}{}: {}.", plateau(tail), lost(tail, timeouts)))
}

/// ` (28 for 203ms, 3 for 2 times that)`.
fn plateau(tail: &Tail) -> String {
    let Some((shortest, times)) = &tail.tcp.plateau else { return String::new() };
    let part = |(multiple, segments): (&u64, &u64)| match multiple {
        1 => format!("{} for {}", count(*segments), time(*shortest as f64)),
        multiple => format!("{} for {multiple} times that", count(*segments)),
    };
    format!(" ({})", times.iter().map(part).collect::<Vec<_>>().join(", "))
}

/// Where the segments were lost for which timeouts were waited.
fn lost(tail: &Tail, timeouts: u64) -> String {
    let known = tail.tcp.losses.iter().filter(|loss| loss.again.is_timeout());
    let Some((worst, lost_at)) =
        known.filter_map(|loss| loss.lost_at.as_ref().map(|lost_at| (loss, lost_at))).next()
    else {
        return "where they were lost before, this recording does not show".into();
    };
    let how_many = match worst.segments {
        segments if segments == timeouts => "they".to_string(),
        segments => format!("{} of them", count(segments)),
    };
    let cause = tail.findings.iter().find(|finding| is_at(finding, lost_at));
    let why = cause.map_or(String::new(), |finding| format!(" ({})", finding.rule.what));
    format!("{how_many} had been dropped{} in {}{why}", by(lost_at), at(&lost_at.key))
}

fn is_at(finding: &Finding, lost_at: &LostAt) -> bool {
    let drop = finding.drop.as_ref();
    drop.is_some_and(|(reason, location)| *reason == lost_at.reason && *location == lost_at.location)
}

/// ` by gro_cells_receive`.
fn by(lost_at: &LostAt) -> String {
    match lost_at.location.split('+').next() {
        None | Some("") => String::new(),
        Some(function) => format!(" by {function}"),
    }
}

/// What TCP did, in a line; nothing if there was no TCP.
pub(super) fn line(tail: &Tail) -> Option<String> {
    let tcp = &tail.tcp;
    if tcp.segments == 0 {
        return None;
    }
    let reasons = [
        (Again::Timeout, "after a timeout"),
        (Again::Handshake, "while connecting"),
        (Again::Probe, "after a shorter timer"),
        (Again::Fast, "fast"),
    ];
    let told: Vec<String> = reasons
        .into_iter()
        .map(|(again, words)| (tcp.count(|other| other == again), words))
        .filter(|(segments, _)| *segments > 0)
        .map(|(segments, words)| format!("{} {words}", count(segments)))
        .collect();
    let told = if told.is_empty() { "none".into() } else { told.join(", ") };
    Some(format!(
        "{}; sent again: {told}; {} out of order, {} zero windows",
        segments(tcp.segments),
        count(tcp.out_of_order),
        count(tcp.zero_windows)
    ))
}

/// What a cause made TCP send again, to follow the cause's own evidence.
pub(super) fn sent_again(again: &SentAgain) -> String {
    if again.segments == 0 {
        return String::new();
    }
    format!(
        "; TCP sent {} again, {} after a timeout: {} of waiting in all, {} at most",
        segments(again.segments),
        count(again.timeouts),
        time(again.waited_ns as f64),
        time(again.longest_ns as f64)
    )
}

fn segments(number: u64) -> String {
    if number == 1 { "1 TCP segment".into() } else { format!("{} TCP segments", count(number)) }
}
