//! Reading a recording.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{BufReader, ErrorKind, Read, Seek, SeekFrom},
    ops::Range,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use serde::de::DeserializeOwned;

use super::{
    Checkpoint, Header, HopName, Names, ReadError, RecordView,
    format::{Chunk, FRAME_BYTES, MAGIC, OLDEST_VERSION, PAYLOAD_MAX, PREAMBLE_BYTES, VERSION, checksum},
    header::byte_order,
    legacy,
    records::{bytes_of, split_record},
};

type Result<T> = std::result::Result<T, ReadError>;

/// An opened recording: everything about it but the records, which are read as a stream.
///
/// What is whole in a recording that ended in the middle of a chunk is read; [`complete`](Self::complete)
/// is false then.
pub struct Recording {
    path: PathBuf,
    /// Version of the file format.
    version: u32,
    pub header: Header,
    pub hops: BTreeMap<u16, HopName>,
    pub names: Names,
    /// Results of traffic that ran during the recording.
    pub traffic: Vec<serde_json::Value>,
    /// The last counters and duration.
    pub last: Checkpoint,
    /// Whether the recorder finished: false when it was killed or the disk was full.
    pub complete: bool,
    /// Where the chunks of records begin in the file, and their lengths.
    records: Vec<(u64, u32)>,
}

impl Recording {
    /// Opens a recording and reads everything but the records.
    ///
    /// # Errors
    ///
    /// The file cannot be read, is not a recording, is from a newer or a much older version or another byte order, is
    /// damaged, or ends before its header does.
    pub fn open(path: impl AsRef<Path>) -> Result<Recording> {
        let path = path.as_ref();
        let file = File::open(path).map_err(ReadError::open(path))?;
        let bytes = file.metadata().map_err(ReadError::read(path.display().to_string()))?.len();
        let mut input = BufReader::new(file);
        let version = read_preamble(&mut input, path)?;
        let mut recording = Recording {
            path: path.into(),
            version,
            header: Header::default(),
            hops: BTreeMap::new(),
            names: Names::default(),
            traffic: Vec::new(),
            last: Checkpoint::default(),
            complete: false,
            records: Vec::new(),
        };
        recording.scan(&mut input, bytes)?;
        Ok(recording)
    }

