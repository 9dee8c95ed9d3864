//! What documents quote from the source: error messages, and bounds that tests hold.
//!
//! - A heading `### `message`` (in backquotes) is an error message. `…` stands for what the program puts there. The
//!   text must be in one of the source's string literals.
//! - A row `| claim | figure | `path` `CONST` |` of a table below a heading of [`BOUNDS`] is a figure that a test
//!   holds: `const CONST` must have that value there. A text says it with `<!-- bound: PATH CONST FIGURE -->`; the path `*` is any
//!   source.

use std::{fs, path::Path};

use anyhow::{Context, Result};

use super::{Document, markdown};

/// The heading above tables of bounds.
const BOUNDS: &str = "What the tests hold";
/// Marks a figure in a text.
const BOUND: &str = "<!-- bound: ";
/// Between the parts of a message there may be so many characters of the source.
const PARTS_APART: usize = 200;

/// A sentence for each quotation that is not in the source.
///
/// # Errors
///
/// The source cannot be read.
pub fn check(documents: &[Document], workspace: &Path) -> Result<Vec<String>> {
    let sources = all(workspace)?;
    let mut failures = Vec::new();
    for document in documents {
        for message in messages(&document.text) {
            if !sources.iter().any(|source| contains(source, message)) {
                failures.push(format!("{}: no source says `{message}`", document.path));
            }
        }
        for (file, name, figure) in bounds(&document.text) {
            let holds = |source: &str| value(source, name).is_some_and(|value| is_same(value, figure));
            let is_held = match file {
                "*" => sources.iter().any(|source| holds(source)),
                file => fs::read_to_string(workspace.join(file)).is_ok_and(|source| holds(&source)),
            };
            if !is_held {
                failures.push(format!("{}: {file} has no `{name}` of {figure}", document.path));
            }
        }
    }
    Ok(failures)
}

/// The texts of all Rust sources.
///
/// # Errors
///
/// One cannot be read.
pub fn all(workspace: &Path) -> Result<Vec<String>> {
    let mut sources = Vec::new();
    for folder in ["crates", "overlay-trace", "overlay-trace-common", "xtask"] {
        read(&workspace.join(folder), &mut sources)?;
    }
    Ok(sources)
}

/// All Rust sources below a folder, with the lines of string literals joined; none if there is no such folder.
fn read(folder: &Path, sources: &mut Vec<String>) -> Result<()> {
    let Ok(entries) = fs::read_dir(folder) else { return Ok(()) };
    for entry in entries {
        let path = entry?.path();
        // This folder's tests and documents quote messages too.
        if path.ends_with("target") || path.ends_with("xtask/src/book") {
            continue;
        }
        if path.is_dir() {
            read(&path, sources)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text =
                fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
            sources.push(joined(&text));
        }
    }
    Ok(())
}

/// Without the line breaks that `\` takes out of string literals.
fn joined(source: &str) -> String {
    let mut out = String::new();
    let mut lines = source.lines();
    while let Some(line) = lines.next() {
        out += line;
        while out.ends_with('\\') {
            out.pop();
            out += lines.next().unwrap_or_default().trim_start();
        }
        out.push('\n');
    }
    out.replace("\\\"", "\"")
}

fn contains(source: &str, message: &str) -> bool {
    let mut parts = message.split('…').map(str::trim).filter(|part| !part.is_empty());
    let Some(first) = parts.next() else { return false };
    let rest: Vec<&str> = parts.collect();
    source.match_indices(first).any(|(at, _)| {
        let mut behind = &source[at + first.len()..];
        rest.iter().all(|part| match behind.find(part) {
            Some(at) if at <= PARTS_APART => {
                behind = &behind[at + part.len()..];
                true
            }
            _ => false,
        })
    })
}

/// The messages that headings of the third order are.
fn messages(text: &str) -> impl Iterator<Item = &str> {
    let headings = markdown::lines(text).filter(|line| line.code.is_none());
    headings.filter_map(|line| {
        let message = line.text.strip_prefix("### ")?.trim();
        message.starts_with('`').then(|| message.trim_matches('`'))
    })
}

/// Files, names and figures of bounds.
fn bounds(text: &str) -> Vec<(&str, &str, &str)> {
    let mut bounds = Vec::new();
    let mut is_table = false;
    for line in markdown::lines(text).filter(|line| line.code.is_none()) {
        if let Some(heading) = line.text.strip_prefix('#') {
            is_table = heading.trim_start_matches('#').trim() == BOUNDS;
        }
        for mark in line.text.split(BOUND).skip(1) {
            let words: Vec<&str> = mark.split(" -->").next().unwrap_or_default().splitn(3, ' ').collect();
            // A mark that is incomplete names no file, and fails.
            let word = |at: usize| words.get(at).copied().unwrap_or_default();
            bounds.push((word(0), word(1), word(2)));
        }
        let Some(cells) = markdown::cells(line.text).filter(|_| is_table) else { continue };
        if let [_, figure, place] = cells[..]
            && let [_, file, _, name, _] = place.split('`').collect::<Vec<_>>()[..]
        {
            bounds.push((file, name, figure));
        }
    }
    bounds
}

/// The value of a constant, or the limit of a benchmark's case.
fn value<'a>(source: &'a str, name: &str) -> Option<&'a str> {
    let line = source.lines().find(|line| line.contains(&format!("const {name}: ")))?;
    line.split_once(" = ")?.1.strip_suffix(';')
}

/// Whether a figure (`15 %`, `1.5`) is a value (`0.15`, `1.5`).
fn is_same(value: &str, figure: &str) -> bool {
    let Ok(value) = value.replace('_', "").parse::<f64>() else { return false };
    let (number, scale) = figure.strip_suffix('%').map_or((figure, 1.0), |number| (number, 100.0));
    number.trim().parse::<f64>().is_ok_and(|number| (number - value * scale).abs() < 1e-9)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str = "bail!(\n    \"the folder {} does not \\\n     exist: say \\\"{what}\\\"\"\n);\n";

    #[test]
    fn a_message_is_found_across_lines_and_with_its_values() {
        let source = joined(SOURCE);
        assert!(contains(&source, "the folder … does not exist: say \"…\""));
        assert!(!contains(&source, "the folder … exists"));
        assert!(!contains(&source, "…"));
        assert_eq!(messages("### `a … b`\n### other\n").collect::<Vec<_>>(), ["a … b"]);
    }

    #[test]
    fn a_bound_is_the_constants_value() {
        let text = "## What the tests hold\n| c | f | w |\n|---|---|---|\n| x | 15 % | `t.rs` `MOST` |\n## b\n\
                    | x | 1 | `t.rs` `MOST` |\nwithin 25 % <!-- bound: u.rs OF 25 % -->\n";
        assert_eq!(bounds(text), [("t.rs", "MOST", "15 %"), ("u.rs", "OF", "25 %")]);
        assert_eq!(value("const MOST: f64 = 0.15;\n", "MOST"), Some("0.15"));
        assert!(is_same("0.15", "15 %") && is_same("0.07", "7 %") && is_same("1.5", "1.5"));
        assert!(!is_same("0.15", "3 %") && !is_same("x", "3 %"));
    }
}
