//! Where a report goes.

use std::{
    fs,
    io::{self, ErrorKind, Write},
    path::Path,
    process::ExitCode,
};

use anyhow::{Context, Result};

/// Writes a report to a file, or to the standard output. A reader that has seen enough (`| head`) is no
/// error.
pub(super) fn write(report: &[u8], file: Option<&Path>) -> Result<ExitCode> {
    if let Some(path) = file {
        fs::write(path, report).with_context(|| format!("cannot write the report to {}", path.display()))?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut stdout = io::stdout().lock();
    match stdout.write_all(report).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(error).context("cannot write the report to the standard output")
        }
        _ => Ok(ExitCode::SUCCESS),
    }
}
