//! Kernels that are described by files, written by `cargo xtask kernel-fixtures`.

use std::{collections::BTreeSet, fs, path::PathBuf};

/// The kernels that there are descriptions of: those of the kernel matrix.
pub const VERSIONS: [&str; 4] = ["5.10", "6.1", "6.12", "7.2"];

const FOLDER: &str = "crates/probe/tests/fixtures/kernels";

/// The folder of a kernel's files, laid out as its root folder.
pub fn root(version: &str) -> PathBuf {
    crate::workspace().join(FOLDER).join(version)
}

/// What a kernel lets fentry and fexit be attached to.
pub struct Traceable {
    functions: BTreeSet<String>,
    pointers_to_pointers: bool,
}

impl Traceable {
    /// Whether it accepts programs at this function's entry and exit. `is_indirect`: they read an argument of the
    /// type `struct sk_buff **`.
    pub fn accepts(&self, function: &str, is_indirect: bool) -> bool {
        self.functions.contains(function) && (self.pointers_to_pointers || !is_indirect)
    }
}

/// The functions of the stage map that a kernel lets fentry be attached to
/// (`/sys/kernel/tracing/available_filter_functions`).
///
/// # Panics
///
/// If there is no such kernel.
pub fn traceable(version: &str) -> Traceable {
    let file = root(version).join("sys/kernel/tracing/available_filter_functions");
    let list =
        fs::read_to_string(&file).unwrap_or_else(|error| panic!("cannot read {}: {error}", file.display()));
    Traceable {
        functions: list.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect(),
        // The verifiers of these refuse them (`vlan_do_receive`).
        pointers_to_pointers: !["5.10", "6.1", "6.12"].contains(&version),
    }
}
