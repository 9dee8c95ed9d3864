//! `docs/coverage.md`: by which kind of probe each stage is seen on each kernel, as the kernel matrix found it.

use std::{collections::BTreeMap, fmt::Write, fs};

use anyhow::{Result, bail};

use crate::host;

/// The file, from the workspace's root.
const FILE: &str = "docs/coverage.md";
const HEADING: &str = "\
# The stages on each kernel

By which kind of probe each stage of the set `full` is entered, with all modules of the stage map loaded.
Every entry was found by attaching the stage's probes on that kernel and by packets that fired them. *light*:
the stage is of the set `light` too. Found by `cargo xtask test`, which fails when it finds something else;
`cargo xtask test --bless` writes it down.

";

/// Rows of the stage map in their order: name, whether the light set has it, what was found by kernel.
#[derive(Debug, Default, PartialEq)]
struct Coverage(Vec<Row>);

#[derive(Debug, Default, PartialEq)]
struct Row {
    stage: String,
    light: bool,
    by_kernel: BTreeMap<String, String>,
}

/// Compares what matrices said with the file, or with `bless` puts it there.
///
/// # Errors
///
/// The file says something else, or cannot be read or written.
pub fn check(outputs: &[String], kernels: &[&str], bless: bool) -> Result<()> {
    let found = Coverage::of_outputs(outputs);
    if found.0.iter().all(|row| row.by_kernel.is_empty()) {
        bail!("no kernel has told its rows");
    }
    let path = host::workspace().join(FILE);
    let known = Coverage::of_table(&fs::read_to_string(&path).unwrap_or_default());
    if bless {
        let text = found.on_top_of(known).table(kernels);
        let state = if host::write_if_changed(&path, text.as_bytes())? { "written" } else { "unchanged" };
        host::progress(&format!("{} {state}", path.display()));
        return Ok(());
    }
    let differences = found.differences(&known);
    if differences.is_empty() {
        return Ok(());
    }
    bail!("{FILE} is not what was found: {}; `cargo xtask test --bless` writes it", differences.join("; "))
}

impl Coverage {
    /// From the lines `KERNEL  rows/SET/STAGE  RESULT` of matrices.
    fn of_outputs(outputs: &[String]) -> Coverage {
        let mut coverage = Coverage::default();
        for line in outputs.iter().flat_map(|output| output.lines()) {
            let mut fields = line.splitn(3, "  ");
            let (Some(kernel), Some(test), Some(result)) = (fields.next(), fields.next(), fields.next())
            else {
                continue;
            };
            if let Some(stage) = test.strip_prefix("rows/light/") {
                coverage.row(stage).light = true;
            } else if let Some(stage) = test.strip_prefix("rows/full/") {
                let found = found(result).map(|found| (kernel.to_owned(), found.to_owned()));
                coverage.row(stage).by_kernel.extend(found);
            }
        }
        coverage
    }

    /// From a table that [`table`](Self::table) has written.
    fn of_table(text: &str) -> Coverage {
        let mut lines = text.lines().filter_map(cells);
        let kernels: Vec<&str> = lines.next().unwrap_or_default().into_iter().skip(2).collect();
        let row = |cells: Vec<&str>| {
            let by_kernel = kernels.iter().zip(cells.iter().skip(2));
            Some(Row {
                stage: (*cells.first()?).to_owned(),
                light: *cells.get(1)? == "light",
                by_kernel: by_kernel.map(|(kernel, cell)| (kernel.to_string(), cell.to_string())).collect(),
            })
        };
        Coverage(lines.skip(1).filter_map(row).collect())
    }

    fn row(&mut self, stage: &str) -> &mut Row {
        let at = self.0.iter().position(|row| row.stage == stage).unwrap_or_else(|| {
            self.0.push(Row { stage: stage.to_owned(), ..Row::default() });
            self.0.len() - 1
        });
        &mut self.0[at]
    }

    /// What was found, and of kernels that were not tested this time what was known.
    fn on_top_of(mut self, known: Coverage) -> Coverage {
        for old in known.0 {
            if let Some(row) = self.0.iter_mut().find(|row| row.stage == old.stage) {
                for (kernel, cell) in old.by_kernel {
                    row.by_kernel.entry(kernel).or_insert(cell);
                }
            }
        }
        self
    }

