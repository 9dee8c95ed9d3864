//! Writing a recording.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, ErrorKind, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, anyhow, bail};
use serde::Serialize;

use super::{
    Checkpoint, Header, HopName, Names, SeenLater,
    format::{Chunk, MAGIC, PREAMBLE_BYTES, VERSION, checksum},
};

/// Records are gathered into chunks of about this many bytes.
const RECORDS_BYTES: usize = 256 << 10;

/// Bytes of a chunk before its payload: kind, length.
const FRAME_START: usize = 8;

/// Checks that a recording can be written to `path`, before any work is done for it.
///
/// # Errors
///
/// The path exists and `force` is false, is no regular file, or its folder does not exist.
pub fn check_output(path: &Path, force: bool) -> Result<()> {
    match fs::metadata(path) {
        Ok(found) if found.is_dir() => {
            bail!("{} is a folder: give the name of a file in it", path.display())
        }
        Ok(found) if !found.is_file() => {
            bail!("{} is not a regular file: a recording can only be written to one", path.display())
        }
        Ok(_) if !force => bail!(exists_already(path)),
        Ok(_) => Ok(()),
        Err(_) => {
            let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
            match folder {
                Some(folder) if !folder.is_dir() => {
                    bail!("the folder {} does not exist: create it, or choose another one", folder.display())
                }
                _ => Ok(()),
            }
        }
    }
}

fn exists_already(path: &Path) -> String {
    format!("{} exists already: choose another name, or overwrite it with --force", path.display())
}

/// Writes a recording. Whatever happens to the process, every chunk that it wrote can be read.
pub struct Writer {
    file: File,
    path: PathBuf,
    /// The records so far, behind room for kind and length: they are copied once and written as they lie.
    records: Vec<u8>,
    /// Bytes of the file that are whole chunks.
    written: u64,
    failed: bool,
}

/// Opens a file to be written from its beginning; one that exists only with `force`.
pub fn open_output(path: &Path, force: bool) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true);
    if force {
        options.create(true).truncate(true)
    } else {
        options.create_new(true)
    };
    options.open(path)
}

impl Writer {
    /// Creates the file and writes the header.
    ///
    /// # Errors
    ///
    /// The file exists and `force` is false, or it cannot be created or written.
    pub fn create(path: impl AsRef<Path>, force: bool, header: &Header) -> Result<Writer> {
        let path = path.as_ref();
        let file = open_output(path, force).map_err(|error| match error.kind() {
            ErrorKind::AlreadyExists => anyhow!(exists_already(path)),
            _ => anyhow!("cannot create the recording {}: {error}", path.display()),
        })?;
        let mut records = Vec::with_capacity(RECORDS_BYTES + (64 << 10));
        records.resize(FRAME_START, 0);
        let mut writer = Writer { file, path: path.into(), records, written: 0, failed: false };
        writer.append(&[MAGIC.as_slice(), &VERSION.to_le_bytes()].concat())?;
        writer.json(Chunk::Header, header)?;
        Ok(writer)
    }

    /// Adds one or more whole records, as the kernel side made them.
    ///
    /// # Errors
    ///
    /// As for [`checkpoint`](Writer::checkpoint).
    pub fn records(&mut self, records: &[u8]) -> Result<()> {
        self.records.extend_from_slice(records);
        if self.records.len() >= FRAME_START + RECORDS_BYTES { self.flush() } else { Ok(()) }
    }

    /// Names hops. A later name of a hop replaces the earlier one.
    ///
    /// # Errors
    ///
    /// As for [`checkpoint`](Writer::checkpoint).
    pub fn hops(&mut self, hops: &[(u16, HopName)]) -> Result<()> {
        self.json(Chunk::Hops, hops)
    }

    /// Writes the records so far, then the counters so far: what a reader uses when no
    /// [`finish`](Writer::finish) follows. To be called about every second.
    ///
    /// # Errors
    ///
    /// The file cannot be written (a full disk). What was written before stays and can be read.
    pub fn checkpoint(&mut self, checkpoint: &Checkpoint) -> Result<()> {
        self.json(Chunk::Checkpoint, checkpoint)
    }

