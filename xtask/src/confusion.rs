//! `docs/src/confusion.md`: which cause `tail` named first of those that the injection suite injected.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

use anyhow::{Context, Result, bail};

use crate::{
    by_kernel::{cells, results},
    host,
};

/// The file, from the workspace's root.
const FILE: &str = "docs/src/confusion.md";
const HEADING: &str = "\
# Injected causes

Each row is a cause that the injection suite (`tests/matrix/tail`) injects in a lab, or a lab without an injected
cause. The load is requests at a constant rate, which varies from run to run. Each column is a cause; a cell says in
how many runs `overlay-trace tail` named it first. *Right* also requires the right device and level; where two causes
are injected, both must be named. Measured under KERNEL with a deterministic clock. Rows that begin with `cases/` are
faults that people reported in public (`tests/matrix/cases`), each brought about several times under varied load in one
recording, with the ordinary clock. Written by `cargo xtask test --all --bless`, or from kept outputs of the suite by
`cargo xtask docs --suite`.

";
const INJECTION: &str = "injected";
const RIGHT: &str = "right, with its place";

/// What was named first of what was injected, in the order in which it was.
#[derive(Debug, Default, PartialEq)]
struct Confusion(Vec<Row>);

#[derive(Debug, PartialEq)]
struct Row {
    injection: String,
    /// In how many runs by cause.
    named: BTreeMap<String, u32>,
    /// Of how many runs how many were right, in words.
    right: String,
}

/// Takes the tables from what the suite said; with `bless` puts them into the file, on top of what it knows of causes
/// that were not injected this time.
///
/// # Errors
///
/// There is no table, or the file cannot be read or written.
pub fn keep(outputs: &[String], kernel: &str, bless: bool) -> Result<()> {
    let mut found = Confusion::default();
    outputs.iter().for_each(|output| found.put(Confusion::of_text(output)));
    if found.0.is_empty() {
        bail!("the injection suite has printed no table");
    }
    let path = host::workspace().join(FILE);
    let known = fs::read_to_string(&path);
    if !bless {
        known.with_context(|| format!("{FILE} is missing: `--bless` writes it"))?;
        return Ok(());
    }
    let known = known.unwrap_or_default();
    let (table, sections) = parts(&known);
    let mut all = Confusion::of_text(table);
    all.put(found);
    let text = all.file(kernel) + sections;
    let state = if host::write_if_changed(&path, text.as_bytes())? { "written" } else { "unchanged" };
    host::progress(&format!("{} {state}", path.display()));
    Ok(())
}

/// The table that is written here, and the sections behind it, which people write.
fn parts(text: &str) -> (&str, &str) {
    text.split_at(text.find("\n## ").unwrap_or(text.len()))
}

/// The kernel that the suite's lines begin with.
///
/// # Errors
///
/// There is none, or there are several: a table is of one kernel.
pub fn kernel_of(outputs: &[String]) -> Result<&str> {
    let of_suite = |test: &str| ["tail/", "cases/"].iter().any(|part| test.starts_with(part));
    let tests = results(outputs).filter(|(_, test, _)| of_suite(test));
    let kernels: BTreeSet<&str> = tests.map(|(kernel, ..)| kernel).collect();
    match kernels.first() {
        Some(kernel) if kernels.len() == 1 => Ok(kernel),
        _ => bail!("these are not the injection suite's outputs of one kernel: {kernels:?}"),
    }
}

impl Confusion {
    /// From the tables in a text.
    fn of_text(text: &str) -> Confusion {
        let mut confusion = Confusion::default();
        let mut causes = Vec::new();
        for line in text.lines().filter_map(|line| cells(line.trim_end())) {
            let [injection, named @ .., right] = line.as_slice() else { continue };
            if *injection == INJECTION {
                causes = named.to_vec();
            } else if !injection.starts_with("---") {
                let count = |(cause, cell): (&&str, &&str)| Some((cause.to_string(), cell.parse().ok()?));
                let named = causes.iter().zip(named).filter_map(count).collect();
                let row = Row { injection: injection.to_string(), named, right: right.to_string() };
                confusion.put(Confusion(vec![row]));
            }
        }
        confusion
    }

    /// Takes newer rows in the place of known ones.
    fn put(&mut self, newer: Confusion) {
        for row in newer.0 {
            match self.0.iter_mut().find(|known| known.injection == row.injection) {
                Some(known) => *known = row,
                None => self.0.push(row),
            }
        }
    }

    /// The whole file.
    fn file(&self, kernel: &str) -> String {
        let causes: BTreeSet<&String> = self.0.iter().flat_map(|row| row.named.keys()).collect();
        let line = |first: &str, cells: Vec<String>, last: &str| {
            let cells: String = cells.iter().map(|cell| format!("{cell} | ")).collect();
            format!("| {first} | {cells}{last} |\n")
        };
        let mut text = HEADING.replace("KERNEL", kernel);
        text += &line(INJECTION, causes.iter().map(|cause| cause.to_string()).collect(), RIGHT);
        text += &format!("|---|{}---|\n", "---|".repeat(causes.len()));
        for row in &self.0 {
            let cell = |cause: &&String| row.named.get(*cause).map_or(String::new(), u32::to_string);
            text += &line(&row.injection, causes.iter().map(cell).collect(), &row.right);
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "\
        6.12  tail/loss  3 requests  right: words\n\
        | injected | batch | nothing | right, with its place |\n\
        |---|---|---|---|\n\
        | clean |  | 20 | 20 of 20 |\n\
        | loss | 1 |  | 0 of 1 |\n";
    const OTHER: &str = "\
        | injected | qdisc | right, with its place |\n\
        |---|---|---|\n\
        | loss | 20 | 19 of 20 |\n";

    #[test]
    fn the_file_is_as_it_would_be_written() {
        let text = fs::read_to_string(host::workspace().join(FILE)).unwrap();
        let kernel = text.split("Measured under ").nth(1).and_then(|rest| rest.split(' ').next()).unwrap();
        let (table, _) = parts(&text);
        assert_eq!(Confusion::of_text(table).file(kernel), table);
    }

    #[test]
    fn sections_behind_the_table_are_kept() {
        let text = format!("{ONE}\n## Others\n\n| injected | x | right |\n");
        assert_eq!(parts(&text), (ONE, "\n## Others\n\n| injected | x | right |\n"));
        assert_eq!(parts(ONE), (ONE, ""));
    }

    #[test]
    fn newer_runs_of_a_cause_take_the_place_of_older_ones() {
        let mut confusion = Confusion::of_text(ONE);
        confusion.put(Confusion::of_text(OTHER));
        let text = confusion.file("6.12");
        assert!(text.contains("| injected | nothing | qdisc | right, with its place |\n|---|---|---|---|\n"));
        assert!(text.ends_with("| clean | 20 |  | 20 of 20 |\n| loss |  | 20 | 19 of 20 |\n"), "{text}");
        assert_eq!(Confusion::of_text(&text), confusion);
    }

    #[test]
    fn a_table_is_of_one_kernel() {
        assert_eq!(kernel_of(&[ONE.to_owned()]).unwrap(), "6.12");
        assert!(kernel_of(&[ONE.to_owned(), ONE.replace("6.12", "7.2")]).is_err());
        assert!(kernel_of(&[OTHER.to_owned()]).is_err());
    }
}
