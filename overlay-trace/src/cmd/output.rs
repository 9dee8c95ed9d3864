//! Writes reports to a file or to standard output.

use std::{
    fs::{self, File},
    io::{self, ErrorKind, Write},
    os::unix::fs::MetadataExt,
    path::Path,
    process::ExitCode,
};

use anyhow::{Context, Result, anyhow, bail, ensure};

use super::unprivileged::with_files;
use overlay_trace_format::{OutputFile, Readers, printable_bytes};

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

/// A path for people.
pub(super) fn shown(path: &Path) -> String {
    printable_bytes(path.as_os_str().as_encoded_bytes())
}

/// Checks that a recording that is to be written is none of those that are read.
///
/// # Errors
///
/// It is.
pub(super) fn ensure_no_input(output: &Path, inputs: &[&Path]) -> Result<()> {
    let is_input = with_files(|| is_input(output, inputs));
    ensure!(!is_input, "{} is one of the recordings that are read: choose another name", shown(output));
    Ok(())
}

/// Whether the output is one of the inputs, by whatever name.
pub(super) fn is_input(output: &Path, inputs: &[&Path]) -> bool {
    let identity = |path: &Path| fs::metadata(path).map(|file| (file.dev(), file.ino())).ok();
    identity(output).is_some_and(|file| inputs.iter().any(|input| identity(input) == Some(file)))
}

fn write_file(report: &[u8], path: &Path, force: bool) -> Result<()> {
    to_file(path, force, |file| Ok(file.write_all(report)?))
}

/// Writes a file by `write`. Where that fails no file is left: a part must not be taken for the whole.
///
/// # Errors
///
/// The file exists and `force` is false, or it cannot be written; those of `write`.
pub(super) fn to_file<T>(path: &Path, force: bool, write: impl FnOnce(&mut File) -> Result<T>) -> Result<T> {
    let cannot = || format!("cannot write to {}", shown(path));
    let mut output = match with_files(|| OutputFile::create(path, force, Readers::Umask)) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            bail!("{} exists: choose another name, or overwrite it with --force", shown(path))
        }
        other => other.with_context(cannot)?,
    };
    let written = write(&mut output.file);
    written.inspect_err(|_| output.discard()).with_context(cannot)
}

/// Standard output, which remembers why it could not be written: libraries say that in words of their own.
#[derive(Default)]
pub(super) struct Stdout(Option<io::Error>);

impl Stdout {
    fn note<T>(&mut self, result: io::Result<T>) -> io::Result<T> {
        result.inspect_err(|error| {
            if error.kind() != ErrorKind::Interrupted {
                self.0 = Some(error.raw_os_error().map_or(error.kind().into(), io::Error::from_raw_os_error));
            }
        })
    }
}

impl Write for Stdout {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let result = io::stdout().write(bytes);
        self.note(result)
    }

    fn flush(&mut self) -> io::Result<()> {
        let result = io::stdout().flush();
        self.note(result)
    }
}

/// Prints what `write` writes in pieces.
///
/// # Errors
///
/// As for [`print`]; those of `write`.
pub(super) fn print_by<T>(write: impl FnOnce(&mut Stdout) -> Result<T>) -> Result<T> {
    let mut out = Stdout::default();
    let written = write(&mut out).and_then(|written| Ok(out.flush().map(|()| written)?));
    match out.0 {
        Some(error) => printed(Err(error)).and(written),
        None => written,
    }
}

/// A note beside the output, on the standard error.
pub(super) fn note(text: &str) {
    // Nobody may read it any more.
    let _ = writeln!(io::stderr(), "overlay-trace: {text}");
}
