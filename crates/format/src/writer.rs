//! Writing a recording.

use std::{
    io::{self, ErrorKind, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, anyhow, bail};
use serde::Serialize;

use super::{
    Checkpoint, Header, HopName, KernelCounters, Names, NicCount, OutputFile, Readers, ReservedOutput,
    SeenLater, Translation,
    format::{Chunk, MAGIC, PREAMBLE_BYTES, VERSION, checksum},
    records_chunk::Deflater,
    ring::{Beginning, Ring, RingFolder},
};

/// Records are gathered into chunks of about this many bytes.
const RECORDS_BYTES: usize = 256 << 10;

/// Bytes of a chunk before its payload: kind, length.
const FRAME_START: usize = 8;

/// Checks that a recording can be written to `path`, before any work is done for it.
///
/// # Errors
///
/// The path exists and `force` is false, is no regular file or another recorder's, or its folder does not exist.
pub fn check_output(path: &Path, force: bool) -> Result<()> {
    reserve_output(path, force).map(drop)
}

/// As [`check_output`]; a file that stands there is locked until the recording is created in its place
/// ([`Writer::create_reserved`]), so that of two recorders that are started together only one goes on.
///
/// # Errors
///
/// Those of [`check_output`].
pub fn reserve_output(path: &Path, force: bool) -> Result<ReservedOutput> {
    ReservedOutput::new(path, force).map_err(|error| cannot_create(path, &error))
}

fn cannot_create(path: &Path, error: &io::Error) -> anyhow::Error {
    let name = path.display();
    let folder = path.parent().unwrap_or(Path::new("")).display();
    match error.kind() {
        ErrorKind::AlreadyExists => {
            anyhow!("{name} exists already: choose another name, or overwrite it with --force")
        }
        ErrorKind::InvalidInput => {
            anyhow!("{name} is not a regular file: a recording can only be written to one")
        }
        ErrorKind::IsADirectory => anyhow!("{name} is a folder: give the name of a file in it"),
        ErrorKind::NotFound | ErrorKind::NotADirectory => {
            anyhow!("the folder {folder} does not exist: create it, or choose another one")
        }
        _ => anyhow!("cannot create the recording {name}: {error}"),
    }
}

/// Writes a recording. Whatever happens to the process, every chunk that it wrote can be read.
pub struct Writer {
    output: OutputFile,
    path: PathBuf,
    /// The records so far, behind room for kind and length.
    records: Vec<u8>,
    /// The chunk that they are compressed to.
    compressed: Vec<u8>,
    deflater: Deflater,
    /// Bytes of the file that are whole chunks.
    written: u64,
    failed: bool,
    /// Of a recording that never ends: its other segments.
    ring: Option<Ring>,
    /// Records in `records`.
    pending: u64,
}

impl Writer {
    /// Creates the file, which its owner alone may read ([`OutputFile`]), and writes the header. Where that fails,
    /// no file is left.
    ///
    /// # Errors
    ///
    /// The file exists and `force` is false, or it cannot be created or written.
    pub fn create(path: impl AsRef<Path>, force: bool, header: &Header) -> Result<Writer> {
        let path = path.as_ref();
        let output =
            OutputFile::create(path, force, Readers::Owner).map_err(|error| cannot_create(path, &error))?;
        Writer::new(output, path, header)
    }

    /// As [`create`](Writer::create), where the place was reserved before.
    ///
    /// # Errors
    ///
    /// As for [`create`](Writer::create). Something was put there since.
    pub fn create_reserved(reserved: ReservedOutput, path: &Path, header: &Header) -> Result<Writer> {
        let output = reserved.create(Readers::Owner).map_err(|error| match error.kind() {
            ErrorKind::AlreadyExists => {
                let name = path.display();
                anyhow!("{name} was created by another program meanwhile: choose another name")
            }
            _ => cannot_create(path, &error),
        })?;
        Writer::new(output, path, header)
    }

    fn new(output: OutputFile, path: &Path, header: &Header) -> Result<Writer> {
        let mut records = Vec::with_capacity(RECORDS_BYTES + (64 << 10));
        records.resize(FRAME_START, 0);
        let deflater = Deflater::new().context("cannot compress records")?;
        let compressed = vec![0; FRAME_START];
        let (ring, path) = (None, path.into());
        let mut writer = Writer {
            output,
            path,
            records,
            compressed,
            deflater,
            written: 0,
            failed: false,
            ring,
            pending: 0,
        };
        match writer.begin(header) {
            Ok(()) => Ok(writer),
            Err(error) => {
                writer.discard();
                Err(error)
            }
        }
    }

    /// A recording that never ends: of it the last part is kept, in segments. Where the disk is full, records are left
    /// out, and counted as lost.
    ///
    /// # Errors
    ///
    /// The first segment cannot be created or written.
    pub fn create_ring(folder: RingFolder, header: &Header) -> Result<Writer> {
        let mut ring = Ring::new(folder, header);
        let (output, path) =
            ring.create().map_err(|error| anyhow!("cannot create a segment of the recording: {error}"))?;
        let mut writer = Writer::new(output, &path, header)?;
        // From where on the segment counts.
        writer.checkpoint(&Checkpoint::default())?;
        writer.ring = Some(ring);
        Ok(writer)
    }

    /// Gives the recording up, and removes its file.
    pub fn discard(&self) {
        self.output.discard();
    }

    fn begin(&mut self, header: &Header) -> Result<()> {
        self.append(&[MAGIC.as_slice(), &VERSION.to_le_bytes()].concat())?;
        self.json(Chunk::Header, header)
    }

    /// Adds one or more whole records, as the kernel side made them.
    ///
    /// # Errors
    ///
    /// As for [`checkpoint`](Writer::checkpoint).
    pub fn records(&mut self, records: &[u8]) -> Result<()> {
        self.records.extend_from_slice(records);
        self.pending += 1;
        if self.records.len() >= FRAME_START + RECORDS_BYTES { self.flush() } else { Ok(()) }
    }

    /// Names hops. A later name of a hop replaces the earlier one.
    ///
    /// # Errors
    ///
    /// As for [`checkpoint`](Writer::checkpoint).
    pub fn hops(&mut self, hops: &[(u16, HopName)]) -> Result<()> {
        if let Some(ring) = &mut self.ring {
            ring.hops(hops);
        }
        self.json(Chunk::Hops, hops)
    }

    /// Writes the records so far, then the counters so far: what a reader uses when no
    /// [`finish`](Writer::finish) follows. To be called about every second.
    ///
    /// # Errors
    ///
    /// The file cannot be written (a full disk). What was written before stays and can be read.
    pub fn checkpoint(&mut self, checkpoint: &Checkpoint) -> Result<()> {
        let Some(ring) = &self.ring else { return self.json(Chunk::Checkpoint, checkpoint) };
        let mut checkpoint = checkpoint.clone();
        checkpoint.counters.lost_records += ring.unwritten;
        self.json(Chunk::Checkpoint, &checkpoint)?;
        let is_full = self.ring.as_ref().is_some_and(|ring| ring.is_full(self.written));
        if is_full || self.failed { self.next_segment(&checkpoint) } else { Ok(()) }
    }

    /// Ends the segment, and begins the next one. Where there is no room for it, old ones make room, or it is tried again
    /// with the next checkpoint.
    fn next_segment(&mut self, checkpoint: &Checkpoint) -> Result<()> {
        if !self.failed {
            self.json(Chunk::Footer, checkpoint)?;
        }
        let Some(ring) = &mut self.ring else { return Ok(()) };
        if self.failed {
            // The segment is whole up to where writing has failed.
            ring.remove_oldest();
        }
        let Ok((output, path)) = ring.create() else {
            self.failed = true;
            return Ok(());
        };
        self.output = output;
        let before = std::mem::replace(&mut self.path, path);
        ring.ended(before, self.written);
        (self.written, self.failed) = (0, false);
        let mut ring = self.ring.take();
        let begun = ring.as_ref().map_or(Ok(()), |ring| self.begin_segment(&ring.beginning(), checkpoint));
        if begun.is_err() {
            self.failed = true;
        }
        self.ring = ring.take();
        Ok(())
    }

    fn begin_segment(&mut self, beginning: &Beginning<'_>, checkpoint: &Checkpoint) -> Result<()> {
        self.begin(beginning.header)?;
        self.json(Chunk::Hops, &beginning.hops)?;
        self.json(Chunk::Names, beginning.names)?;
        self.json(Chunk::Later, beginning.later)?;
        self.json(Chunk::Translations, &beginning.translations)?;
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
        if let Some(ring) = &mut self.ring {
            ring.names(names);
        }
        self.json(Chunk::Names, names)
    }

    /// Adds what passed the NICs.
    ///
    /// # Errors
    ///
    /// As for [`checkpoint`](Writer::checkpoint).
    pub fn nics(&mut self, counts: &[NicCount]) -> Result<()> {
        self.json(Chunk::Nics, counts)
    }

    /// Adds what the kernel's own counters grew by.
    ///
    /// # Errors
    ///
    /// As for [`checkpoint`](Writer::checkpoint).
    pub fn kernel_counters(&mut self, counters: &KernelCounters) -> Result<()> {
        self.json(Chunk::KernelCounters, counters)
    }

    /// Adds clients whose address was translated.
    ///
    /// # Errors
    ///
    /// As for [`checkpoint`](Writer::checkpoint).
    pub fn translations(&mut self, translations: &[Translation]) -> Result<()> {
        if let Some(ring) = &mut self.ring {
            ring.translations(translations);
        }
        self.json(Chunk::Translations, translations)
    }

    /// Notes stages that are seen from now on.
    ///
    /// # Errors
    ///
    /// As for [`checkpoint`](Writer::checkpoint).
    pub fn later(&mut self, stages: &[SeenLater]) -> Result<()> {
        if let Some(ring) = &mut self.ring {
            ring.later(stages);
        }
        self.json(Chunk::Later, stages)
    }

    /// Writes the final counters and closes the recording; returns the bytes of the file.
    ///
    /// # Errors
    ///
    /// As for [`checkpoint`](Writer::checkpoint). Or the file is not what was written: somebody else has deleted, replaced
    /// or changed it.
    pub fn finish(mut self, last: &Checkpoint) -> Result<u64> {
        self.json(Chunk::Footer, last)?;
        let checked = self.output.check(&self.path, self.written);
        checked.map_err(|what| anyhow!("the recording {} {what}", self.path.display()))?;
        Ok(self.written)
    }

    /// Bytes of the file so far, or of all segments that are kept.
    pub fn bytes(&self) -> u64 {
        self.written + self.ring.as_ref().map_or(0, Ring::bytes)
    }

    fn json<T: Serialize + ?Sized>(&mut self, kind: Chunk, value: &T) -> Result<()> {
        self.flush()?;
        let mut chunk = vec![0; FRAME_START];
        serde_json::to_writer(&mut chunk, value)
            .with_context(|| format!("cannot encode the {}", kind.name()))?;
        close(kind, &mut chunk);
        match self.append(&chunk) {
            // What it says is in the next segment again.
            Err(_) if self.ring.is_some() => Ok(()),
            result => result,
        }
    }

    fn flush(&mut self) -> Result<()> {
        if self.records.len() == FRAME_START {
            return Ok(());
        }
        let pending = std::mem::take(&mut self.pending);
        let compressed = &mut self.compressed;
        let (kind, chunk) = if self.deflater.append(&self.records[FRAME_START..], compressed) {
            (Chunk::CompressedRecords, compressed)
        } else {
            (Chunk::Records, &mut self.records)
        };
        let mut chunk = std::mem::take(chunk);
        close(kind, &mut chunk);
        let result = self.append(&chunk);
        chunk.truncate(FRAME_START);
        *if kind == Chunk::Records { &mut self.records } else { &mut self.compressed } = chunk;
        self.records.truncate(FRAME_START);
        match (&mut self.ring, result) {
            (Some(ring), Err(_)) => {
                ring.unwritten += pending;
                Ok(())
            }
            (_, result) => result,
        }
    }

    /// Appends bytes as a whole. Where there is no room for them, the oldest segments of a ring make it.
    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        let had_failed = self.failed;
        loop {
            match self.append_once(bytes) {
                Err(_) if !had_failed && self.make_room() => {}
                result => return result,
            }
        }
    }

    fn make_room(&mut self) -> bool {
        let is_room = self.ring.as_mut().is_some_and(Ring::remove_oldest);
        self.failed &= !is_room;
        is_room
    }

    /// Appends bytes as a whole, or takes back what was written of them.
    fn append_once(&mut self, bytes: &[u8]) -> Result<()> {
        if self.failed {
            bail!("the recording {} could not be written any more", self.path.display());
        }
        if let Err(error) = self.output.file.write_all(bytes) {
            self.failed = true;
            // Not possible on everything that can be written to; a reader copes with a torn chunk too.
            let _ = self.output.file.set_len(self.written);
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
        let checkpoint = Checkpoint { duration_ns: 7, counters, clocks: None };
        writer.checkpoint(&checkpoint).unwrap();
        writer.output.file = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let said = writer.checkpoint(&Checkpoint::default()).unwrap_err().to_string();
        assert!(said.contains("No space left") && said.contains("can be reported"), "{said}");
        assert!(writer.records(&[0; RECORDS_BYTES]).is_err());
        drop(writer);
        let recording = Recording::open(&path).unwrap();
        assert_eq!((recording.last, recording.complete), (checkpoint, false));
    }
}
