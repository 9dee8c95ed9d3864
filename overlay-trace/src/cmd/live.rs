//! The progress of a recording on standard error. A closed standard error must not end the recording.

use std::{
    collections::HashSet,
    io::{IsTerminal, Write, stderr},
    path::Path,
    time::Duration,
};

use overlay_trace_analysis::{
    breakdown::{Drop, Key},
    report::place,
    tail::cause_of,
};
use overlay_trace_format::{
    Counters,
    detection::{reasons, sentence},
};
use overlay_trace_probe::{DropCount, Session, Summary};

/// Interval of the progress lines where standard error is no terminal.
const WITHOUT_TERMINAL: Duration = Duration::from_secs(5);
/// A cause is reported from this many drops per second on: fewer can be chance.
const PER_SECOND: f64 = 5.0;

/// The progress line.
pub(super) struct Live {
    terminal: bool,
    /// When the last line was printed, and how many packets there were.
    last: Duration,
    packets: u64,
    causes: Causes,
}

/// Reports what drops packets, once per cause and place.
#[derive(Default)]
struct Causes {
    /// The drops at the last check.
    before: Vec<Drop>,
    /// Time of the last check.
    at: Duration,
    reported: HashSet<(&'static str, String)>,
}

impl Causes {
    /// The causes that are certain and have not been reported yet, one sentence each.
    fn new_ones(&mut self, drops: &[Drop], elapsed: Duration) -> Vec<String> {
        let seconds = (elapsed - self.at).as_secs_f64();
        let mut sentences = Vec::new();
        for drop in drops {
            let is_same = |old: &&Drop| {
                (&old.reason, &old.location, &old.key) == (&drop.reason, &drop.location, &drop.key)
            };
            let before = self.before.iter().find(is_same).map_or(0, |old| old.packets);
            let rate = drop.packets.saturating_sub(before) as f64 / seconds.max(1e-3);
            let Some(cause) = cause_of(drop).filter(|_| rate >= PER_SECOND) else { continue };
            let place = place(&drop.key);
            if self.reported.insert((cause.id, place.clone())) {
                sentences.push(format!("{rate:.0} packets/s dropped in {place}: {}", cause.what));
            }
        }
        (self.before, self.at) = (drops.to_vec(), elapsed);
        sentences
    }
}

impl Live {
    pub fn new() -> Live {
        Live { terminal: stderr().is_terminal(), last: Duration::ZERO, packets: 0, causes: Causes::default() }
    }

    /// Reports causes of drops as soon as they are certain.
    pub fn report_causes(&mut self, summary: &Summary, elapsed: Duration) {
        let drops: Vec<Drop> = summary.drops.iter().map(as_analysed).collect();
        for sentence in self.causes.new_ones(&drops, elapsed) {
            self.clear();
            let _ = writeln!(stderr(), "{:>4.0} s  finding: {sentence}", elapsed.as_secs_f64());
        }
    }

    /// Shows the packets so far and the rate since the last line.
    pub fn show(&mut self, summary: &Summary, elapsed: Duration) {
        let since = elapsed - self.last;
        if !self.terminal && since < WITHOUT_TERMINAL {
            return;
        }
        let counters = &summary.counters;
        let new = counters.finished.saturating_sub(self.packets);
        let rate = if since.is_zero() { 0.0 } else { new as f64 / since.as_secs_f64() };
        let line = format!(
            "{:>4.0} s  {} packets  {rate:.0}/s  lost: {}",
            elapsed.as_secs_f64(),
            counters.finished,
            losses(counters)
        );
        (self.last, self.packets) = (elapsed, counters.finished);
        let mut stderr = stderr();
        let _ = if self.terminal { write!(stderr, "\r\x1b[K{line}") } else { writeln!(stderr, "{line}") };
        let _ = stderr.flush();
    }

    /// Clears the progress line.
    pub fn clear(&self) {
        if self.terminal {
            let _ = write!(stderr(), "\r\x1b[K");
        }
    }
}

/// A count of drops, as the analysis of the recording will give it.
fn as_analysed(count: &DropCount) -> Drop {
    Drop {
        packets: count.packets,
        bytes: count.bytes,
        reason: count.reason.clone(),
        location: count.location.clone(),
        key: Key {
            layer: Some(count.stage.layer.name().into()),
            stage: Some(count.stage.name.into()),
            kind: count.stage.kind.name(),
            level: Some(count.level),
            direction: None,
            netns: Some(count.hop.netns.clone()),
            device: Some(count.hop.device.clone()),
        },
    }
}

/// The loss counters that are not 0.
fn losses(counters: &Counters) -> String {
    let parts: Vec<String> = counters
        .losses()
        .iter()
        .filter(|(number, _)| *number > 0)
        .map(|(number, what)| format!("{number} {what}"))
        .collect();
    if parts.is_empty() { "nothing".into() } else { parts.join(", ") }
}

/// Prints the probe set, the number of probes and the networks that were detected.
pub fn announce(session: &Session) {
    let (set, reason) = session.set();
    let (probes, unseen) = session.coverage();
    let unseen = match unseen {
        0 => String::new(),
        1 => "; 1 stage cannot be probed here (`overlay-trace doctor` says why)".to_owned(),
        number => format!("; {number} stages cannot be probed here (`overlay-trace doctor` says why)"),
    };
    let reason = reason.map(|reason| format!(" ({reason})")).unwrap_or_default();
    let _ = writeln!(stderr(), "recording with probe set {}{reason}: {probes} probes{unseen}", set.name());
    let found = session.networks();
    let because = if found.is_empty() { String::new() } else { format!(": {}", reasons(found)) };
    let _ = writeln!(stderr(), "{}{because}", sentence(found));
}

/// Prints the totals of the recording.
pub fn report(summary: &Summary, output: &Path) {
    let counters = &summary.counters;
    let misses = match counters.probe_misses {
        None => " (probe misses unknown: this kernel does not count them)".to_owned(),
        Some(_) if counters.are_misses_known() => String::new(),
        Some(_) => format!(" (probe misses unknown for {} probes)", counters.untold_probes),
    };
    let _ = writeln!(
        stderr(),
        "{} packets in {:.1} s, {} bytes in {}; lost: {}{misses}",
        counters.finished,
        summary.duration_ns as f64 / 1e9,
        summary.file_bytes,
        output.display(),
        losses(counters),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_reported_once_and_only_if_it_goes_on() {
        let drops = |packets, reason: &str| {
            let key =
                Key { stage: Some("backlog-wait".into()), device: Some("eth0".into()), ..Key::default() };
            vec![Drop { packets, bytes: 0, reason: reason.into(), location: String::new(), key }]
        };
        let mut causes = Causes::default();
        let second = Duration::from_secs(1);
        assert!(causes.new_ones(&drops(3, "CPU_BACKLOG"), second).is_empty());
        // A firewall rule is intended.
        assert!(causes.new_ones(&drops(900, "NETFILTER_DROP"), 2 * second).is_empty());
        let told = causes.new_ones(&drops(100, "CPU_BACKLOG"), 3 * second);
        assert_eq!(told.len(), 1);
        assert!(told[0].contains("100 packets/s") && told[0].contains("backlog-wait at eth0"), "{told:?}");
        assert!(causes.new_ones(&drops(900, "CPU_BACKLOG"), 4 * second).is_empty());
    }

    #[test]
    fn only_counters_that_are_not_zero_are_shown() {
        assert_eq!(losses(&Counters::default()), "nothing");
        let counters = Counters { lost_records: 3, lost_end: 1, ..Counters::default() };
        assert_eq!(losses(&counters), "3 records, 1 missed ends");
    }
}
