//! What the tests of several packages share: golden files, and kernels described by files.

pub mod golden;
pub mod kernels;

use std::path::PathBuf;

/// The root folder of the workspace.
pub fn workspace() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..")
}
