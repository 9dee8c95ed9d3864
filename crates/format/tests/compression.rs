//! Records are compressed. Whoever wrote a file need not be trusted: no chunk takes more memory than readers allow.

mod support;

use std::{fs, path::PathBuf};

use overlay_trace_format::{
    ReadError, RecordView, Recording, Writer, encode_record,
    format::{Chunk, MAGIC, UNCOMPRESSED_MAX, checksum},
};
use overlay_trace_test_support::chunks::Parts;
use proptest::prelude::*;
use support::{header, record, write};
use tempfile::TempDir;

/// A recording whose only records are this chunk, with a right checksum.
fn with_chunk(dir: &TempDir, kind: Chunk, payload: &[u8]) -> PathBuf {
    let path = dir.path().join("hostile.otr");
    Writer::create(&path, true, &header()).unwrap();
    let mut bytes = fs::read(&path).unwrap();
    bytes.extend((kind as u32).to_le_bytes());
    bytes.extend((payload.len() as u32).to_le_bytes());
    bytes.extend(payload);
    bytes.extend(checksum(kind as u32, payload).to_le_bytes());
    fs::write(&path, bytes).unwrap();
    path
}

/// A chunk of compressed records that says another length than they may have.
fn frame(records: &[u8], length: u32) -> Vec<u8> {
    [&length.to_le_bytes()[..], &zstd::bulk::compress(records, 1).unwrap()].concat()
}

fn records() -> Vec<u8> {
    let mut bytes = Vec::new();
    for id in 0..20 {
        let (header, path) = record(id);
        encode_record(&header, &path, &mut bytes);
    }
    bytes
}

fn count(path: &PathBuf) -> Result<u64, ReadError> {
    let mut count = 0;
    Recording::open(path)?.for_each_record(|_| count += 1)?;
    Ok(count)
}

#[test]
fn a_compressed_chunk_is_read() {
    let dir = TempDir::new().unwrap();
    let records = records();
    let path = with_chunk(&dir, Chunk::CompressedRecords, &frame(&records, records.len() as u32));
    assert_eq!(count(&path).unwrap(), 20);
    assert_eq!(Recording::open(&path).unwrap().chunk_bytes(), [records.len() as u64]);
}

#[test]
fn hostile_chunks_are_refused_in_a_sentence() {
    let dir = TempDir::new().unwrap();
    let (few, bomb) = (records(), vec![0; UNCOMPRESSED_MAX as usize + 8]);
    let length = few.len() as u32;
    let cases = [
        // A bomb that says what it is, and bombs that say something else.
        ("impossible length", frame(&bomb, bomb.len() as u32)),
        ("cannot be decompressed", frame(&bomb, 8)),
        ("cannot be decompressed", frame(&bomb, UNCOMPRESSED_MAX)),
        // Longer and shorter than it says, and no multiple of a word.
        ("cannot be decompressed", frame(&few, length - 8)),
        ("cannot be decompressed", frame(&few, length + 8)),
        ("impossible length", frame(&few, length - 1)),
        // No frame, a part of one, two of them, no length.
        ("cannot be decompressed", [&length.to_le_bytes()[..], &few].concat()),
        ("cannot be decompressed", frame(&few, length)[..40].to_vec()),
        ("cannot be decompressed", [frame(&few, length), frame(&few, length)[4..].to_vec()].concat()),
        ("impossible length", vec![1, 0, 0]),
    ];
    for (number, (expected, payload)) in cases.into_iter().enumerate() {
        let path = with_chunk(&dir, Chunk::CompressedRecords, &payload);
        let said = count(&path).expect_err(&format!("case {number}")).to_string();
        assert!(
            said.contains(expected) && said.contains("hostile.otr is damaged at byte"),
            "{number}: {said}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    /// Whatever a frame with a right checksum holds: records, or a sentence.
    #[test]
    fn no_frame_gets_the_reader_off_its_feet(at in any::<prop::sample::Index>(), value in any::<u8>(), cut in 0..9usize) {
        let dir = TempDir::new().unwrap();
        let records = records();
        let mut payload = frame(&records, records.len() as u32);
        payload.truncate(payload.len() - cut);
        let at = at.index(payload.len());
        payload[at] = value;
        let _ = count(&with_chunk(&dir, Chunk::CompressedRecords, &payload));
    }
}

#[test]
fn records_that_cannot_be_compressed_are_stored_as_they_are() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("a.otr");
    let mut writer = Writer::create(&path, true, &header()).unwrap();
    let (header, way) = record(0);
    let mut bytes = Vec::new();
    // More at once than readers would decompress.
    while bytes.len() <= UNCOMPRESSED_MAX as usize {
        encode_record(&header, &way, &mut bytes);
    }
    writer.records(&bytes).unwrap();
    drop(writer);
    assert!(fs::metadata(&path).unwrap().len() > bytes.len() as u64);
    let mut each = Vec::new();
    encode_record(&header, &way, &mut each);
    assert_eq!(count(&path).unwrap(), (bytes.len() / each.len()) as u64);
}

/// Up to version 6 records were not compressed.
#[test]
fn a_recording_of_version_6_is_read() {
    let dir = TempDir::new().unwrap();
    let path = write(&dir, true);
    let read = |path: &PathBuf| {
        let mut all = Vec::new();
        let keep = |record: RecordView<'_>| all.push((record.header, record.path.to_vec()));
        Recording::open(path).unwrap().for_each_record(keep).unwrap();
        all
    };
    let now = read(&path);
    let mut parts = Parts::of(&fs::read(&path).unwrap());
    assert!(parts.chunks.iter().all(|chunk| chunk.kind != Chunk::CompressedRecords as u32));
    parts.preamble[MAGIC.len()..].copy_from_slice(&6u32.to_le_bytes());
    fs::write(&path, parts.bytes()).unwrap();
    assert_eq!(read(&path), now);
    assert_eq!(now.len(), 12);
}