    /// The file that the recording was read from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Calls `each` with every record, in the order of the packets' ends.
    ///
    /// # Errors
    ///
    /// The file cannot be read any more, or is damaged.
    pub fn for_each_record(&self, each: impl FnMut(RecordView<'_>)) -> Result<()> {
        self.for_each_record_of(0..self.records.len(), each)
    }

    /// The bytes of each chunk of records.
    pub fn chunk_bytes(&self) -> Vec<u64> {
        self.records.iter().map(|&(_, length)| length.into()).collect()
    }

    /// Calls `each` with the records of these chunks only; their numbers are those of [`chunk_bytes`](Self::chunk_bytes).
    ///
    /// # Errors
    ///
    /// As [`for_each_record`](Self::for_each_record).
    pub fn for_each_record_of(
        &self,
        chunks: Range<usize>,
        mut each: impl FnMut(RecordView<'_>),
    ) -> Result<()> {
        let file = File::open(&self.path).map_err(ReadError::open(&self.path))?;
        let mut words = Vec::new();
        for &(at, length) in &self.records[chunks] {
            // The checksum stands behind the payload.
            words.resize(length as usize / 8 + 1, 0);
            let bytes = &mut bytes_of(&mut words)[..length as usize + 4];
            file.read_exact_at(bytes, at)
                .map_err(ReadError::read(format!("the recording {}", self.path.display())))?;
            let (payload, crc) = bytes.split_at(length as usize);
            if crc != checksum(Chunk::Records as u32, payload).to_le_bytes() {
                return Err(self.damaged(at, "the checksum of a chunk of records does not match"));
            }
            let mut rest = &words[..length as usize / 8];
            while !rest.is_empty() {
                let Some((record, next)) = split_record(rest) else {
                    return Err(self.damaged(at, "a record is longer than its chunk"));
                };
                each(record);
                rest = next;
            }
        }
        Ok(())
    }

    fn damaged(&self, at: u64, what: impl Into<String>) -> ReadError {
        ReadError::Damaged { path: self.path.clone(), at, what: what.into() }
    }

    /// Walks over the chunks until the footer or the last whole one.
    fn scan(&mut self, input: &mut (impl Read + Seek), bytes: u64) -> Result<()> {
        let mut at = PREAMBLE_BYTES;
        let mut first = true;
        while let Some((kind, length)) = chunk_at(input, at, bytes)? {
            let end = at + FRAME_BYTES + u64::from(length);
            if length > PAYLOAD_MAX {
                return Err(self.damaged(at, "a chunk of impossible length"));
            }
            if end > bytes {
                break;
            }
            let known = Chunk::from_u32(kind);
            if first && known != Some(Chunk::Header) {
                return Err(self.damaged(at, "the header is missing"));
            }
            first = false;
            if known == Some(Chunk::Records) {
                if length % 8 != 0 {
                    return Err(self.damaged(at, "a chunk of records of impossible length"));
                }
                self.records.push((at + 8, length));
            } else {
                let bytes = payload(input, length)?;
                let (payload, crc) = bytes.split_at(length as usize);
                if crc != checksum(kind, payload).to_le_bytes() {
                    let name = known.map_or("unknown kind", Chunk::name);
                    return Err(self.damaged(at, format!("the checksum of a chunk of {name} does not match")));
                }
                if let Some(kind) = known {
                    self.take(kind, at, payload)?;
                }
            }
            if known == Some(Chunk::Footer) {
                self.complete = true;
                break;
            }
            at = end;
            input.seek(SeekFrom::Start(at)).map_err(ReadError::read("the recording"))?;
        }
        if first {
            return Err(ReadError::EndsBeforeHeader { path: self.path.clone() });
        }
        Ok(())
    }

    /// Takes over what a chunk says.
    fn take(&mut self, kind: Chunk, at: u64, payload: &[u8]) -> Result<()> {
        match kind {
            Chunk::Header => {
                self.header = self.json(kind, at, payload)?;
                legacy::complete(&mut self.header, self.version);
                if self.header.byte_order != byte_order() {
                    let (path, byte_order) = (self.path.clone(), self.header.byte_order.clone());
                    return Err(ReadError::ByteOrder { path, byte_order });
                }
            }
            Chunk::Hops => self.hops.extend(self.json::<Vec<(u16, HopName)>>(kind, at, payload)?),
            Chunk::Checkpoint | Chunk::Footer => self.last = self.json(kind, at, payload)?,
            Chunk::Traffic => self.traffic.extend(self.json::<Vec<_>>(kind, at, payload)?),
            Chunk::Names => {
                let names: Names = self.json(kind, at, payload)?;
                self.names.drop_reasons.extend(names.drop_reasons);
                self.names.symbols.extend(names.symbols);
            }
            Chunk::Later => {
                self.json::<Vec<_>>(kind, at, payload)?
                    .into_iter()
                    .for_each(|later| self.header.see_later(later));
            }
            Chunk::Records => {}
        }
        Ok(())
    }

    fn json<T: DeserializeOwned>(&self, kind: Chunk, at: u64, payload: &[u8]) -> Result<T> {
        serde_json::from_slice(payload)
            .map_err(|error| self.damaged(at, format!("the {} cannot be read: {error}", kind.name())))
    }
}

/// Reads the magic and the version.
fn read_preamble(input: &mut impl Read, path: &Path) -> Result<u32> {
    let mut preamble = Vec::new();
    input
        .take(PREAMBLE_BYTES)
        .read_to_end(&mut preamble)
        .map_err(ReadError::read(path.display().to_string()))?;
    let magic = preamble.len().min(MAGIC.len());
    if preamble.is_empty() || preamble[..magic] != MAGIC[..magic] {
        return Err(ReadError::NotARecording { path: path.into() });
    }
    let Some(version) = preamble.get(8..12) else {
        return Err(ReadError::EndsBeforeHeader { path: path.into() });
    };
    let version = u32::from_le_bytes([version[0], version[1], version[2], version[3]]);
    match version {
        OLDEST_VERSION..=VERSION => Ok(version),
        ..OLDEST_VERSION => Err(ReadError::Older { path: path.into(), version }),
        _ => Err(ReadError::Newer { path: path.into(), version }),
    }
}

/// The kind and length of the chunk at `at`, where the input stands; `None` at the end of the file.
fn chunk_at(input: &mut impl Read, at: u64, bytes: u64) -> Result<Option<(u32, u32)>> {
    if at + FRAME_BYTES > bytes {
        return Ok(None);
    }
    let mut frame = [0; 8];
    match input.read_exact(&mut frame) {
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(None),
        other => other.map_err(ReadError::read("the recording"))?,
    }
    let [k0, k1, k2, k3, l0, l1, l2, l3] = frame;
    Ok(Some((u32::from_le_bytes([k0, k1, k2, k3]), u32::from_le_bytes([l0, l1, l2, l3]))))
}

/// A chunk's payload with its checksum behind it.
fn payload(input: &mut impl Read, length: u32) -> Result<Vec<u8>> {
    let mut bytes = vec![0; length as usize + 4];
    input.read_exact(&mut bytes).map_err(ReadError::read("the recording"))?;
    Ok(bytes)
}
