//! The commands that read recordings need no privilege, and trust nobody who wrote one: what this process was started
//! with is dropped, and what root needs for files of the user who called `sudo` has an effect only while one is opened.

use std::{
    fs::File,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use nix::unistd::geteuid;
use overlay_trace_format::Recording;
use overlay_trace_probe::sys::capabilities::{
    CAP_CHOWN, CAP_DAC_OVERRIDE, Number, keep_only, keep_without_effect, with_effect,
};

/// To open files of other users, and to give new ones to the user who called `sudo`.
const FOR_FILES: [Number; 2] = [CAP_DAC_OVERRIDE, CAP_CHOWN];

/// Drops what this process was started with. Threads are made later, of this one.
///
/// # Errors
///
/// The kernel's.
pub(crate) fn begin() -> Result<()> {
    let kept: &[_] = if geteuid().is_root() { &FOR_FILES } else { &[] };
    keep_without_effect(kept).context("cannot drop the privileges that reading a recording does not need")
}

/// Opens recordings, and drops what is left unless there is an `output` to be created.
///
/// # Errors
///
/// As for [`Recording::open`]; the kernel's.
pub(super) fn open<const N: usize>(files: [&Path; N], output: Option<&PathBuf>) -> Result<[Recording; N]> {
    open_all(&files, output)?.try_into().ok().context("not as many recordings as files")
}

/// As [`open`], of any number.
///
/// # Errors
///
/// Those of [`open`].
pub(super) fn open_all(files: &[&Path], output: Option<&PathBuf>) -> Result<Vec<Recording>> {
    let opened: Vec<_> = with_files(|| files.iter().map(File::open).collect());
    if output.is_none() {
        keep_only(&[]).context("cannot drop the privileges that reading a recording does not need")?;
    }
    files.iter().zip(opened).map(|(file, opened)| Ok(Recording::read(file, opened)?)).collect()
}

/// Finds, opens or creates files with what is left.
pub(super) fn with_files<T>(work: impl FnOnce() -> T) -> T {
    with_effect(&FOR_FILES, work)
}
