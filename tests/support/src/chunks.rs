//! Recordings taken apart and put together again with right checksums: what a hostile author can write, and what the
//! recorder would not.

use std::{fs, path::Path};

use overlay_trace_common::record::{HEADER_BYTES, HEADER_BYTES_BEFORE_6};
use overlay_trace_format::{
    RecordView, Recording, encode_record,
    format::{Chunk as Kind, MAGIC, PREAMBLE_BYTES, UNCOMPRESSED_MAX, checksum},
};
use serde_json::Value;

/// A chunk of a recording.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    pub kind: u32,
    pub payload: Vec<u8>,
}

/// A recording in parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parts {
    /// The magic and the version.
    pub preamble: Vec<u8>,
    pub chunks: Vec<Chunk>,
}

impl Parts {
    /// Takes a file apart, up to its first torn chunk. Checksums are not compared. Compressed records become ordinary ones:
    /// who changes them changes what is in them.
    pub fn of(file: &[u8]) -> Parts {
        let (preamble, mut rest) = file.split_at(file.len().min(PREAMBLE_BYTES as usize));
        let mut chunks = Vec::new();
        while let Some((chunk, next)) = take(rest) {
            chunks.push(uncompressed(chunk));
            rest = next;
        }
        Parts { preamble: preamble.to_vec(), chunks }
    }

    /// The file.
    pub fn bytes(&self) -> Vec<u8> {
        let mut file = self.preamble.clone();
        for Chunk { kind, payload } in &self.chunks {
            file.extend(kind.to_le_bytes());
            file.extend((payload.len() as u32).to_le_bytes());
            file.extend(payload);
            file.extend(checksum(*kind, payload).to_le_bytes());
        }
        file
    }

    /// Replaces texts of all JSON: `replace` gets the place of each (`header.stages.0.name`) and the text, and gives
    /// another one, or `None` to keep it.
    pub fn replace_texts(&mut self, replace: &mut dyn FnMut(&str, &str) -> Option<String>) {
        for chunk in &mut self.chunks {
            let Some(kind) = Kind::from_u32(chunk.kind).filter(|kind| !kind.has_records()) else {
                continue;
            };
            let Ok(mut value) = serde_json::from_slice(&chunk.payload) else { continue };
            replace_in(&mut value, kind.name(), replace);
            chunk.payload = serde_json::to_vec(&value).expect("a JSON value");
        }
    }
}

/// Rewrites a recording as a version before 6, whose records' headers were 8 bytes shorter: they had no witness.
pub fn write_before_version_6(path: &Path, version: u32) {
    assert!(version < 6, "{version} has witnesses");
    let mut parts = Parts::of(&fs::read(path).expect("the recording"));
    parts.preamble[MAGIC.len()..].copy_from_slice(&version.to_le_bytes());
    let mut records = Vec::new();
    let recording = Recording::open(path).expect("a recording");
    let encode = |record: RecordView<'_>| {
        let mut bytes = Vec::new();
        encode_record(&record.header, record.path, &mut bytes);
        bytes.drain(HEADER_BYTES_BEFORE_6..HEADER_BYTES);
        records.extend(bytes);
    };
    recording.for_each_record(encode).expect("whole records");
    // All are in the first chunk of records now.
    let mut records = Some(records);
    parts.chunks.retain_mut(|chunk| {
        chunk.kind != Kind::Records as u32 || records.take().map(|records| chunk.payload = records).is_some()
    });
    fs::write(path, parts.bytes()).expect("the recording is written");
}

/// Compressed records as ordinary ones; another chunk as it is.
fn uncompressed(chunk: Chunk) -> Chunk {
    if chunk.kind != Kind::CompressedRecords as u32 {
        return chunk;
    }
    let records =
        chunk.payload.get(4..).map(|frame| zstd::bulk::decompress(frame, UNCOMPRESSED_MAX as usize));
    match records {
        Some(Ok(payload)) => Chunk { kind: Kind::Records as u32, payload },
        _ => chunk,
    }
}

fn take(bytes: &[u8]) -> Option<(Chunk, &[u8])> {
    let (frame, rest) = bytes.split_at_checked(8)?;
    let word = |at: usize| u32::from_le_bytes([frame[at], frame[at + 1], frame[at + 2], frame[at + 3]]);
    let (payload, rest) = rest.split_at_checked(word(4) as usize)?;
    let (_, rest) = rest.split_at_checked(4)?;
    Some((Chunk { kind: word(0), payload: payload.to_vec() }, rest))
}

fn replace_in(value: &mut Value, place: &str, replace: &mut dyn FnMut(&str, &str) -> Option<String>) {
    match value {
        Value::String(text) => {
            if let Some(other) = replace(place, text) {
                *text = other;
            }
        }
        Value::Array(values) => {
            for (number, value) in values.iter_mut().enumerate() {
                replace_in(value, &format!("{place}.{number}"), replace);
            }
        }
        Value::Object(object) => {
            for (name, value) in object {
                replace_in(value, &format!("{place}.{name}"), replace);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}
