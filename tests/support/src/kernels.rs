//! Kernels that are described by files, written by `cargo xtask kernel-fixtures`.

use std::{collections::BTreeSet, fs, path::PathBuf};

/// The kernels that there are descriptions of: those of the kernel matrix.
pub const VERSIONS: [&str; 4] = ["5.10", "6.1", "6.12", "7.2"];

const FOLDER: &str = "crates/probe/tests/fixtures/kernels";

/// The folder of a kernel's files, laid out as its root folder.
pub fn root(version: &str) -> PathBuf {
    crate::workspace().join(FOLDER).join(version)
}

/// The functions of the stage map that a kernel lets fentry be attached to
/// (`/sys/kernel/tracing/available_filter_functions`).
///
/// # Panics
///
/// If there is no such kernel.
pub fn traceable(version: &str) -> BTreeSet<String> {
    let file = root(version).join("sys/kernel/tracing/available_filter_functions");
    let list =
        fs::read_to_string(&file).unwrap_or_else(|error| panic!("cannot read {}: {error}", file.display()));
    list.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect()
}
