//! Writes reports to a file or to standard output.

use std::{
    fs,
    io::{self, ErrorKind, Write},
    os::unix::fs::MetadataExt,
    path::Path,
    process::ExitCode,
};

use anyhow::{Context, Result, anyhow, bail, ensure};

use super::unprivileged::with_files;
use overlay_trace_format::{OutputFile, Readers};

/// Prints to standard output.
///
/// # Errors
///
/// A full disk, or a reader that has gone: who waits for the output must not take a part of it for the whole.
pub(super) fn print(bytes: &[u8]) -> Result<()> {
    let mut stdout = io::stdout().lock();
    printed(stdout.write_all(bytes).and_then(|()| stdout.flush()))
}

/// What came of printing, as [`print`] says it.
///
/// # Errors
///
/// As for [`print`].
pub(crate) fn printed(result: io::Result<()>) -> Result<()> {
    result.map_err(|error| match error.kind() {
        ErrorKind::BrokenPipe => {
            anyhow!("cannot write everything to standard output: its reader has closed it")
        }
        _ => anyhow!("cannot write to standard output: {error}"),
    })
}

/// Prints a line to standard output.
///
/// # Errors
///
/// As for [`print`].
pub(super) fn line(text: &str) -> Result<()> {
    print(format!("{text}\n").as_bytes())
}

/// Writes a report of the files `inputs` to a file, or to standard output.
///
/// # Errors
///
/// It cannot be written, or would replace one of the inputs.
pub(super) fn write(report: &[u8], inputs: &[&Path], file: Option<&Path>, force: bool) -> Result<ExitCode> {
    match file {
        Some(path) => {
            ensure!(
                !with_files(|| is_input(path, inputs)),
                "{} is the recording itself: choose another name for the report",
                path.display()
            );
            write_file(report, path, force)?;
        }
        None => print(report)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Whether the output is one of the inputs, by whatever name.
pub(super) fn is_input(output: &Path, inputs: &[&Path]) -> bool {
    let identity = |path: &Path| fs::metadata(path).map(|file| (file.dev(), file.ino())).ok();
    identity(output).is_some_and(|file| inputs.iter().any(|input| identity(input) == Some(file)))
}

fn write_file(report: &[u8], path: &Path, force: bool) -> Result<()> {
    let cannot = || format!("cannot write the report to {}", path.display());
    let mut output = match with_files(|| OutputFile::create(path, force, Readers::Umask)) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            bail!("{} exists: choose another name, or overwrite it with --force", path.display())
        }
        other => other.with_context(cannot)?,
    };
    if let Err(error) = output.file.write_all(report) {
        // A part of a report must not be taken for the whole.
        output.discard();
        return Err(error).with_context(cannot);
    }
    Ok(())
}
