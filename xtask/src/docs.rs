//! `cargo xtask docs`: puts the generated stage table into README.md, or checks that it is there; and the tables of
//! docs/ together from what kernel matrices said, which may have run on several machines.

use std::{fs, path::PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::{build_ebpf, confusion, coverage, host, labs, test::KERNELS};

const BEGIN: &str = "<!-- stages:begin -->";
const END: &str = "<!-- stages:end -->";

/// `cargo xtask docs [--check]`
#[derive(Args)]
pub struct Docs {
    /// Change nothing; fail if README.md's table is not the stage map's
    #[arg(long)]
    check: bool,
    /// Instead, write down in docs/ what kernel matrices found; the files hold what they printed
    #[arg(long, value_name = "FILE", num_args = 1.., conflicts_with = "check")]
    matrix: Vec<PathBuf>,
    /// Instead, write down in docs/ what the injection suite found; the files hold what it printed under one kernel
    #[arg(long, value_name = "FILE", num_args = 1.., conflicts_with_all = ["check", "matrix"])]
    suite: Vec<PathBuf>,
}

impl Docs {
    /// Writes or checks the table.
    ///
    /// # Errors
    ///
    /// The kernel programs or the binary do not build, README.md has no place for the table, `--check` finds another
    /// table there, or a matrix's output cannot be read.
    pub fn run(&self) -> Result<()> {
        if !self.matrix.is_empty() {
            return tables(&self.matrix);
        }
        if !self.suite.is_empty() {
            return confusion(&self.suite);
        }
        build_ebpf::build()?;
        if self.check { check() } else { write() }
    }
}

fn tables(files: &[PathBuf]) -> Result<()> {
    let outputs = read(files)?;
    coverage::check(&outputs, KERNELS, true)?;
    labs::check(&outputs, KERNELS, true)
}

fn confusion(files: &[PathBuf]) -> Result<()> {
    let outputs = read(files)?;
    confusion::keep(&outputs, confusion::kernel_of(&outputs)?, true)
}

fn read(files: &[PathBuf]) -> Result<Vec<String>> {
    let read =
        |file: &PathBuf| fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()));
    files.iter().map(read).collect()
}

/// Fails if README.md's table is not the stage map's.
///
/// # Errors
///
/// That, or there is no place for the table, or the binary does not build.
pub fn check() -> Result<()> {
    let (old, new) = texts()?;
    if old != new {
        bail!("README.md's stage table is not that of the stage map: run `cargo xtask docs`");
    }
    Ok(())
}

fn write() -> Result<()> {
    let (_, new) = texts()?;
    let readme = host::workspace().join("README.md");
    let state = if host::write_if_changed(&readme, new.as_bytes())? { "written" } else { "unchanged" };
    host::progress(&format!("{} {state}", readme.display()));
    Ok(())
}

/// README.md as it is and as it should be.
fn texts() -> Result<(String, String)> {
    let readme = host::workspace().join("README.md");
    let old = fs::read_to_string(&readme).with_context(|| format!("cannot read {}", readme.display()))?;
    let program = host::build_binaries()?.join("overlay-trace");
    let table = host::output(host::command(program).args(["stages", "--format", "markdown"]))?;
    let new = insert(&old, &table)?;
    Ok((old, new))
}

fn insert(text: &str, table: &str) -> Result<String> {
    let parts = || {
        let (before, rest) = text.split_once(BEGIN)?;
        let (_, after) = rest.split_once(END)?;
        Some((before, after))
    };
    let (before, after) = parts()
        .with_context(|| format!("README.md needs the lines {BEGIN} and {END} around the stage table"))?;
    Ok(format!("{before}{BEGIN}\n{}\n{END}{after}", table.trim_end()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_replaces_what_is_between_the_markers_and_nothing_else() -> Result<()> {
        let readme = format!("# Title\n{BEGIN}\nold\n{END}\nend\n");
        let new = insert(&readme, "| a |\n| b |\n")?;
        assert_eq!(new, format!("# Title\n{BEGIN}\n| a |\n| b |\n{END}\nend\n"));
        assert_eq!(insert(&new, "| a |\n| b |\n")?, new);
        Ok(())
    }

    #[test]
    fn a_missing_marker_is_an_error() {
        assert!(insert(BEGIN, "table").is_err());
        assert!(insert(&format!("{END} {BEGIN}"), "table").is_err());
    }
}
