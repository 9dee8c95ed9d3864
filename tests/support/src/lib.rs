//! What the tests of several packages share: golden files, kernels described by files,
//! and recordings taken apart.

pub mod chunks;
pub mod fuzz;
pub mod golden;
pub mod kernels;

use std::path::PathBuf;

/// The root folder of the workspace.
pub fn workspace() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..")
}
