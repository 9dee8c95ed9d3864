//! Reading a recording.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, BufReader, Cursor, ErrorKind, Read, Seek, SeekFrom},
    ops::Range,
    path::{Path, PathBuf},
};

use serde::de::DeserializeOwned;

use super::{
    Checkpoint, ClockReading, Header, HopName, KernelCounters, Names, NicCount, Pod, ReadError, RecordView,
    Translation,
    error::shown,
    format::{Chunk, FRAME_BYTES, MAGIC, OLDEST_VERSION, PAYLOAD_MAX, PREAMBLE_BYTES, VERSION, checksum},
    header::byte_order,
    legacy, printable,
    records::{header_words, split_record},
    records_chunk::{Inflater, RecordsChunk},
    selection::Selection,
};

type Result<T> = std::result::Result<T, ReadError>;

/// A record names a stage by one byte.
const STAGES_MAX: usize = 256;
/// The longest payload of JSON: as a tree it takes many times the memory of its text.
const JSON_MAX: u32 = 64 << 20;
/// The most networks of a header, and reasons for one.
const DETECTIONS_MAX: usize = 1024;

/// An opened recording: everything about it but the records, which are read as a stream.
///
/// What is whole in a recording that ended in the middle of a chunk is read; [`complete`](Self::complete)
/// is false then.
pub struct Recording {
    path: PathBuf,
    file: File,
    /// Version of the file format.
    version: u32,
    pub header: Header,
    pub hops: BTreeMap<u16, HopName>,
    pub names: Names,
    /// Results of traffic that ran during the recording.
    pub traffic: Vec<serde_json::Value>,
    /// What passed the NICs, by hop and direction.
    pub nics: Vec<NicCount>,
    /// What the kernel's own counters grew by; `None` in recordings that were not finished, and in early ones.
    pub kernel_counters: Option<KernelCounters>,
    /// The machine's clocks, about every second.
    pub clocks: Vec<ClockReading>,
    /// Clients whose address was translated on the path.
    pub translations: Vec<Translation>,
    /// The first counters and duration: those of a segment count from there on.
    pub first: Checkpoint,
    /// The last counters and duration.
    pub last: Checkpoint,
    /// Whether there are any: a recorder that was killed in its first second has left none, so that losses are unknown.
    pub has_counters: bool,
    /// Whether the recorder finished: false when it was killed or the disk was full.
    pub complete: bool,
    /// Bytes of the file that have been read.
    scanned: u64,
    /// Where the records are.
    records: Vec<RecordsChunk>,
    /// `None`: all records are read.
    pub(super) selection: Option<Selection>,
}

impl Recording {
    /// Opens a recording and reads everything but the records. A pipe (`<(zstdcat a.otr.zst)`) is read to its end first.
    /// Every text in it is made printable: whoever wrote the file need not be trusted.
    ///
    /// # Errors
    ///
    /// The file cannot be read, is not a recording, is from a newer or a much older version or another byte order, is
    /// damaged, or ends before its header does.
    pub fn open(path: impl AsRef<Path>) -> Result<Recording> {
        let path = path.as_ref();
        Recording::read(path, File::open(path))
    }

    /// The same of what came of opening the file: who opens it may need privileges that reading it does not.
    ///
    /// # Errors
    ///
    /// As for [`open`](Recording::open).
    pub fn read(path: &Path, opened: io::Result<File>) -> Result<Recording> {
        let reading = || ReadError::read(shown(path));
        let mut file = opened.map_err(ReadError::open(path))?;
        let is_file = file.metadata().map_err(reading())?.is_file();
        // Before the rest is read: a pipe may have no end.
        let (version, preamble) = read_preamble(&mut file, path)?;
        if !is_file {
            file = spool(&preamble, &mut file).map_err(reading())?;
        }
        let bytes = file.metadata().map_err(reading())?.len();
        file.seek(SeekFrom::Start(PREAMBLE_BYTES)).map_err(reading())?;
        let mut input = BufReader::new(file.try_clone().map_err(reading())?);
        let mut recording = Recording {
            path: path.into(),
            file,
            version,
            header: Header::default(),
            hops: BTreeMap::new(),
            names: Names::default(),
            traffic: Vec::new(),
            nics: Vec::new(),
            kernel_counters: None,
            translations: Vec::new(),
            first: Checkpoint::default(),
            last: Checkpoint::default(),
            clocks: Vec::new(),
            has_counters: false,
            complete: false,
            scanned: PREAMBLE_BYTES,
            records: Vec::new(),
            selection: None,
        };
        recording.scan(&mut input, bytes)?;
        Ok(recording)
    }

