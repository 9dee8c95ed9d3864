//! `docs/confusion.md`: which cause `tail` named first of those that the injection suite brought about.

use std::fs;

use anyhow::{Context, Result, bail};

use crate::host;

/// The file, from the workspace's root.
const FILE: &str = "docs/confusion.md";
const HEADING: &str = "\
# What `tail` says of causes that are brought about on purpose

Each row is a cause that the injection suite (`tests/matrix/tail`) brings about in a lab, under requests at a
constant rate that varies from run to run, or a lab left as it is; the columns are the cause that
`overlay-trace tail` named first, in how many runs. *Right* is also at the right device and level; where two
causes are brought about, both are named. Measured under KERNEL with the deterministic clock; written by
`cargo xtask test --all --bless`.

";

/// Takes the table from what the suite said; puts it into the file with `bless`.
///
/// # Errors
///
/// There is no table, or the file cannot be written.
pub fn keep(output: &str, kernel: &str, bless: bool) -> Result<()> {
    let table: Vec<&str> = output.lines().map(str::trim_end).filter(|line| line.starts_with('|')).collect();
    if table.len() < 3 {
        bail!("the injection suite has printed no table");
    }
    let path = host::workspace().join(FILE);
    if !bless {
        fs::metadata(&path).with_context(|| format!("{FILE} is missing: `--bless` writes it"))?;
        return Ok(());
    }
    let text = format!("{}{}\n", HEADING.replace("KERNEL", kernel), table.join("\n"));
    let state = if host::write_if_changed(&path, text.as_bytes())? { "written" } else { "unchanged" };
    host::progress(&format!("{} {state}", path.display()));
    Ok(())
}
