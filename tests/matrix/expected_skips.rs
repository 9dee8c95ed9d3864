//! `tests/expected-skips.txt`: which tests cannot be run under which kernel, and why.

use anyhow::{Result, bail, ensure};

const TABLE: &str = include_str!("../expected-skips.txt");

/// The expected skips of one kernel.
pub struct ExpectedSkips {
    /// Whether the table is of this kernel; under others everything may be skipped.
    is_strict: bool,
    rows: Vec<Row>,
}

struct Row {
    test: String,
    /// What the reason contains.
    reason: String,
}

impl ExpectedSkips {
    /// Those of a kernel, `6.12`.
    ///
    /// # Errors
    ///
    /// If the table has a line that is no row.
    pub fn of(kernel: &str) -> Result<ExpectedSkips> {
        ExpectedSkips::parse(TABLE, kernel)
    }

    /// Reads a table: a line `kernels | KERNELS` with those that it is of, lines `KERNELS | TEST | REASON`, and
    /// comments after `#`.
    pub fn parse(table: &str, kernel: &str) -> Result<ExpectedSkips> {
        let mut expected = ExpectedSkips { is_strict: false, rows: Vec::new() };
        for line in table.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty()) {
            let fields: Vec<&str> = line.split('|').map(str::trim).collect();
            if let ["kernels", kernels] = fields[..] {
                expected.is_strict = has(kernels, kernel);
                continue;
            }
            let [kernels, test, reason] = fields[..] else {
                bail!("expected-skips.txt: `{line}` is not `KERNELS | TEST | REASON`");
            };
            ensure!(!reason.is_empty(), "expected-skips.txt: {test} has no reason");
            ensure!(test.matches('*').count() <= 1, "expected-skips.txt: {test} has more than one `*`");
            if has(kernels, kernel) {
                expected.rows.push(Row { test: test.to_owned(), reason: reason.to_owned() });
            }
        }
        Ok(expected)
    }

    /// Whether the test is expected to be skipped, for whatever reason.
    pub fn expect(&self, test: &str) -> bool {
        self.rows.iter().any(|row| row.is_of(test))
    }

    /// Whether the test may be skipped for this reason; if not, what is expected.
    pub fn allow(&self, test: &str, why: &str) -> Result<(), String> {
        let mut expected = self.rows.iter().filter(|row| row.is_of(test)).peekable();
        if !self.is_strict || expected.clone().any(|row| why.contains(&row.reason)) {
            return Ok(());
        }
        Err(match expected.peek() {
            Some(row) => format!("tests/expected-skips.txt expects the reason `{}`", row.reason),
            None => "tests/expected-skips.txt expects no skip".to_owned(),
        })
    }
}

fn has(kernels: &str, kernel: &str) -> bool {
    kernels.split(' ').any(|one| one == kernel)
}

impl Row {
    /// Whether the row is of this test: `*` stands for any text.
    fn is_of(&self, test: &str) -> bool {
        match self.test.split_once('*') {
            None => self.test == test,
            Some((before, after)) => {
                let rest = test.strip_prefix(before).and_then(|rest| rest.strip_suffix(after));
                rest.is_some()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_can_be_read() {
        assert!(ExpectedSkips::of("6.12").unwrap().is_strict);
        assert!(ExpectedSkips::parse("6.1 | host/full\n", "6.1").is_err());
        assert!(ExpectedSkips::parse("6.1 | host/full | \n", "6.1").is_err());
    }

    #[test]
    fn a_row_counts_for_its_kernels_tests_and_reason() {
        let table = "# comment\nkernels | 5.10 6.1\n5.10 6.1 | labs/cilium-*/stands | needs 6.\n6.1 | rows/points | one CPU\n";
        let expected = ExpectedSkips::parse(table, "5.10").unwrap();
        assert!(expected.expect("labs/cilium-vxlan/stands"));
        assert!(!expected.expect("labs/cilium-vxlan/reaches") && !expected.expect("rows/points"));
        assert_eq!(expected.allow("labs/cilium-vxlan/stands", "it needs 6.6"), Ok(()));
        assert!(expected.allow("labs/cilium-vxlan/stands", "no memory").unwrap_err().contains("`needs 6.`"));
        assert!(expected.allow("rows/points", "one CPU").unwrap_err().contains("expects no skip"));
    }

    #[test]
    fn kernels_that_are_not_in_the_table_may_skip() {
        let expected =
            ExpectedSkips::parse("kernels | 5.10\n5.10 | rows/points | one CPU\n", "6.99").unwrap();
        assert_eq!(expected.allow("host/full/record", "anything"), Ok(()));
    }
}
