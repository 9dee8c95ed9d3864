//! Golden files: outputs that are compared to the letter.
//!
//! After an intended change: `BLESS=1 cargo test`, then read the difference before it is committed.

use std::{env, fs, path::PathBuf};

/// The environment variable with which golden files are written instead of compared.
pub const BLESS: &str = "BLESS";
/// How many lines are shown around the first that differs.
const CONTEXT: usize = 3;

/// Compares an output with the golden file of this name in `tests/golden`.
///
/// # Panics
///
/// If they differ, or with [`BLESS`] if the file cannot be written.
#[track_caller]
pub fn check(name: &str, output: &[u8]) {
    let path = path(name);
    if env::var_os(BLESS).is_some() {
        let folder = path.parent().expect("a file has a folder");
        fs::create_dir_all(folder)
            .unwrap_or_else(|error| panic!("cannot create {}: {error}", folder.display()));
        fs::write(&path, output).unwrap_or_else(|error| panic!("cannot write {}: {error}", path.display()));
        return;
    }
    let expected = fs::read(&path).unwrap_or_else(|error| {
        panic!("cannot read the golden file {}: {error}; `{BLESS}=1 cargo test` writes it", path.display())
    });
    if let Some(difference) = difference(&expected, output) {
        panic!("{name} differs from its golden file {difference}\n`{BLESS}=1 cargo test` writes it anew");
    }
}

fn path(name: &str) -> PathBuf {
    crate::workspace().join("tests/golden").join(name)
}

/// Where two texts differ first; `None` if they do not.
fn difference(expected: &[u8], output: &[u8]) -> Option<String> {
    if expected == output {
        return None;
    }
    let [expected, output] = [expected, output].map(String::from_utf8_lossy);
    let [old, new]: [Vec<&str>; 2] = [&expected, &output].map(|text| text.split('\n').collect());
    let at = old.iter().zip(&new).take_while(|(old, new)| old == new).count();
    let part = |lines: &[&str]| {
        let end = (at + CONTEXT).min(lines.len());
        lines[at.saturating_sub(CONTEXT).min(end)..end].join("\n")
    };
    Some(format!("from line {} on; expected:\n{}\nbut it is:\n{}", at + 1, part(&old), part(&new)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_texts_do_not_differ() {
        assert_eq!(difference(b"a\nb\n", b"a\nb\n"), None);
    }

    #[test]
    fn the_first_line_that_differs_is_shown() {
        let shown = difference(b"a\nb\nc\n", b"a\nB\nc\n").unwrap();
        assert!(shown.starts_with("from line 2 on; expected:\na\nb\nc\n"), "{shown}");
        assert!(shown.ends_with("but it is:\na\nB\nc\n"), "{shown}");
    }

    #[test]
    fn texts_of_different_lengths_differ() {
        assert!(difference(b"a\n", b"a\nb\n").is_some());
        assert!(difference(b"", b"a").is_some());
        assert!(difference(b"a\n", b"a").is_some());
    }

    #[test]
    #[should_panic(expected = "differs from its golden file")]
    fn another_output_is_a_failure() {
        if env::var_os(BLESS).is_some() {
            panic!("differs from its golden file (not compared: {BLESS} is set)");
        }
        check("report.txt", b"something else");
    }
}