    /// Adds results of traffic that ran meanwhile.
    ///
    /// # Errors
    ///
    /// As for [`checkpoint`](Writer::checkpoint).
    pub fn traffic(&mut self, results: &[serde_json::Value]) -> Result<()> {
        self.json(Chunk::Traffic, results)
    }

    /// Adds names of drop reasons and kernel addresses; they join those that were added before.
    ///
    /// # Errors
    ///
    /// As for [`checkpoint`](Writer::checkpoint).
    pub fn names(&mut self, names: &Names) -> Result<()> {
        self.json(Chunk::Names, names)
    }

    /// Notes stages that are seen from now on.
    ///
    /// # Errors
    ///
    /// As for [`checkpoint`](Writer::checkpoint).
    pub fn later(&mut self, stages: &[SeenLater]) -> Result<()> {
        self.json(Chunk::Later, stages)
    }

    /// Writes the final counters and closes the recording.
    ///
    /// # Errors
    ///
    /// As for [`checkpoint`](Writer::checkpoint).
    pub fn finish(mut self, last: &Checkpoint) -> Result<()> {
        self.json(Chunk::Footer, last)
    }

    /// Bytes of the file so far.
    pub fn bytes(&self) -> u64 {
        self.written
    }

    fn json<T: Serialize + ?Sized>(&mut self, kind: Chunk, value: &T) -> Result<()> {
        self.flush()?;
        let mut chunk = vec![0; FRAME_START];
        serde_json::to_writer(&mut chunk, value)
            .with_context(|| format!("cannot encode the {}", kind.name()))?;
        close(kind, &mut chunk);
        self.append(&chunk)
    }

    fn flush(&mut self) -> Result<()> {
        if self.records.len() == FRAME_START {
            return Ok(());
        }
        let mut chunk = std::mem::take(&mut self.records);
        close(Chunk::Records, &mut chunk);
        let result = self.append(&chunk);
        chunk.truncate(FRAME_START);
        self.records = chunk;
        result
    }

    /// Appends bytes as a whole, or takes back what was written of them.
    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        if self.failed {
            bail!("the recording {} could not be written any more", self.path.display());
        }
        if let Err(error) = self.file.write_all(bytes) {
            self.failed = true;
            // Not possible on everything that can be written to; a reader copes with a torn chunk too.
            let _ = self.file.set_len(self.written);
            let kept = if self.written > PREAMBLE_BYTES {
                ": what was recorded before is kept and can be reported"
            } else {
                ""
            };
            bail!("cannot write to the recording {} ({error}){kept}", self.path.display());
        }
        self.written += bytes.len() as u64;
        Ok(())
    }
}

/// Completes a chunk whose payload stands behind room for kind and length.
fn close(kind: Chunk, chunk: &mut Vec<u8>) {
    let payload = &chunk[FRAME_START..];
    let (length, checksum) = (payload.len() as u32, checksum(kind as u32, payload));
    chunk[..4].copy_from_slice(&(kind as u32).to_le_bytes());
    chunk[4..FRAME_START].copy_from_slice(&length.to_le_bytes());
    chunk.extend(checksum.to_le_bytes());
}

impl Drop for Writer {
    /// A recorder that gives up for some other reason keeps what it has.
    fn drop(&mut self) {
        if !self.failed {
            let _ = self.flush();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Counters, Recording};

    #[test]
    fn what_was_recorded_before_the_disk_was_full_is_kept() {
        let dir = tempfile::TempDir::new().unwrap();
        let path = dir.path().join("a.otr");
        let mut writer = Writer::create(&path, false, &Header::new()).unwrap();
        let counters = Counters { started: 5, ..Counters::default() };
        let checkpoint = Checkpoint { duration_ns: 7, counters };
        writer.checkpoint(&checkpoint).unwrap();
        writer.file = OpenOptions::new().write(true).open("/dev/full").unwrap();
        let said = writer.checkpoint(&Checkpoint::default()).unwrap_err().to_string();
        assert!(said.contains("No space left") && said.contains("can be reported"), "{said}");
        assert!(writer.records(&[0; RECORDS_BYTES]).is_err());
        drop(writer);
        let recording = Recording::open(&path).unwrap();
        assert_eq!((recording.last, recording.complete), (checkpoint, false));
    }
}
