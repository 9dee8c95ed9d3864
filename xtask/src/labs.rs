//! `docs/labs.md`: on which kernels each lab can be built, and why not on the others, as the kernel matrix found it.

use std::{collections::BTreeMap, fmt::Write, fs};

use anyhow::{Result, bail};

use crate::host;

/// The file, from the workspace's root.
const FILE: &str = "docs/labs.md";
const HEADING: &str = "\
# The labs on each kernel

Every lab was built on that kernel, and its pods reached each other by ping, TCP and UDP; where there is IPv6, by that
too. What a lab cannot be had without is named where it is missing. Found by `cargo xtask test`, which fails when it
finds something else; `cargo xtask test --all --bless` writes it down.

";
const WORKS: &str = "works";

/// What was found of the labs, in their order.
#[derive(Debug, Default, PartialEq)]
struct Labs(Vec<Lab>);

#[derive(Debug, Default, PartialEq)]
struct Lab {
    name: String,
    /// `IPv4`, or `IPv4 and IPv6`.
    families: String,
    by_kernel: BTreeMap<String, String>,
}

/// Compares what matrices said with the file, or with `bless` puts it there.
///
/// # Errors
///
/// The file says something else, or cannot be read or written.
pub fn check(outputs: &[String], kernels: &[&str], bless: bool) -> Result<()> {
    let found = Labs::of_outputs(outputs);
    if found.0.is_empty() {
        bail!("no kernel has told its labs");
    }
    let path = host::workspace().join(FILE);
    let known = Labs::of_table(&fs::read_to_string(&path).unwrap_or_default());
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
    bail!(
        "{FILE} is not what was found: {}; `cargo xtask test --all --bless` writes it",
        differences.join("; ")
    )
}

impl Labs {
    /// From the lines `KERNEL  labs/LAB/TEST  RESULT` of matrices.
    fn of_outputs(outputs: &[String]) -> Labs {
        let mut labs = Labs::default();
        for line in outputs.iter().flat_map(|output| output.lines()) {
            let fields: Vec<&str> = line.splitn(3, "  ").collect();
            let [kernel, test, result] = fields[..] else { continue };
            let Some((name, test)) = test.strip_prefix("labs/").and_then(|rest| rest.split_once('/')) else {
                continue;
            };
            let lab = labs.lab(name);
            let lack = result.strip_prefix("skipped: unavailable: ");
            match (test, lack) {
                ("stands", Some(lack)) => {
                    drop(lab.by_kernel.insert(kernel.to_owned(), lack.replace('|', "/")))
                }
                ("reaches", None) => {
                    if let Some(families) = result.strip_prefix("passed (") {
                        lab.families = families.trim_end_matches(')').to_owned();
                        lab.by_kernel.insert(kernel.to_owned(), WORKS.to_owned());
                    }
                }
                _ => {}
            }
        }
        labs
    }

    /// From a table that [`table`](Self::table) has written.
    fn of_table(text: &str) -> Labs {
        let cells = |line: &str| -> Option<Vec<String>> {
            let inner = line.strip_prefix('|')?.strip_suffix('|')?;
            Some(inner.split('|').map(|cell| cell.trim().to_owned()).collect())
        };
        let mut lines = text.lines().filter_map(cells);
        let kernels: Vec<String> = lines.next().unwrap_or_default().into_iter().skip(2).collect();
        let lab = |cells: Vec<String>| {
            let by_kernel = kernels.iter().cloned().zip(cells.iter().skip(2).cloned());
            let is_known = |(_, cell): &(String, String)| cell != NOT_TESTED;
            Some(Lab {
                name: cells.first()?.clone(),
                families: cells.get(1)?.clone(),
                by_kernel: by_kernel.filter(is_known).collect(),
            })
        };
        Labs(lines.skip(1).filter_map(lab).collect())
    }

