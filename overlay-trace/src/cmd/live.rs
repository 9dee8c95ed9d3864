//! The messages of a recording in progress, on the standard error. A recording goes on when nobody reads them any more.

use std::{
    collections::HashSet,
    io::{IsTerminal, Write, stderr},
    path::Path,
    time::{Duration, Instant},
};

use overlay_trace_analysis::breakdown::{Drop, Key};
use overlay_trace_analysis::report::{nics, place};
use overlay_trace_analysis::tail::cause_of;
use overlay_trace_format::Counters;
use overlay_trace_format::detection::{reasons, sentence};
use overlay_trace_lab::say;
use overlay_trace_probe::{DropCount, Session, StartProgress, Summary};

/// Time between progress lines where the standard error is no terminal.
const LINE_INTERVAL: Duration = Duration::from_secs(5);
/// A cause is reported from this rate of drops on: fewer may be accidental.
const MIN_PACKETS_PER_S: f64 = 5.0;

/// The progress line, and the causes of drops that have been reported.
pub(super) struct Live {
    terminal: bool,
    /// When the last line was printed, and the number of packets then.
    last: Duration,
    packets: u64,
    causes: Causes,
}

/// Causes of drops; each is reported once per device.
#[derive(Default)]
struct Causes {
    /// The drops at the last call, and the time of that call.
    before: Vec<Drop>,
    at: Duration,
    reported: HashSet<(&'static str, String)>,
}

impl Causes {
    /// The causes that are certain now and have not been reported yet, a sentence each.
    fn new_causes(&mut self, drops: &[Drop], elapsed: Duration) -> Vec<String> {
        let seconds = (elapsed - self.at).as_secs_f64();
        let mut sentences = Vec::new();
        for drop in drops {
            let is_same = |old: &&Drop| {
                (&old.reason, &old.location, &old.key) == (&drop.reason, &drop.location, &drop.key)
            };
            let before = self.before.iter().find(is_same).map_or(0, |old| old.packets);
            let rate = drop.packets.saturating_sub(before) as f64 / seconds.max(1e-3);
            let Some(cause) = cause_of(drop).filter(|_| rate >= MIN_PACKETS_PER_S) else { continue };
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

    /// Reports why packets are dropped, as soon as the cause is certain.
    pub fn print_causes(&mut self, summary: &Summary, elapsed: Duration) {
        let drops: Vec<Drop> = summary.drops.iter().map(as_analysed).collect();
        for sentence in self.causes.new_causes(&drops, elapsed) {
            self.clear();
            say(&format!("{:>4.0} s  finding: {sentence}", elapsed.as_secs_f64()));
        }
    }

    /// Shows the packets so far and the rate since the last line.
    pub fn show(&mut self, summary: &Summary, elapsed: Duration) {
        let since = elapsed - self.last;
        if !self.terminal && since < LINE_INTERVAL {
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
        print_line(self.terminal, &line);
    }

    /// Clears the progress line, for other text.
    pub fn clear(&self) {
        clear_line(self.terminal);
    }
}

/// How far attaching the probes has come.
pub(super) struct Attaching {
    progress: StartProgress,
    is_terminal: bool,
    begin: Instant,
    /// When the last line was printed.
    last: Option<Instant>,
}

impl Attaching {
    pub const INTERVAL: Duration = Duration::from_millis(500);

    pub fn new(progress: StartProgress) -> Attaching {
        Attaching { progress, is_terminal: stderr().is_terminal(), begin: Instant::now(), last: None }
    }

    /// Shows the points that have been probed so far.
    pub fn show(&mut self) {
        let is_early = self.last.is_some_and(|last| last.elapsed() < LINE_INTERVAL);
        if !self.is_terminal && is_early {
            return;
        }
        self.last = Some(Instant::now());
        let points = match self.progress.points() {
            (_, 0) => "reading the kernel's types and measuring what probes cost".to_owned(),
            (done, all) => format!("attaching probes: {done} of {all} points"),
        };
        print_line(self.is_terminal, &format!("{:>4.1} s  {points}", self.begin.elapsed().as_secs_f64()));
    }

    /// Clears the line, for other text.
    pub fn clear(&self) {
        clear_line(self.is_terminal);
    }
}

/// Prints a line, which takes the place of the one before on a terminal.
fn print_line(is_terminal: bool, line: &str) {
    let mut stderr = stderr();
    let _ = if is_terminal { write!(stderr, "\r\x1b[K{line}") } else { writeln!(stderr, "{line}") };
    let _ = stderr.flush();
}

fn clear_line(is_terminal: bool) {
    if is_terminal {
        let _ = write!(stderr(), "\r\x1b[K");
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

/// The losses that have occurred, in words.
fn losses(counters: &Counters) -> String {
    let parts: Vec<String> = counters
        .losses()
        .iter()
        .filter(|(number, _)| *number > 0)
        .map(|(number, what)| format!("{number} {what}"))
        .collect();
    if parts.is_empty() { "nothing".into() } else { parts.join(", ") }
}

/// Prints the probe set, what it cannot see, and the detected networks.
pub fn announce(session: &Session) {
    let (set, reason) = session.set();
    let (probes, unseen) = session.coverage();
    let unseen = match unseen {
        0 => String::new(),
        1 => "; 1 stage cannot be probed here (`overlay-trace doctor` says why)".to_owned(),
        number => format!("; {number} stages cannot be probed here (`overlay-trace doctor` says why)"),
    };
    let reason = reason.map(|reason| format!(" ({reason})")).unwrap_or_default();
    say(&format!("recording with probe set {}{reason}: {probes} probes{unseen}", set.name()));
    let networks = match session.networks() {
        None => {
            "looking for container networks takes too long here: the recording does not name them".to_owned()
        }
        Some([]) => sentence(&[]),
        Some(found) => format!("{}: {}", sentence(found), reasons(found)),
    };
    say(&networks);
}

/// Says that the recording cannot be written any more, and what becomes of the command; the cause follows when the
/// recording ends.
pub fn failed(has_command: bool, keep_going: bool) {
    let command = match (has_command, keep_going) {
        (false, _) => "",
        (true, false) => ": the command is ended with it (--keep-going lets it run on)",
        (true, true) => ": the command runs on unrecorded",
    };
    say(&format!("the recording cannot be written any more{command}"));
}

/// Prints what has been recorded.
pub fn report(summary: &Summary, output: &Path) {
    summary.notes.iter().for_each(|note| say(note));
    let counters = &summary.counters;
    let misses = match counters.probe_misses {
        None => " (this kernel does not count probe misses)".to_owned(),
        Some(_) if counters.are_misses_known() => String::new(),
        Some(_) => format!(" (the kernel does not count the misses of {} probes)", counters.untold_probes),
    };
    say(&format!(
        "{} packets in {:.1} s, {} bytes in {}; lost: {}{misses}",
        counters.finished,
        summary.duration_ns as f64 / 1e9,
        summary.file_bytes,
        output.display(),
        losses(counters),
    ));
    if counters.not_ip > 0 || counters.filtered > 0 {
        let (not_ip, filtered) = (counters.not_ip, counters.filtered);
        say(&format!("not recorded: {not_ip} not IP, {filtered} rejected by the filter"));
    }
    if let Some(why) = counters.distrust() {
        say(&why);
    }
    for (nic, counts) in &summary.nics {
        say(&nics::sentence(nic, counts));
        if let Some(finding) = nics::finding(nic, counts) {
            say(&format!("finding: {finding}"));
        }
    }
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
        assert!(causes.new_causes(&drops(3, "CPU_BACKLOG"), second).is_empty());
        // A firewall rule is intended: it is no finding.
        assert!(causes.new_causes(&drops(900, "NETFILTER_DROP"), 2 * second).is_empty());
        let reported = causes.new_causes(&drops(100, "CPU_BACKLOG"), 3 * second);
        assert_eq!(reported.len(), 1);
        assert!(
            reported[0].contains("100 packets/s") && reported[0].contains("backlog-wait at eth0"),
            "{reported:?}"
        );
        assert!(causes.new_causes(&drops(900, "CPU_BACKLOG"), 4 * second).is_empty());
    }

    #[test]
    fn only_losses_that_have_occurred_are_printed() {
        assert_eq!(losses(&Counters::default()), "nothing");
        let counters = Counters { lost_records: 3, lost_end: 1, ..Counters::default() };
        assert_eq!(losses(&counters), "3 records, 1 missed ends");
    }
}
