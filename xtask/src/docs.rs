//! `cargo xtask docs`: writes the generated parts of README.md and the book, checks them, and builds the book; and puts
//! the tables of docs/ together from what kernel matrices said, which may have run on several machines.

use std::{fs, path::PathBuf};

use anyhow::{Context, Result};
use clap::Args;

use crate::{book, build_ebpf, confusion, coverage, labs, vm::kernel::NAMES};

/// `cargo xtask docs [--check]`
#[derive(Args)]
pub struct Docs {
    /// Change nothing; fail if a generated part is out of date
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
    /// Writes the generated parts, checks the documents, and builds the book.
    ///
    /// # Errors
    ///
    /// The kernel programs, the binary or the book do not build, something in a document does not hold, or a matrix's
    /// output cannot be read.
    pub fn run(&self) -> Result<()> {
        if !self.matrix.is_empty() {
            return tables(&self.matrix);
        }
        if !self.suite.is_empty() {
            return confusion(&self.suite);
        }
        build_ebpf::build()?;
        if !self.check {
            book::write()?;
        }
        book::check()
    }
}

fn tables(files: &[PathBuf]) -> Result<()> {
    let outputs = read(files)?;
    coverage::check(&outputs, &NAMES, true)?;
    labs::check(&outputs, &NAMES, true)
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
