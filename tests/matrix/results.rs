//! What came of each test, a line each.

use anyhow::Result;

/// What came of a test that did not fail.
pub enum Verdict {
    Passed,
    /// Passed, with a figure worth showing.
    With(String),
    /// Not possible here, and why.
    Skipped(String),
}

/// What came of a test; an error is a failure.
pub type Outcome = Result<Verdict>;

/// Prints results as they come, and counts them.
pub struct Results {
    kernel: String,
    only: Vec<String>,
    passed: u32,
    failed: u32,
    skipped: u32,
}

impl Results {
    /// Results of the running kernel; with `only`, of the tests whose name contains one of these.
    pub fn new(only: Vec<String>) -> Results {
        let release = overlay_trace_probe::sys::kernel::release();
        // `6.12.107+deb13-amd64` is 6.12.
        let kernel = release.split(['.', '-', '+']).take(2).collect::<Vec<_>>().join(".");
        Results { kernel, only, passed: 0, failed: 0, skipped: 0 }
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
        let (count, words) = match outcome {
            Ok(Verdict::Passed) => (&mut self.passed, "passed".to_string()),
            Ok(Verdict::With(figure)) => (&mut self.passed, format!("passed ({figure})")),
            Ok(Verdict::Skipped(why)) => (&mut self.skipped, format!("skipped: {why}")),
            Err(error) => (&mut self.failed, format!("FAILED: {error:#}")),
        };
        *count += 1;
        println!("{}  {test}  {}", self.kernel, words.replace('\n', " "));
    }

    /// The last line.
    pub fn print_sum(&self) {
        println!("{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped);
    }

    /// Whether something was tested and nothing failed.
    pub fn good(&self) -> bool {
        self.failed == 0 && self.passed > 0
    }
}
