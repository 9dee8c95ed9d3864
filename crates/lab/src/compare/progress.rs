//! The progress of a comparison, and an estimate of the remaining time.

use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::say;

/// The initial estimate of the time per lab besides traffic: building, attaching probes, analysis.
const SETUP_ESTIMATE: Duration = Duration::from_secs(8);

/// A progress bar on a terminal, otherwise one line per lab.
pub struct Progress {
    bar: ProgressBar,
    began: Instant,
    /// Labs to measure, and how many of them are done.
    labs: u32,
    done: u32,
    estimate: Duration,
}

impl Progress {
    /// `labs` are to be measured, each with this duration of traffic.
    pub fn new(labs: u32, traffic: Duration) -> Progress {
        let bar = if io::stderr().is_terminal() {
            ProgressBar::new(u64::from(labs))
        } else {
            ProgressBar::hidden()
        };
        let style = ProgressStyle::with_template("{bar:24} {pos}/{len} {wide_msg}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        Progress { bar, began: Instant::now(), labs, done: 0, estimate: traffic + SETUP_ESTIMATE }
    }

    /// The measurement of a lab starts; `begun` labs of its group have started before.
    pub fn lab(&self, name: &str, begun: usize) {
        if self.bar.is_hidden() {
            let number = self.done as usize + begun + 1;
            let line = format!("{name} ({number} of {}, {} left)", self.labs, self.left());
            say(&line);
        } else {
            self.step(name, "starting");
        }
    }

    /// A step of the lab's measurement starts.
    pub fn step(&self, lab: &str, what: &str) {
        self.bar.set_message(format!("{lab}: {what}, {} left", self.left()));
        self.bar.tick();
    }

    /// A lab is done.
    pub fn done(&mut self) {
        self.done += 1;
        self.bar.inc(1);
    }

    /// Prints a message above the bar.
    pub fn say(&self, sentence: &str) {
        self.bar.suspend(|| say(sentence));
    }

    /// The estimate of the remaining time.
    fn left(&self) -> String {
        about(remaining(self.began.elapsed(), self.done, self.labs, self.estimate))
    }

    /// Removes the bar.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

/// Extrapolates from the labs that are done; until one is, from an estimate per lab.
fn remaining(elapsed: Duration, done: u32, labs: u32, estimate: Duration) -> Duration {
    let whole = match done {
        0 => estimate * labs,
        _ => elapsed * labs / done,
    };
    whole.saturating_sub(elapsed)
}

fn about(time: Duration) -> String {
    match time.as_secs() {
        seconds @ 0..60 => format!("about {seconds} s"),
        seconds => format!("about {} min", seconds.div_ceil(60)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_remaining_time_follows_from_the_labs_that_are_done() {
        let seconds = Duration::from_secs;
        assert_eq!(remaining(seconds(0), 0, 10, seconds(20)), seconds(200));
        assert_eq!(remaining(seconds(60), 2, 10, seconds(20)), seconds(240));
        assert_eq!(remaining(seconds(60), 10, 10, seconds(20)), seconds(0));
        assert_eq!((about(seconds(59)), about(seconds(61))), ("about 59 s".into(), "about 2 min".into()));
    }
}
