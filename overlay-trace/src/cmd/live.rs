//! What a recording says on the standard error while it runs. A standard error that nobody reads any more
//! must not end it.

use std::{
    io::{IsTerminal, Write, stderr},
    path::Path,
    time::Duration,
};

use crate::{
    probe::{Session, Summary},
    recognise,
    trace::Counters,
};

/// Without a terminal there is a line every so often.
const WITHOUT_TERMINAL: Duration = Duration::from_secs(5);

/// The line that tells how it goes.
pub(super) struct Live {
    terminal: bool,
    /// When the last line was printed, and how many packets there were.
    last: Duration,
    packets: u64,
}

impl Live {
    pub fn new() -> Live {
        Live { terminal: stderr().is_terminal(), last: Duration::ZERO, packets: 0 }
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
    let because = if found.is_empty() { String::new() } else { format!(": {}", recognise::reasons(found)) };
    let _ = writeln!(stderr(), "{}{because}", recognise::sentence(found));
}

/// Says what was recorded.
pub fn report(summary: &Summary, output: &Path) {
    let counters = &summary.counters;
    let misses = if counters.probe_misses.is_none() { " (probe misses are not told here)" } else { "" };
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
    fn only_losses_that_there_are_are_told() {
        assert_eq!(losses(&Counters::default()), "nothing");
        let counters = Counters { lost_records: 3, lost_end: 1, ..Counters::default() };
        assert_eq!(losses(&counters), "3 records, 1 ends not seen");
    }
}
