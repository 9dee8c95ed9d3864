//! `cargo xtask kernel-fixtures`: writes anew what unit tests know of the kernels of the matrix.

use std::{ffi::OsString, path::PathBuf};

use anyhow::{Result, bail};
use clap::Args;

use crate::{
    build_ebpf, host,
    test::matrix_program,
    vm::{self, VmOptions, kernel::NAMES},
};

/// Where the fixtures are, a folder for each kernel.
const FOLDER: &str = "crates/probe/tests/fixtures/kernels";

/// `cargo xtask kernel-fixtures [--kernel VERSION]`
#[derive(Args)]
pub struct KernelFixtures {
    /// These kernels only [default: every one]
    #[arg(long)]
    kernel: Vec<String>,
}

impl KernelFixtures {
    /// Boots each kernel, which describes itself.
    ///
    /// # Errors
    ///
    /// A kernel cannot be had, or does not describe itself rightly.
    pub fn run(&self) -> Result<()> {
        build_ebpf::build()?;
        let chosen: Vec<&str> = self.kernel.iter().map(String::as_str).collect();
        for kernel in if chosen.is_empty() { &NAMES[..] } else { &chosen } {
            let folder = host::workspace().join(FOLDER).join(kernel);
            let options = VmOptions { share: Some(folder.clone()), ..VmOptions::new(kernel) };
            if !vm::run(&options, &command(&folder)?)?.status.success() {
                bail!("{kernel} has not described itself");
            }
            host::progress(&format!("{} written", folder.display()));
        }
        Ok(())
    }
}

fn command(folder: &PathBuf) -> Result<[OsString; 3]> {
    Ok([matrix_program()?.into(), "--describe-kernel".into(), folder.into()])
}
