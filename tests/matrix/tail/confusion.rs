//! What was named first of what was injected, as a table.

use std::collections::{BTreeMap, BTreeSet};

/// What `tail` says when nothing is the matter.
const NOTHING: &str = "nothing";

/// Runs by what was injected.
#[derive(Default)]
pub struct Confusion {
    /// By injection: how often which cause was named first, and how many runs were right.
    rows: Vec<(&'static str, BTreeMap<&'static str, u32>, u32)>,
}

impl Confusion {
    /// Notes a run: the causes that were named, and whether they were the right ones.
    pub fn add(&mut self, injection: &'static str, causes: &[&'static str], right: bool) {
        let at = match self.rows.iter().position(|row| row.0 == injection) {
            Some(at) => at,
            None => {
                self.rows.push((injection, BTreeMap::new(), 0));
                self.rows.len() - 1
            }
        };
        let (_, named, all_right) = &mut self.rows[at];
        *named.entry(causes.first().copied().unwrap_or(NOTHING)).or_default() += 1;
        *all_right += u32::from(right);
    }

    /// The runs of an injection, and how many of them were right.
    pub fn runs(&self, injection: &str) -> (u32, u32) {
        let row = self.rows.iter().find(|row| row.0 == injection);
        row.map_or((0, 0), |(_, named, right)| (named.values().sum(), *right))
    }

    /// The table in Markdown: a row per injection, a column per cause that was named.
    pub fn table(&self) -> String {
        let causes: BTreeSet<&str> = self.rows.iter().flat_map(|row| row.1.keys().copied()).collect();
        let mut lines = vec![
            format!(
                "| injected | {} | right, with its place |",
                join(causes.iter().map(|cause| cause.to_string()))
            ),
            format!("|---|{}---|", "---|".repeat(causes.len())),
        ];
        for (injection, named, right) in &self.rows {
            let runs: u32 = named.values().sum();
            let cell = |cause: &&str| named.get(cause).map_or(String::new(), u32::to_string);
            lines.push(format!("| {injection} | {} | {right} of {runs} |", join(causes.iter().map(cell))));
        }
        lines.join("\n")
    }
}

fn join(cells: impl Iterator<Item = String>) -> String {
    cells.collect::<Vec<_>>().join(" | ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_a_row_per_injection_and_a_column_per_cause() {
        let mut confusion = Confusion::default();
        confusion.add("clean", &[], true);
        confusion.add("loss", &["qdisc", "batch"], true);
        confusion.add("loss", &["batch"], false);
        assert_eq!(confusion.runs("loss"), (2, 1));
        let table = confusion.table();
        let lines: Vec<&str> = table.lines().collect();
        assert_eq!(lines[0], "| injected | batch | nothing | qdisc | right, with its place |");
        assert_eq!(lines[3], "| loss | 1 |  | 1 | 1 of 2 |");
    }
}
