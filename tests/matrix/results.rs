//! What came of each test, a line each; and what a summary must not hide: skips, and what was tried again.

use std::collections::BTreeMap;

use anyhow::Result;

use crate::expected_skips::ExpectedSkips;

/// What came of a test that did not fail.
pub enum Verdict {
    Passed,
    /// Passed, with a figure worth showing.
    With(String),
    /// Not possible here, and why. It is a failure where the table of expected skips does not have it.
    Skipped(String),
}

/// What came of a test; an error is a failure.
pub type Outcome = Result<Verdict>;

/// Prints results as they come, and counts them.
pub struct Results {
    kernel: String,
    only: Vec<String>,
    expected_skips: ExpectedSkips,
    passed: u32,
    failed: u32,
    skipped: u32,
    /// Scenes that were recorded again, and how often.
    recorded_again: BTreeMap<String, u32>,
    /// One of them without a known reason.
    has_doubted: bool,
    /// Tests that tried something again, and how often.
    retried: BTreeMap<String, u32>,
    /// Tests that ran although the table expects them to be skipped.
    ran: Vec<String>,
}

impl Results {
    /// Results of the running kernel; with `only`, of the tests whose name contains one of these.
    ///
    /// # Errors
    ///
    /// The table of expected skips cannot be read.
    pub fn new(only: Vec<String>) -> Result<Results> {
        let release = overlay_trace_probe::sys::kernel::release();
        // `6.12.107+deb13-amd64` is 6.12.
        let kernel = release.split(['.', '-', '+']).take(2).collect::<Vec<_>>().join(".");
        let expected_skips = ExpectedSkips::of(&kernel)?;
        Ok(Results::with(kernel, only, expected_skips))
    }

    fn with(kernel: String, only: Vec<String>, expected_skips: ExpectedSkips) -> Results {
        Results {
            kernel,
            only,
            expected_skips,
            passed: 0,
            failed: 0,
            skipped: 0,
            recorded_again: BTreeMap::new(),
            has_doubted: false,
            retried: BTreeMap::new(),
            ran: Vec::new(),
        }
    }

    /// The running kernel, as `6.12`.
    pub fn kernel(&self) -> &str {
        &self.kernel
    }

    /// Whether the test is to be run.
    pub fn wants(&self, test: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| test.contains(only))
    }

    /// Takes down a test's outcome, if the test is wanted.
    pub fn add(&mut self, test: &str, outcome: Outcome) {
        if !self.wants(test) {
            return;
        }
        if !matches!(outcome, Ok(Verdict::Skipped(_))) && self.expected_skips.expect(test) {
            self.ran.push(test.to_owned());
        }
        let (count, words) = match outcome {
            Ok(Verdict::Passed) => (&mut self.passed, "passed".to_string()),
            Ok(Verdict::With(figure)) => (&mut self.passed, format!("passed ({figure})")),
            Ok(Verdict::Skipped(why)) => match self.expected_skips.allow(test, &why) {
                Ok(()) => (&mut self.skipped, format!("skipped: {why}")),
                Err(instead) => (&mut self.failed, format!("FAILED: skipped ({why}), where {instead}")),
            },
            Err(error) => (&mut self.failed, format!("FAILED: {error:#}")),
        };
        *count += 1;
        println!("{}  {test}  {}", self.kernel, words.replace('\n', " "));
    }

    /// Whether a scene that failed may be recorded again without a known reason: once in a run.
    pub fn may_doubt(&mut self) -> bool {
        !std::mem::replace(&mut self.has_doubted, true)
    }

    /// Notes that a scene is recorded once more because its recording did not show what it must.
    pub fn note_recorded_again(&mut self, scene: &str) {
        *self.recorded_again.entry(scene.to_owned()).or_default() += 1;
    }

    /// Notes that a test has tried something so many times more than once.
    pub fn note_retries(&mut self, test: &str, times: u32) {
        if times > 0 {
            *self.retried.entry(test.to_owned()).or_default() += times;
        }
    }

    /// What was done again and which skips did not occur, and the last line.
    pub fn print_sum(&self) {
        for line in self.notes() {
            println!("{line}");
        }
        println!("{}", self.sum());
    }

    fn notes(&self) -> Vec<String> {
        let again =
            self.recorded_again.iter().map(|(scene, times)| format!("recorded again, {times}x: {scene}"));
        let retried = self.retried.iter().map(|(test, times)| format!("retried, {times}x: {test}"));
        let ran = self.ran.iter().map(|test| format!("expected to be skipped, and was not: {test}"));
        again.chain(retried).chain(ran).map(|note| format!("{}  {note}", self.kernel)).collect()
    }

    fn sum(&self) -> String {
        let mut sum = format!("{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped);
        let count = |times: &BTreeMap<String, u32>| times.values().sum::<u32>();
        for (count, what) in
            [(count(&self.recorded_again), "recorded again"), (count(&self.retried), "retried")]
        {
            if count > 0 {
                sum.push_str(&format!(", {count} {what}"));
            }
        }
        sum
    }

    /// Whether something was tested and nothing failed.
    pub fn good(&self) -> bool {
        self.failed == 0 && self.passed > 0
    }
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;

    fn results(table: &str) -> Results {
        let expected = ExpectedSkips::parse(&format!("kernels | 6.1\n{table}"), "6.1").unwrap();
        Results::with("6.1".to_owned(), Vec::new(), expected)
    }

    fn skipped(why: &str) -> Outcome {
        Ok(Verdict::Skipped(why.to_owned()))
    }

    #[test]
    fn a_skip_that_is_expected_is_counted_and_another_is_a_failure() {
        let mut results = results("6.1 | labs/weave-*/stands | needs the module\n");
        results.add("labs/host/stands", Ok(Verdict::Passed));
        results.add("labs/weave-sleeve/stands", skipped("needs the module tun"));
        assert_eq!(results.sum(), "1 passed, 0 failed, 1 skipped");
        assert!(results.good());
        // For another reason, and another test.
        results.add("labs/weave-fastdp/stands", skipped("it is Monday"));
        results.add("labs/gre/stands", skipped("needs the module gre"));
        assert_eq!(results.sum(), "1 passed, 2 failed, 1 skipped");
        assert!(!results.good());
    }

    #[test]
    fn a_skip_that_did_not_occur_is_told() {
        let mut results = results("6.1 | rows/full/* | absent\n");
        results.add("rows/full/gro", Ok(Verdict::Passed));
        results.add("rows/full/nat", Err(anyhow!("it never fired")));
        results.add("rows/light/gro", Ok(Verdict::Passed));
        assert_eq!(
            results.notes(),
            [
                "6.1  expected to be skipped, and was not: rows/full/gro",
                "6.1  expected to be skipped, and was not: rows/full/nat"
            ]
        );
    }

    #[test]
    fn what_was_done_again_is_counted_and_named() {
        let mut results = results("");
        results.note_recorded_again("host/full");
        results.note_recorded_again("host/full");
        results.note_retries("labs/wireguard/reaches", 0);
        results.note_retries("labs/ipsec/reaches", 1);
        assert_eq!(results.sum(), "0 passed, 0 failed, 0 skipped, 2 recorded again, 1 retried");
        assert_eq!(
            results.notes(),
            ["6.1  recorded again, 2x: host/full", "6.1  retried, 1x: labs/ipsec/reaches"]
        );
    }
}
