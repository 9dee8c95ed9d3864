//! `docs/src/coverage.md`: by which kind of probe each stage is seen on each kernel, as the kernel matrix found it.

use anyhow::Result;

use crate::by_kernel::{Document, Found, Notes, results};

const DOCUMENT: Document = Document {
    file: "docs/src/coverage.md",
    heading: "\
# Stages by kernel

The kind of probe by which each stage of the set `full` is entered, with all modules of the stage map loaded. Each
entry was found by attaching the stage's probes on that kernel and by packets that fired them. *light*: the stage is in
the set `light` too. `cargo xtask test --all` finds it and fails when it differs; `cargo xtask test --all --bless`
writes it.

",
    rows: "stage",
    note: "set",
    notes: Notes::Compared("is in or out of the set light"),
};

/// Compares what matrices said with the file, or with `bless` puts it there.
///
/// # Errors
///
/// The file says something else, or cannot be written.
pub fn check(outputs: &[String], kernels: &[&str], bless: bool) -> Result<()> {
    DOCUMENT.check(of_outputs(outputs), kernels, bless)
}

/// From the tests `rows/SET/STAGE`.
fn of_outputs(outputs: &[String]) -> Found {
    let mut stages = Found::default();
    for (kernel, test, result) in results(outputs) {
        if let Some(stage) = test.strip_prefix("rows/light/") {
            stages.row_of(stage).note = "light".to_owned();
        } else if let Some(stage) = test.strip_prefix("rows/full/") {
            let found = found(result).map(|found| (kernel.to_owned(), found.to_owned()));
            stages.row_of(stage).by_kernel.extend(found);
        }
    }
    stages
}

/// What a row's result says: the kinds of probes, or why it is absent; nothing if it failed.
fn found(result: &str) -> Option<&str> {
    let seen = result.strip_prefix("passed (by ").and_then(|rest| rest.split([',', ')']).next());
    seen.or_else(|| result.strip_prefix("skipped: ").filter(|why| why.starts_with("absent: ")))
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
        5.10  host/full/way  passed\n\
        5.10  rows/full/nat  passed (by kprobe)\n\
        5.10  rows/full/gro  passed (by fentry and tp_btf, fired 3 times)\n\
        5.10  rows/full/end-read  skipped: absent: this kernel frees otherwise\n\
        5.10  rows/light/gro  passed (by fentry, fired 1 times)\n";

    fn coverage(output: &str) -> Found {
        of_outputs(&[output.to_owned()])
    }

    #[test]
    fn what_is_written_is_read_back() {
        let found = coverage(OUTPUT);
        assert_eq!(found.0.len(), 3);
        assert_eq!(found.0[1].by_kernel["5.10"], "fentry and tp_btf");
        let text = DOCUMENT.text(&found, &["5.10"]);
        assert!(text.contains("| gro | light | fentry and tp_btf |"), "{text}");
        assert_eq!(Found::of_table(&text), found);
        assert!(DOCUMENT.differences(&found, &Found::of_table(&text)).is_empty());
    }

    #[test]
    fn a_change_is_a_difference_and_other_kernels_are_kept() {
        let known = Found::of_table(&DOCUMENT.text(&coverage(OUTPUT), &["5.10"]));
        let changed = coverage("5.10  rows/full/nat  passed (by fentry, fired 12 times)\n");
        let differences = DOCUMENT.differences(&changed, &known);
        assert_eq!(differences.len(), 3, "nat differs, two stages are gone");
        let newer = DOCUMENT.on_top_of(coverage(&OUTPUT.replace("5.10  ", "6.1  ")), known);
        assert!(DOCUMENT.text(&newer, &["5.10", "6.1"]).contains("| nat |  | kprobe | kprobe |"));
    }

    #[test]
    fn a_stage_that_has_left_the_light_set_is_a_difference() {
        let without = coverage(&OUTPUT.replace("rows/light/gro", "rows/device/gro"));
        assert_eq!(DOCUMENT.differences(&without, &coverage(OUTPUT)).len(), 1);
        assert_eq!(DOCUMENT.on_top_of(without, coverage(OUTPUT)).0[1].note, "");
    }

    #[test]
    fn a_failed_row_is_not_covered() {
        let failed = coverage("6.1  rows/full/nat  FAILED: it never fired\n");
        assert_eq!(failed.0.iter().map(|row| row.by_kernel.len()).collect::<Vec<_>>(), [0]);
    }
}
