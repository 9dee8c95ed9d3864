//! Writes reports to a file or to standard output.

use std::{
    io::{self, ErrorKind, Write},
    path::Path,
    process::ExitCode,
};

use anyhow::{Context, Result, bail};

use overlay_trace_format::open_output;

/// Prints a line. A closed pipe is no error.
pub(super) fn line(text: &str) {
    let _ = writeln!(io::stdout(), "{text}");
}

/// Writes a report to a file, or to standard output. A closed pipe (`| head`) is no error.
pub(super) fn write(report: &[u8], file: Option<&Path>, force: bool) -> Result<ExitCode> {
    if let Some(path) = file {
        write_file(report, path, force)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut stdout = io::stdout().lock();
    match stdout.write_all(report).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(error).context("cannot write the report to standard output")
        }
        _ => Ok(ExitCode::SUCCESS),
    }
}

fn write_file(report: &[u8], path: &Path, force: bool) -> Result<()> {
    match open_output(path, force).and_then(|mut file| file.write_all(report)) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            bail!("{} exists: choose another name, or overwrite it with --force", path.display())
        }
        other => other.with_context(|| format!("cannot write the report to {}", path.display())),
    }
}
