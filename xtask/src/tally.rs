//! Counting what passed, failed and was skipped.

use std::{collections::VecDeque, fmt, sync::Mutex, thread};

use anyhow::Result;

use crate::host;

/// A step's name, and what it does.
pub type Step<'a> = (String, Box<dyn FnOnce() -> Result<Tally> + Send + 'a>);

/// The numbers of tests, or of steps that count as one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub passed: u64,
    pub failed: u64,
    pub skipped: u64,
    /// Scenes of the kernel matrix that were recorded again.
    pub recorded_again: u64,
    /// What tests of the kernel matrix have tried again.
    pub retried: u64,
}

impl Tally {
    pub const PASSED: Self = Self { passed: 1, ..Self::NONE };
    const FAILED: Self = Self { failed: 1, ..Self::NONE };
    const NONE: Self = Self { passed: 0, failed: 0, skipped: 0, recorded_again: 0, retried: 0 };

    /// One test that was left out; says why.
    pub fn skipped(why: &str) -> Self {
        host::progress(&format!("skipped ({why})"));
        Self { skipped: 1, ..Self::NONE }
    }

    /// True if something was tested and nothing failed.
    pub fn is_good(&self) -> bool {
        self.failed == 0 && self.passed > 0
    }

    /// The same, with one failure more if the program that counted failed and did not count why.
    pub fn checked(mut self, success: bool) -> Self {
        self.failed += u64::from(!success && self.failed == 0);
        self
    }

    fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
        self.recorded_again += other.recorded_again;
        self.retried += other.retried;
    }

    /// Runs steps, so many of them at once, as [`step`](Self::step) does.
    pub fn steps_at_once(&mut self, at_once: usize, steps: Vec<Step>) {
        let sum = Mutex::new(std::mem::take(self));
        let waiting = Mutex::new(VecDeque::from(steps));
        let next = || waiting.lock().ok()?.pop_front();
        thread::scope(|scope| {
            for _ in 0..at_once {
                scope.spawn(|| {
                    while let Some((name, run)) = next() {
                        let mut own = Self::default();
                        own.step(&name, run);
                        if let Ok(mut sum) = sum.lock() {
                            sum.add(own);
                        }
                    }
                });
            }
        });
        *self = sum.into_inner().unwrap_or(Self::FAILED);
    }

    /// Runs a step, adds what it counted, and tells how it ended; true if nothing in it failed.
    pub fn step(&mut self, name: &str, run: impl FnOnce() -> Result<Self>) -> bool {
        host::progress(&format!("{name} …"));
        let tally = run().unwrap_or_else(|error| {
            host::progress(&format!("{error:#}"));
            Self::FAILED
        });
        host::progress(&format!("{name}: {tally}"));
        self.add(tally);
        tally.failed == 0
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped)?;
        for (count, what) in [(self.recorded_again, "recorded again"), (self.retried, "retried")] {
            if count > 0 {
                write!(formatter, ", {count} {what}")?;
            }
        }
        Ok(())
    }
}

/// The sum of the result lines that `cargo test` prints, one for each of its programs.
pub fn of_cargo(output: &str) -> Tally {
    let mut sum = Tally::default();
    for line in output.lines().filter_map(|line| line.trim_start().strip_prefix("test result: ")) {
        let count = |what: &str| numbers_before(line, what).next().unwrap_or(0);
        let (passed, failed, skipped) = (count("passed"), count("failed"), count("ignored"));
        sum.add(Tally { passed, failed, skipped, ..Tally::NONE });
    }
    sum
}

/// The last line of the form `N passed, N failed, N skipped`, perhaps with `, N recorded again` and `, N retried`.
pub fn last_line(output: &str) -> Option<Tally> {
    output.lines().rev().find_map(|line| {
        let count = |what: &str| numbers_before(line, what).next();
        let tally = Tally {
            passed: count("passed")?,
            failed: count("failed")?,
            skipped: count("skipped")?,
            recorded_again: count("recorded").unwrap_or(0),
            retried: count("retried").unwrap_or(0),
        };
        (line.trim() == tally.to_string()).then_some(tally)
    })
}

fn numbers_before<'a>(line: &'a str, what: &'a str) -> impl Iterator<Item = u64> + 'a {
    let words = line.split([' ', ',', ';', '.']).filter(|word| !word.is_empty());
    words
        .clone()
        .zip(words.skip(1))
        .filter(move |(_, word)| *word == what)
        .filter_map(|(number, _)| number.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_results_of_all_of_cargos_programs_are_added() {
        let output = "test a ... ok\n\
             test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s\n\
             test result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s\n";
        assert_eq!(of_cargo(output), Tally { passed: 15, failed: 2, skipped: 1, ..Tally::NONE });
    }

    #[test]
    fn only_a_whole_line_is_a_result() {
        assert_eq!(
            last_line("6.1 vxlan passed\n7 passed, 1 failed, 2 skipped\r\n").map(|tally| tally.passed),
            Some(7)
        );
        let line = "7 passed, 0 failed, 2 skipped, 3 recorded again, 1 retried";
        let tally = last_line(line).unwrap_or_default();
        assert_eq!((tally.skipped, tally.recorded_again, tally.retried), (2, 3, 1));
        assert_eq!(tally.to_string(), line);
        assert_eq!(last_line("about 7 passed, 1 failed, 2 skipped\n"), None);
    }

    #[test]
    fn of_steps_at_once_each_is_counted() {
        let step = |passes: bool| -> Step {
            let run = move || if passes { Ok(Tally::PASSED) } else { anyhow::bail!("it failed") };
            ("a step".to_owned(), Box::new(run))
        };
        let mut sum = Tally::PASSED;
        sum.steps_at_once(2, vec![step(true), step(false), step(true)]);
        assert_eq!(sum, Tally { passed: 3, failed: 1, ..Tally::NONE });
    }

    #[test]
    fn nothing_tested_is_not_good() {
        assert!(!Tally::default().is_good());
        assert!(Tally::PASSED.is_good());
        assert!(!Tally::PASSED.checked(false).is_good());
    }
}
