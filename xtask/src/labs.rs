//! `docs/src/labs-by-kernel.md`: on which kernels each lab can be built, and why not on the others, as the kernel matrix found it.

use anyhow::Result;

use crate::by_kernel::{Document, Found, Notes, results};

const DOCUMENT: Document = Document {
    file: "docs/src/labs-by-kernel.md",
    heading: "\
# Labs by kernel

Each lab was built on that kernel, and its pods reached each other by ping, TCP and UDP, over each IP version that it
carries. Where a lab cannot be built, the cell says what is missing. `cargo xtask test --all` finds it and fails when it
differs; `cargo xtask test --all --bless` writes it.

",
    rows: "lab",
    note: "carries",
    notes: Notes::Stay,
};
const WORKS: &str = "works";

/// Compares what matrices said with the file, or with `bless` puts it there.
///
/// # Errors
///
/// The file says something else, or cannot be written.
pub fn check(outputs: &[String], kernels: &[&str], bless: bool) -> Result<()> {
    DOCUMENT.check(of_outputs(outputs), kernels, bless)
}

/// From the tests `labs/LAB/TEST`.
fn of_outputs(outputs: &[String]) -> Found {
    let mut labs = Found::default();
    for (kernel, test, result) in results(outputs) {
        let Some((name, test)) = test.strip_prefix("labs/").and_then(|rest| rest.split_once('/')) else {
            continue;
        };
        let lab = labs.row_of(name);
        let lack = result.strip_prefix("skipped: unavailable: ");
        match (test, lack) {
            ("stands", Some(lack)) => drop(lab.by_kernel.insert(kernel.to_owned(), lack.replace('|', "/"))),
            ("reaches", None) => {
                if let Some(families) = result.strip_prefix("passed (") {
                    lab.note = families.trim_end_matches(')').to_owned();
                    lab.by_kernel.insert(kernel.to_owned(), WORKS.to_owned());
                }
            }
            _ => {}
        }
    }
    labs
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{host, vm::kernel::NAMES};

    #[test]
    fn the_file_is_as_it_would_be_written() {
        let text = std::fs::read_to_string(host::workspace().join(DOCUMENT.file)).unwrap();
        assert_eq!(DOCUMENT.text(&Found::of_table(&text), &NAMES), text);
    }

    const OUTPUT: &str = "\
        5.10  labs/host/stands  passed\n\
        5.10  labs/host/reaches  passed (IPv4 and IPv6)\n\
        5.10  labs/ipvlan-l2/stands  skipped: unavailable: this kernel has no ipvlan\n\
        5.10  labs/gre/stands  FAILED: it could not be built\n\
        5.10  host/lab  passed\n";

    fn labs(output: &str) -> Found {
        of_outputs(&[output.to_owned()])
    }

    #[test]
    fn what_is_written_is_read_back() {
        let found = labs(OUTPUT);
        let text = DOCUMENT.text(&found, &["5.10", "6.1"]);
        assert!(text.contains("| host | IPv4 and IPv6 | works | not tested |"), "{text}");
        assert!(text.contains("| ipvlan-l2 |  | this kernel has no ipvlan | not tested |"), "{text}");
        assert_eq!(Found::of_table(&text), found);
        assert!(DOCUMENT.differences(&found, &Found::of_table(&text)).is_empty());
    }

    #[test]
    fn a_change_is_a_difference_and_other_kernels_are_kept() {
        let known = Found::of_table(&DOCUMENT.text(&labs(OUTPUT), &["5.10"]));
        let changed = labs("5.10  labs/host/stands  skipped: unavailable: it has no veth\n");
        let differences = DOCUMENT.differences(&changed, &known);
        assert_eq!(differences.len(), 3, "host differs, two labs are gone");
        assert_eq!(DOCUMENT.on_top_of(changed, labs(OUTPUT)).0[0].note, "IPv4 and IPv6");
        let newer = DOCUMENT.on_top_of(labs(&OUTPUT.replace("5.10  ", "6.1  ")), known);
        assert!(DOCUMENT.text(&newer, &["5.10", "6.1"]).contains("| host | IPv4 and IPv6 | works | works |"));
    }

    #[test]
    fn a_lab_that_failed_does_not_work() {
        assert!(labs(OUTPUT).0[2].by_kernel.is_empty());
    }
}
