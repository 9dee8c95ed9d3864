//! Why a recording cannot be read.

use std::{
    io,
    path::{Path, PathBuf},
};

use thiserror::Error;

use super::{
    format::{OLDEST_VERSION, VERSION},
    printable_bytes,
};

/// A file's name, which can be any bytes.
pub(super) fn shown(path: &Path) -> String {
    printable_bytes(path.as_os_str().as_encoded_bytes())
}

/// Why a recording cannot be opened or read. Each is one sentence for people; [`source`](std::error::Error::source) is
/// what the operating system says.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ReadError {
    #[error("cannot open the recording {}", shown(.path))]
    Open { path: PathBuf, source: io::Error },
    #[error("cannot read {what}")]
    Read { what: String, source: io::Error },
    /// The file does not begin with [`MAGIC`](super::format::MAGIC).
    #[error("{} is not a recording of overlay-trace", shown(.path))]
    NotARecording { path: PathBuf },
    #[error(
        "the recording {} was made by a newer overlay-trace (format {version}; this one reads {oldest} to {newest}): \
         use that version to read it",
        shown(.path),
        oldest = OLDEST_VERSION,
        newest = VERSION
    )]
    Newer { path: PathBuf, version: u32 },
    #[error(
        "the recording {} was made by an older overlay-trace (format {version}; this one reads {oldest} to {newest}): \
         use that version to read it",
        shown(.path),
        oldest = OLDEST_VERSION,
        newest = VERSION
    )]
    Older { path: PathBuf, version: u32 },
    #[error("the recording {} was made on a {byte_order}-endian machine: read it on one of that kind", shown(.path))]
    ByteOrder { path: PathBuf, byte_order: String },
    /// A checksum, a length or a payload is wrong in the chunk at byte `at`.
    #[error("the recording {} is damaged at byte {at} ({what}): copy it again", shown(.path))]
    Damaged { path: PathBuf, at: u64, what: String },
    /// The recorder was killed, or the disk full, before the first chunk was written.
    #[error("the recording {} ends before its header does: nothing in it can be used", shown(.path))]
    EndsBeforeHeader { path: PathBuf },
}

impl ReadError {
    /// Reading failed where `what` names the file, or stands for it.
    pub(super) fn read(what: impl Into<String>) -> impl FnOnce(io::Error) -> ReadError {
        let what = what.into();
        |source| ReadError::Read { what, source }
    }

    pub(super) fn open(path: &Path) -> impl FnOnce(io::Error) -> ReadError {
        |source| ReadError::Open { path: path.into(), source }
    }
}