    /// Where what is known is not what was found, in words.
    fn differences(&self, known: &Coverage) -> Vec<String> {
        let old = |stage: &str| known.0.iter().find(|row| row.stage == stage);
        let mut differences: Vec<String> = Vec::new();
        for row in &self.0 {
            for (kernel, found) in &row.by_kernel {
                let told = old(&row.stage).and_then(|old| old.by_kernel.get(kernel)).map(String::as_str);
                if told != Some(found) {
                    let told = told.unwrap_or("nothing");
                    differences.push(format!("{} on {kernel} is seen by {found}, not {told}", row.stage));
                }
            }
            if old(&row.stage).is_some_and(|old| old.light != row.light) {
                differences.push(format!("{} is in or out of the set light", row.stage));
            }
        }
        let gone = known.0.iter().filter(|old| !self.0.iter().any(|row| row.stage == old.stage));
        differences.extend(gone.map(|old| format!("there is no stage {}", old.stage)));
        differences
    }

    fn table(&self, kernels: &[&str]) -> String {
        let mut text = HEADING.to_owned();
        let _ = writeln!(text, "| stage | set | {} |", kernels.join(" | "));
        let _ = writeln!(text, "|---|---|{}", "---|".repeat(kernels.len()));
        for row in &self.0 {
            let cell = |kernel: &&str| row.by_kernel.get(*kernel).map_or("not tested", String::as_str);
            let cells: Vec<&str> = kernels.iter().map(cell).collect();
            let light = if row.light { "light" } else { "" };
            let _ = writeln!(text, "| {} | {light} | {} |", row.stage, cells.join(" | "));
        }
        text
    }
}

/// What a row's result says: the kinds of probes, or why it is absent; nothing if it failed.
fn found(result: &str) -> Option<&str> {
    let seen = result.strip_prefix("passed (by ").and_then(|rest| rest.split([',', ')']).next());
    seen.or_else(|| result.strip_prefix("skipped: ").filter(|why| why.starts_with("absent: ")))
}

fn cells(line: &str) -> Option<Vec<&str>> {
    Some(line.strip_prefix('|')?.strip_suffix('|')?.split('|').map(str::trim).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "\
        5.10  host/full/way  passed\n\
        5.10  rows/full/nat  passed (by kprobe)\n\
        5.10  rows/full/gro  passed (by fentry and tp_btf, fired 3 times)\n\
        5.10  rows/full/end-read  skipped: absent: this kernel frees otherwise\n\
        5.10  rows/light/gro  passed (by fentry, fired 1 times)\n";

    fn coverage(output: &str) -> Coverage {
        Coverage::of_outputs(&[output.to_owned()])
    }

    #[test]
    fn what_is_written_is_read_back() {
        let found = coverage(OUTPUT);
        assert_eq!(found.0.len(), 3);
        assert_eq!(found.0[1].by_kernel["5.10"], "fentry and tp_btf");
        let text = found.table(&["5.10"]);
        assert!(text.contains("| gro | light | fentry and tp_btf |"), "{text}");
        assert_eq!(Coverage::of_table(&text), found);
        assert!(found.differences(&Coverage::of_table(&text)).is_empty());
    }

    #[test]
    fn a_change_is_a_difference_and_other_kernels_are_kept() {
        let known = Coverage::of_table(&coverage(OUTPUT).table(&["5.10"]));
        let changed = coverage("5.10  rows/full/nat  passed (by fentry, fired 12 times)\n");
        assert_eq!(changed.differences(&known).len(), 3, "nat differs, two stages are gone");
        let newer = coverage(&OUTPUT.replace("5.10  ", "6.1  ")).on_top_of(known);
        assert!(newer.table(&["5.10", "6.1"]).contains("| nat |  | kprobe | kprobe |"));
    }

    #[test]
    fn a_failed_row_is_not_covered() {
        let failed = coverage("6.1  rows/full/nat  FAILED: it never fired\n");
        assert_eq!(failed.0.iter().map(|row| row.by_kernel.len()).collect::<Vec<_>>(), [0]);
    }
}