    fn lab(&mut self, name: &str) -> &mut Lab {
        let at = self.0.iter().position(|lab| lab.name == name).unwrap_or_else(|| {
            self.0.push(Lab { name: name.to_owned(), ..Lab::default() });
            self.0.len() - 1
        });
        &mut self.0[at]
    }

    /// What was found, and of kernels that were not tested this time what was known.
    fn on_top_of(mut self, known: Labs) -> Labs {
        for old in known.0 {
            let Some(lab) = self.0.iter_mut().find(|lab| lab.name == old.name) else { continue };
            if lab.families.is_empty() {
                lab.families = old.families;
            }
            for (kernel, cell) in old.by_kernel {
                lab.by_kernel.entry(kernel).or_insert(cell);
            }
        }
        self
    }

    /// Where what is known is not what was found, in words.
    fn differences(&self, known: &Labs) -> Vec<String> {
        let old = |name: &str| known.0.iter().find(|lab| lab.name == name);
        let mut differences = Vec::new();
        for lab in &self.0 {
            for (kernel, found) in &lab.by_kernel {
                let told = old(&lab.name).and_then(|old| old.by_kernel.get(kernel)).map(String::as_str);
                if told != Some(found) {
                    let told = told.unwrap_or("nothing");
                    differences.push(format!("{} on {kernel}: {found}, where it says {told}", lab.name));
                }
            }
        }
        let gone = known.0.iter().filter(|old| !self.0.iter().any(|lab| lab.name == old.name));
        differences.extend(gone.map(|old| format!("there is no lab {}", old.name)));
        differences
    }

    fn table(&self, kernels: &[&str]) -> String {
        let mut text = HEADING.to_owned();
        let _ = writeln!(text, "| lab | carries | {} |", kernels.join(" | "));
        let _ = writeln!(text, "|---|---|{}", "---|".repeat(kernels.len()));
        for lab in &self.0 {
            let cell = |kernel: &&str| lab.by_kernel.get(*kernel).map_or(NOT_TESTED, String::as_str);
            let cells: Vec<&str> = kernels.iter().map(cell).collect();
            let _ = writeln!(text, "| {} | {} | {} |", lab.name, lab.families, cells.join(" | "));
        }
        text
    }
}

const NOT_TESTED: &str = "not tested";

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "\
        5.10  labs/host/stands  passed\n\
        5.10  labs/host/reaches  passed (IPv4 and IPv6)\n\
        5.10  labs/ipvlan-l2/stands  skipped: unavailable: this kernel has no ipvlan\n\
        5.10  labs/gre/stands  FAILED: it could not be built\n\
        5.10  host/lab  passed\n";

    fn labs(output: &str) -> Labs {
        Labs::of_outputs(&[output.to_owned()])
    }

    #[test]
    fn what_is_written_is_read_back() {
        let found = labs(OUTPUT);
        let text = found.table(&["5.10", "6.1"]);
        assert!(text.contains("| host | IPv4 and IPv6 | works | not tested |"), "{text}");
        assert!(text.contains("| ipvlan-l2 |  | this kernel has no ipvlan | not tested |"), "{text}");
        assert_eq!(Labs::of_table(&text), found);
        assert!(found.differences(&Labs::of_table(&text)).is_empty());
    }

    #[test]
    fn a_change_is_a_difference_and_other_kernels_are_kept() {
        let known = Labs::of_table(&labs(OUTPUT).table(&["5.10"]));
        let changed = labs("5.10  labs/host/stands  skipped: unavailable: it has no veth\n");
        assert_eq!(changed.differences(&known).len(), 3, "host differs, two labs are gone");
        let newer = labs(&OUTPUT.replace("5.10  ", "6.1  ")).on_top_of(known);
        assert!(newer.table(&["5.10", "6.1"]).contains("| host | IPv4 and IPv6 | works | works |"));
    }

    #[test]
    fn a_lab_that_failed_does_not_work() {
        assert!(labs(OUTPUT).0[2].by_kernel.is_empty());
    }
}