    /// Reads what a recorder has written since, and returns the numbers of the chunks of records that are new.
    ///
    /// # Errors
    ///
    /// As for [`open`](Recording::open).
    pub fn refresh(&mut self) -> Result<Range<usize>> {
        let before = self.records.len();
        if !self.complete {
            let reading = || ReadError::read(shown(&self.path));
            let mut file = self.file.try_clone().map_err(reading())?;
            let bytes = file.metadata().map_err(reading())?.len();
            file.seek(SeekFrom::Start(self.scanned)).map_err(reading())?;
            self.scan(&mut BufReader::new(file), bytes)?;
        }
        Ok(before..self.records.len())
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

    /// The bytes of the records of each chunk, uncompressed.
    pub fn chunk_bytes(&self) -> Vec<u64> {
        self.records.iter().map(|chunk| chunk.uncompressed.into()).collect()
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
        let mut inflater = Inflater::default();
        let header_words = header_words(self.version);
        for chunk in &self.records[chunks] {
            let mut rest = inflater.words(&self.file, &self.path, chunk)?;
            while !rest.is_empty() {
                let Some((record, next)) = split_record(rest, header_words) else {
                    return Err(self.damaged(chunk.at, "a record is longer than its chunk"));
                };
                if self.selection.as_ref().is_none_or(|selection| selection.has(&record)) {
                    each(record);
                }
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
        let mut at = self.scanned;
        let mut first = at == PREAMBLE_BYTES;
        while let Some((kind, length)) = chunk_at(input, at, bytes)? {
            let end = at + FRAME_BYTES + u64::from(length);
            let known = Chunk::from_u32(kind);
            let is_json = known.is_some_and(|kind| !kind.has_records());
            if length > PAYLOAD_MAX || is_json && length > JSON_MAX {
                return Err(self.damaged(at, "a chunk of impossible length"));
            }
            if end > bytes {
                break;
            }
            if first && known != Some(Chunk::Header) {
                return Err(self.damaged(at, "the header is missing"));
            }
            first = false;
            if let Some(kind) = known.filter(|kind| kind.has_records()) {
                let chunk =
                    RecordsChunk::find(kind, input, at, length).map_err(ReadError::read("the recording"))?;
                let chunk =
                    chunk.ok_or_else(|| self.damaged(at, "a chunk of records of impossible length"))?;
                self.records.push(chunk);
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
            at = end;
            self.scanned = at;
            if known == Some(Chunk::Footer) {
                self.complete = true;
                break;
            }
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
                self.check_header(at)?;
                legacy::complete(&mut self.header, self.version);
                if self.header.byte_order != byte_order() {
                    let (path, byte_order) = (self.path.clone(), self.header.byte_order.clone());
                    return Err(ReadError::ByteOrder { path, byte_order });
                }
            }
            Chunk::Hops => {
                let mut hops: Vec<(u16, HopName)> = self.json(kind, at, payload)?;
                let names =
                    hops.iter_mut().flat_map(|(_, hop)| [&mut hop.netns, &mut hop.device, &mut hop.kind]);
                names.for_each(|name| printable::cut(name, printable::NAME_MAX));
                hops.iter_mut().filter_map(|(_, hop)| hop.pod.as_mut()).for_each(Pod::clean);
                self.hops.extend(hops);
            }
            Chunk::Checkpoint | Chunk::Footer => {
                self.last = self.json(kind, at, payload)?;
                if !self.has_counters {
                    self.first = self.last.clone();
                }
                self.clocks.extend(self.last.clocks);
                self.has_counters = true;
            }
            Chunk::Traffic => self.traffic.extend(self.json::<Vec<_>>(kind, at, payload)?),
            Chunk::Nics => self.nics.extend(self.json::<Vec<NicCount>>(kind, at, payload)?),
            Chunk::KernelCounters => {
                let mut counters: KernelCounters = self.json(kind, at, payload)?;
                if !counters.is_sound() {
                    return Err(self.damaged(at, "impossibly many of the kernel's counters"));
                }
                counters.cut_names();
                self.kernel_counters = Some(counters);
            }
            Chunk::Translations => {
                self.translations.extend(self.json::<Vec<Translation>>(kind, at, payload)?);
            }
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
            Chunk::Records | Chunk::CompressedRecords => {}
        }
        Ok(())
    }

    /// A header of more than records can refer to is no recorder's.
    fn check_header(&self, at: u64) -> Result<()> {
        let Header { stages, unseen_stages, networks, .. } = &self.header;
        let networks = networks.iter().flatten();
        let is_sound = stages.len() <= STAGES_MAX
            && unseen_stages.len() <= STAGES_MAX
            && networks.clone().count() <= DETECTIONS_MAX
            && networks.clone().all(|network| network.evidence.len() <= DETECTIONS_MAX);
        if is_sound { Ok(()) } else { Err(self.damaged(at, "a header with impossibly many entries")) }
    }

    fn json<T: DeserializeOwned>(&self, kind: Chunk, at: u64, payload: &[u8]) -> Result<T> {
        let mut value = serde_json::from_slice(payload);
        if let Ok(value) = &mut value {
            printable::clean(value);
        }
        value
            .and_then(serde_json::from_value)
            .map_err(|error| self.damaged(at, format!("the {} cannot be read: {error}", kind.name())))
    }
}

/// Copies what comes from a pipe to a file without a name.
fn spool(preamble: &[u8], pipe: &mut File) -> io::Result<File> {
    let mut file = tempfile::tempfile()?;
    io::copy(&mut Cursor::new(preamble).chain(pipe), &mut file)?;
    Ok(file)
}

/// Reads the magic and the version, and returns the version and what was read.
fn read_preamble(input: &mut impl Read, path: &Path) -> Result<(u32, Vec<u8>)> {
    let mut preamble = Vec::new();
    input.take(PREAMBLE_BYTES).read_to_end(&mut preamble).map_err(ReadError::read(shown(path)))?;
    let magic = preamble.len().min(MAGIC.len());
    if preamble.is_empty() || preamble[..magic] != MAGIC[..magic] {
        return Err(ReadError::NotARecording { path: path.into() });
    }
    let Some(version) = preamble.get(8..12) else {
        return Err(ReadError::EndsBeforeHeader { path: path.into() });
    };
    let version = u32::from_le_bytes([version[0], version[1], version[2], version[3]]);
    match version {
        OLDEST_VERSION..=VERSION => Ok((version, preamble)),
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
