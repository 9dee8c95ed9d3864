//! Chunks of records: compressed by the writer, and read back within bounds that the file cannot move.

use std::{
    fs::File,
    io::{self, Read},
    os::unix::fs::FileExt,
    path::Path,
};

use zstd::bulk::{Compressor, Decompressor};

use super::{
    ReadError,
    error::shown,
    format::{Chunk, UNCOMPRESSED_MAX, checksum},
    records::bytes_of,
};

/// zstd's fastest ordinary level: the recorder shares its processors with the traffic that it measures.
const LEVEL: i32 = 1;

/// Bytes of the uncompressed length that stands before the zstd frame.
const LENGTH_BYTES: usize = 4;

/// Compresses chunks of records.
pub(super) struct Deflater(Compressor<'static>);

impl Deflater {
    /// # Errors
    ///
    /// No memory.
    pub fn new() -> io::Result<Deflater> {
        Compressor::new(LEVEL).map(Deflater)
    }

    /// Appends the payload of a [`Chunk::CompressedRecords`] to `out`. Returns false, and appends nothing, where these
    /// records have to be stored as they are: readers would refuse them, or they do not get shorter.
    pub fn append(&mut self, records: &[u8], out: &mut Vec<u8>) -> bool {
        let Some(length) = u32::try_from(records.len()).ok().filter(|length| *length <= UNCOMPRESSED_MAX)
        else {
            return false;
        };
        let start = out.len();
        let frame = start + LENGTH_BYTES;
        out.extend(length.to_le_bytes());
        out.resize(start + records.len(), 0);
        let written = out.get_mut(frame..).map(|room| self.0.compress_to_buffer(records, room));
        // What does not get shorter does not fit.
        let Some(Ok(written)) = written else {
            out.truncate(start);
            return false;
        };
        out.truncate(frame + written);
        true
    }
}

/// Where a chunk of records is in the file.
#[derive(Clone, Copy, Debug)]
pub(super) struct RecordsChunk {
    kind: Chunk,
    /// The payload's first byte.
    pub at: u64,
    /// Bytes of the payload.
    length: u32,
    /// Bytes of the records.
    pub uncompressed: u32,
}

impl RecordsChunk {
    /// The chunk that begins at byte `at`, with the input behind its kind and length; `None` for impossible lengths.
    ///
    /// # Errors
    ///
    /// The input cannot be read.
    pub fn find(
        kind: Chunk,
        input: &mut impl Read,
        at: u64,
        length: u32,
    ) -> io::Result<Option<RecordsChunk>> {
        let mut uncompressed = length;
        if kind == Chunk::CompressedRecords {
            let mut bytes = [0; LENGTH_BYTES];
            if (length as usize) < bytes.len() {
                return Ok(None);
            }
            input.read_exact(&mut bytes)?;
            uncompressed = u32::from_le_bytes(bytes);
            if uncompressed > UNCOMPRESSED_MAX {
                return Ok(None);
            }
        }
        // Frames begin behind kind and length.
        let chunk = RecordsChunk { kind, at: at + 8, length, uncompressed };
        Ok(uncompressed.is_multiple_of(8).then_some(chunk))
    }
}

/// Reads chunks of records, one after the other, into the same memory.
#[derive(Default)]
pub(super) struct Inflater {
    words: Vec<u64>,
    /// A compressed chunk's payload and checksum.
    stored: Vec<u8>,
    decompressor: Option<Decompressor<'static>>,
}

impl Inflater {
    /// The records of a chunk. No more memory is taken than the length that was checked, whatever the frame says.
    ///
    /// # Errors
    ///
    /// The file cannot be read; the checksum, the frame or its length is wrong.
    pub fn words(&mut self, file: &File, path: &Path, chunk: &RecordsChunk) -> Result<&[u64], ReadError> {
        let damaged = |what: &str| ReadError::Damaged { path: path.into(), at: chunk.at, what: what.into() };
        let reading = || ReadError::read(format!("the recording {}", shown(path)));
        let uncompressed = chunk.uncompressed as usize;
        // A checksum stands behind records that are not compressed.
        self.words.resize(uncompressed / 8 + 1, 0);
        let words = bytes_of(&mut self.words);
        let is_compressed = chunk.kind == Chunk::CompressedRecords;
        self.stored.resize(if is_compressed { chunk.length as usize + 4 } else { 0 }, 0);
        let stored = if is_compressed { &mut self.stored } else { &mut words[..uncompressed + 4] };
        file.read_exact_at(stored, chunk.at).map_err(reading())?;
        let (payload, crc) = stored.split_at(chunk.length as usize);
        if crc != checksum(chunk.kind as u32, payload).to_le_bytes() {
            return Err(damaged("the checksum of a chunk of records does not match"));
        }
        if is_compressed {
            let decompressor = match &mut self.decompressor {
                Some(decompressor) => decompressor,
                none => none.insert(Decompressor::new().map_err(reading())?),
            };
            let records = &mut bytes_of(&mut self.words)[..uncompressed];
            let written =
                decompressor.decompress_to_buffer(&self.stored[LENGTH_BYTES..chunk.length as usize], records);
            if written.ok() != Some(uncompressed) {
                return Err(damaged("a chunk of records cannot be decompressed to the length that it says"));
            }
        }
        Ok(&self.words[..uncompressed / 8])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_get_shorter_or_is_too_long_is_stored_as_it_is() {
        let mut deflater = Deflater::new().unwrap();
        let mut out = vec![7];
        for records in [&[][..], &[1, 2, 3, 4, 5, 6, 7, 8], &vec![0; UNCOMPRESSED_MAX as usize + 8]] {
            assert!(!deflater.append(records, &mut out));
            assert_eq!(out, [7]);
        }
        assert!(deflater.append(&[0; 4096], &mut out));
        assert!(out.len() < 100 && out[1..5] == 4096u32.to_le_bytes());
    }
}
