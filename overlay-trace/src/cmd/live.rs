//! What a recording says on the standard error while it runs. A standard error that nobody reads any more
//! must not end it.

use std::{
    collections::HashSet,
    io::{IsTerminal, Write, stderr},
    path::Path,
    time::Duration,
};

use overlay_trace_analysis::breakdown::{Drop, Key};

use overlay_trace_probe::{DropCount, Session, Summary};

use overlay_trace_format::detection::{reasons, sentence};

use overlay_trace_analysis::report::place;

use overlay_trace_analysis::tail::cause_of;

use overlay_trace_format::Counters;

/// Without a terminal there is a line every so often.
const WITHOUT_TERMINAL: Duration = Duration::from_secs(5);
/// A cause is told when it drops so many packets per second: fewer may be an accident.
const PER_SECOND: f64 = 5.0;

/// The line that tells how it goes.
pub(super) struct Live {
    terminal: bool,
    /// When the last line was printed, and how many packets there were.
    last: Duration,
    packets: u64,
    causes: Causes,
}

/// What drops packets, told once for each cause and place.
#[derive(Default)]
struct Causes {
    /// What was dropped when it was looked at last, and when that was.
    before: Vec<Drop>,
    at: Duration,
    told: HashSet<(&'static str, String)>,
}

impl Causes {
    /// The causes that are certain now and have not been told yet, a sentence each.
    fn tell(&mut self, drops: &[Drop], elapsed: Duration) -> Vec<String> {
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
            if self.told.insert((cause.id, place.clone())) {
                sentences.push(format!("{rate:.0} packets/s are dropped in {place}: {}", cause.what));
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

    /// Tells what is the matter, as soon as that is certain.
    pub fn tell_causes(&mut self, summary: &Summary, elapsed: Duration) {
        let drops: Vec<Drop> = summary.drops.iter().map(as_analysed).collect();
        for sentence in self.causes.tell(&drops, elapsed) {
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

    /// Makes room for what follows.
    pub fn clear(&self) {
        if self.terminal {
            let _ = write!(stderr(), "\r\x1b[K");
        }
    }
}

/// A count of drops as an analysis of the recording would give it.
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

/// The losses that there are, in words.
fn losses(counters: &Counters) -> String {
    let parts: Vec<String> = counters
        .losses()
        .iter()
        .filter(|(number, _)| *number > 0)
        .map(|(number, what)| format!("{number} {what}"))
        .collect();
    if parts.is_empty() { "nothing".into() } else { parts.join(", ") }
}

/// Says what the recording can see.
pub fn announce(session: &Session) {
    let (set, reason) = session.set();
    let (probes, unseen) = session.coverage();
    let unseen = match unseen {
        0 => String::new(),
        1 => "; 1 stage cannot be seen here (`overlay-trace doctor` says why)".to_owned(),
        number => format!("; {number} stages cannot be seen here (`overlay-trace doctor` says why)"),
    };
    let reason = reason.map(|reason| format!(" ({reason})")).unwrap_or_default();
    let _ =
        writeln!(stderr(), "recording with the probe set {}{reason}: {probes} probes{unseen}", set.name());
    let found = session.networks();
    let because = if found.is_empty() { String::new() } else { format!(": {}", reasons(found)) };
    let _ = writeln!(stderr(), "{}{because}", sentence(found));
}

/// Says what was recorded.
pub fn report(summary: &Summary, output: &Path) {
    let counters = &summary.counters;
    let misses = match counters.probe_misses {
        None => " (probe misses are not told here)".to_owned(),
        Some(_) if counters.are_misses_known() => String::new(),
        Some(_) => format!(" (probe misses are not told of {} probes)", counters.untold_probes),
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
    use overlay_trace_analysis::breakdown::Key;

    #[test]
    fn a_cause_is_told_once_and_only_if_it_goes_on() {
        let drops = |packets, reason: &str| {
            let key =
                Key { stage: Some("backlog-wait".into()), device: Some("eth0".into()), ..Key::default() };
            vec![Drop { packets, bytes: 0, reason: reason.into(), location: String::new(), key }]
        };
        let mut causes = Causes::default();
        let second = Duration::from_secs(1);
        assert!(causes.tell(&drops(3, "CPU_BACKLOG"), second).is_empty());
        // A rule that somebody has made is no finding.
        assert!(causes.tell(&drops(900, "NETFILTER_DROP"), 2 * second).is_empty());
        let told = causes.tell(&drops(100, "CPU_BACKLOG"), 3 * second);
        assert_eq!(told.len(), 1);
        assert!(told[0].contains("100 packets/s") && told[0].contains("backlog-wait at eth0"), "{told:?}");
        assert!(causes.tell(&drops(900, "CPU_BACKLOG"), 4 * second).is_empty());
    }

    #[test]
    fn only_losses_that_there_are_are_told() {
        assert_eq!(losses(&Counters::default()), "nothing");
        let counters = Counters { lost_records: 3, lost_end: 1, ..Counters::default() };
        assert_eq!(losses(&counters), "3 records, 1 missed ends");
    }
}
