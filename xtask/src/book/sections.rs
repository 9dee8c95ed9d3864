//! Generated sections: what stands between `<!-- begin: KIND WHAT -->` and `<!-- end -->`.
//!
//! | kind and what | what it becomes |
//! |---|---|
//! | `markdown ARGUMENTS` | what `overlay-trace ARGUMENTS` prints |
//! | `output ARGUMENTS` | the same in a code block, below the command |
//! | `file PATH` | a file of the repository in a code block |
//! | `costs` | the table of what tracing costs, from xtask/bench |
//!
//! `output` and `file` can be cut: ` | from TEXT` begins with the first line that begins with TEXT, ` | to TEXT` ends
//! with the next one that does, ` | before TEXT` ends before it.

use std::{fs, path::Path};

use anyhow::{Context, Result, bail};

use super::Document;
use crate::{bench, host, vm::kernel::NAMES};

const BEGIN: &str = "<!-- begin: ";
const CLOSE: &str = " -->";
const END: &str = "<!-- end -->";
/// What stands for lines that were cut off.
const CUT: &str = "…";

/// The document with its sections as they should be.
///
/// # Errors
///
/// A section has no end, or cannot be generated.
pub fn generate(document: &Document, program: &Path) -> Result<String> {
    replace(&document.text, &|what| section(what, program)).with_context(|| format!("in {}", document.path))
}

fn replace(text: &str, section: &dyn Fn(&str) -> Result<String>) -> Result<String> {
    let mut out = String::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        out += line;
        out.push('\n');
        let Some(what) = line.strip_prefix(BEGIN).and_then(|rest| rest.strip_suffix(CLOSE)) else { continue };
        if !lines.any(|line| line == END) {
            bail!("the section `{what}` has no `{END}`");
        }
        out += section(what).with_context(|| format!("the section `{what}`"))?.trim_end();
        out.push('\n');
        out += END;
        out.push('\n');
    }
    Ok(out)
}

fn section(what: &str, program: &Path) -> Result<String> {
    let mut parts = what.split(" | ");
    let (kind, what) = parts.next().unwrap_or_default().split_once(' ').unwrap_or((what, ""));
    let cuts: Vec<&str> = parts.collect();
    Ok(match kind {
        "markdown" => run(program, what)?,
        "output" => {
            let text = cut(&run(program, what)?, &cuts)?;
            let names: Vec<&str> =
                what.split(' ').map(|word| word.rsplit('/').next().unwrap_or(word)).collect();
            format!("```text\n$ overlay-trace {}\n{text}\n```", names.join(" "))
        }
        "file" => {
            let file = host::workspace().join(what);
            let text =
                fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
            format!("```text\n{}\n```", cut(text.trim_end(), &cuts)?)
        }
        "costs" => bench::cost_table(&NAMES)?,
        _ => bail!("there is no section of the kind {kind}"),
    })
}

fn run(program: &Path, arguments: &str) -> Result<String> {
    let words = shlex::split(arguments).context("the quotes do not match")?;
    host::output(host::command(program).args(words).current_dir(host::workspace()))
}

/// The lines that are wanted of a text.
fn cut(text: &str, cuts: &[&str]) -> Result<String> {
    let lines: Vec<&str> = text.lines().collect();
    let (mut from, mut to) = (0, lines.len());
    for cut in cuts {
        let (verb, mark) = cut.split_once(' ').unwrap_or((cut, ""));
        let after = if verb == "from" { 0 } else { from + 1 };
        let at = lines.iter().skip(after).position(|line| line.starts_with(mark));
        let at = after + at.with_context(|| format!("no line begins with `{mark}`"))?;
        match verb {
            "from" => from = at,
            "to" => to = at + 1,
            "before" => to = at,
            _ => bail!("`{verb}` is no cut: write from, to or before"),
        }
    }
    let mut wanted: Vec<&str> = lines[from..to].to_vec();
    while wanted.last().is_some_and(|line| line.is_empty()) {
        wanted.pop();
    }
    if from > 0 {
        wanted.insert(0, CUT);
    }
    if to < lines.len() {
        wanted.push(CUT);
    }
    Ok(wanted.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_between_the_marks_is_replaced_and_nothing_else() -> Result<()> {
        let generated = |what: &str| Ok(format!("new {what}\n"));
        let text = "# Title\n<!-- begin: markdown stages -->\nold\n<!-- end -->\nend\n";
        let new = replace(text, &generated)?;
        assert_eq!(new, text.replace("old", "new markdown stages"));
        assert_eq!(replace(&new, &generated)?, new);
        assert!(replace("<!-- begin: x -->\nold\n", &generated).is_err());
        Ok(())
    }

    #[test]
    fn a_text_is_cut_at_the_first_lines_that_begin_so() -> Result<()> {
        let text = "a\nb 1\nc\n\nb 2\nd";
        assert_eq!(cut(text, &[])?, text);
        assert_eq!(cut(text, &["from b"])?, "…\nb 1\nc\n\nb 2\nd");
        assert_eq!(cut(text, &["from b", "to b"])?, "…\nb 1\nc\n\nb 2\n…");
        assert_eq!(cut(text, &["before b 2"])?, "a\nb 1\nc\n…");
        assert!(cut(text, &["from x"]).is_err() && cut(text, &["upto a"]).is_err());
        Ok(())
    }
}
