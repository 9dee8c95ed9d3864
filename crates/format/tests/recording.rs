//! The recording file: what is written is read again, and whatever happens to the file, the reader says
//! one clear sentence or uses all that is whole.

mod support;

use std::fs;

use overlay_trace_common::record::RecordHeader;
use overlay_trace_format::{
    Balance, Header, ProbeKind, ReadError, Recording, Writer,
    format::{self, OLDEST_VERSION, VERSION},
};
use overlay_trace_test_support::chunks::{Chunk, Parts, write_before_version_6};
use support::{checkpoint, header, later, record, write};
use tempfile::TempDir;

fn error(result: Result<impl Sized, impl Into<anyhow::Error>>) -> String {
    format!("{:#}", result.err().expect("an error was expected").into())
}

#[test]
fn what_is_written_is_read() {
    let dir = TempDir::new().unwrap();
    let recording = Recording::open(write(&dir, true)).unwrap();
    // What was seen later is no longer unseen.
    let mut expected = header();
    expected.unseen_stages.clear();
    (expected.stages[0].probe, expected.stages[0].exit) = (Some(ProbeKind::Kprobe), true);
    expected.seen_later = vec![later()];
    assert_eq!(recording.header, expected);
    assert_eq!(recording.hops[&1].device, "eth0");
    assert_eq!(recording.names.drop_reasons[&5], "NO_SOCKET");
    assert_eq!(recording.names.symbols[&7], "udp_rcv+1");
    assert_eq!(recording.traffic[0]["kind"], "rr");
    assert_eq!(recording.last, checkpoint(13));
    assert_eq!(recording.clocks.last().copied(), checkpoint(13).clocks);
    assert!(recording.complete);
    let mut id = 0;
    recording
        .for_each_record(|read| {
            let (header, way) = record(id);
            assert_eq!((read.header, read.path), (header, way.as_slice()));
            id += 1;
        })
        .unwrap();
    assert_eq!(id, 12);
}

/// Before version 6 a record's header was 8 bytes shorter.
#[test]
fn records_without_a_witness_are_read() {
    let dir = TempDir::new().unwrap();
    let path = write(&dir, true);
    write_before_version_6(&path, 5);
    let mut id = 0;
    Recording::open(&path)
        .unwrap()
        .for_each_record(|read| {
            let (header, way) = record(id);
            let header = RecordHeader { witness: 0, ..header };
            assert_eq!((read.header, read.path), (header, way.as_slice()));
            id += 1;
        })
        .unwrap();
    assert_eq!(id, 12);
}

#[test]
fn a_recording_that_was_cut_anywhere_is_read_up_to_there() {
    let dir = TempDir::new().unwrap();
    let path = write(&dir, true);
    let bytes = fs::read(&path).unwrap();
    let cut = dir.path().join("cut.otr");
    let mut most = 0;
    for length in 0..bytes.len() {
        fs::write(&cut, &bytes[..length]).unwrap();
        let recording = match Recording::open(&cut) {
            Ok(recording) => recording,
            Err(error) => {
                assert_eq!(most, 0, "{error:#}");
                assert!(error.to_string().contains(if length == 0 {
                    "not a recording"
                } else {
                    "ends before"
                }));
                assert!(match error {
                    ReadError::NotARecording { .. } => length == 0,
                    ReadError::EndsBeforeHeader { .. } => length > 0,
                    _ => false,
                });
                continue;
            }
        };
        assert!(!recording.complete);
        let mut records = 0;
        recording.for_each_record(|_| records += 1).unwrap();
        assert!(records >= most && records >= recording.last.counters.finished);
        most = records;
    }
    assert_eq!(most, 12);
}

#[test]
fn a_killed_recording_has_its_last_checkpoint() {
    let dir = TempDir::new().unwrap();
    let recording = Recording::open(write(&dir, false)).unwrap();
    assert!(!recording.complete);
    assert_eq!(recording.last, checkpoint(12));
}

#[test]
fn every_damaged_byte_is_noticed() {
    let dir = TempDir::new().unwrap();
    let bytes = fs::read(write(&dir, true)).unwrap();
    let damaged = dir.path().join("damaged.otr");
    for at in 0..bytes.len() {
        let mut copy = bytes.clone();
        copy[at] ^= 0x55;
        fs::write(&damaged, &copy).unwrap();
        match Recording::open(&damaged).and_then(|r| r.for_each_record(|_| ()).map(|()| r)) {
            // A length that points past the file's end looks like a file that was cut.
            Ok(recording) => assert!(!recording.complete, "byte {at}"),
            Err(error) => assert!(error.to_string().contains("damaged.otr"), "byte {at}: {error:#}"),
        }
    }
}

#[test]
fn foreign_and_newer_files_are_refused() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("x");
    fs::write(&path, "#!/bin/sh\n").unwrap();
    assert!(error(Recording::open(&path)).ends_with("is not a recording of overlay-trace"));
    assert!(matches!(Recording::open(&path), Err(ReadError::NotARecording { .. })));
    let mut bytes = fs::read(write(&dir, true)).unwrap();
    bytes[8] = 99;
    fs::write(&path, &bytes).unwrap();
    let said = format!(
        "the recording {} was made by a newer overlay-trace (format 99; this one reads {OLDEST_VERSION} to {VERSION}): \
         use that version to read it",
        path.display()
    );
    assert_eq!(error(Recording::open(&path)), said);
    assert!(matches!(Recording::open(&path), Err(ReadError::Newer { version: 99, .. })));
    bytes[8] = 1;
    fs::write(&path, &bytes).unwrap();
    assert!(error(Recording::open(&path)).contains("an older overlay-trace (format 1;"));
    assert!(matches!(Recording::open(&path), Err(ReadError::Older { version: 1, .. })));
    let missing = Recording::open(dir.path().join("missing"));
    assert!(matches!(missing, Err(ReadError::Open { .. })));
    // The operating system's reason follows.
    assert!(error(missing).contains("missing: No such file or directory"));
}

#[test]
fn a_recording_of_another_byte_order_is_refused() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("x.otr");
    let other = if cfg!(target_endian = "big") { "little" } else { "big" };
    Writer::create(&path, false, &Header { byte_order: other.into(), ..header() }).unwrap();
    assert!(error(Recording::open(&path)).contains(&format!("{other}-endian")));
    assert!(
        matches!(Recording::open(&path), Err(ReadError::ByteOrder { byte_order, .. }) if byte_order == other)
    );
}

#[test]
fn a_recording_can_come_through_a_pipe() {
    let dir = TempDir::new().unwrap();
    let bytes = fs::read(write(&dir, true)).unwrap();
    let pipe = dir.path().join("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let writing = pipe.clone();
    let writer = std::thread::spawn(move || fs::write(writing, bytes));
    let recording = Recording::open(&pipe).unwrap();
    writer.join().unwrap().unwrap();
    let mut records = 0;
    recording.for_each_record(|_| records += 1).unwrap();
    assert!(recording.complete && records == 12);
}

/// The balance of a recording whose chunks have been changed.
fn balance(change: impl FnOnce(&mut Vec<Chunk>)) -> Balance {
    let dir = TempDir::new().unwrap();
    let path = write(&dir, true);
    let mut parts = Parts::of(&fs::read(&path).unwrap());
    change(&mut parts.chunks);
    fs::write(&path, parts.bytes()).unwrap();
    let recording = Recording::open(&path).unwrap();
    let mut records = 0;
    recording.for_each_record(|_| records += 1).unwrap();
    recording.balance(records)
}

fn is(kind: format::Chunk) -> impl Fn(&Chunk) -> bool {
    move |chunk| chunk.kind == kind as u32
}

#[test]
fn records_that_are_missing_or_doubled_are_noticed() {
    let records = is(format::Chunk::Records);
    let first = |chunks: &[Chunk]| chunks.iter().position(&records).unwrap();
    // The last counters say 13, one of them lost.
    assert_eq!(balance(|_| ()), Balance::Even);
    assert_eq!(balance(|chunks| drop(chunks.remove(first(chunks)))), Balance::Missing(4));
    assert_eq!(
        balance(|chunks| {
            let first = first(chunks);
            chunks.insert(first, chunks[first].clone());
        }),
        Balance::Surplus(4)
    );
}

#[test]
fn without_counters_losses_are_unknown() {
    let is_counters =
        |chunk: &Chunk| is(format::Chunk::Checkpoint)(chunk) || is(format::Chunk::Footer)(chunk);
    assert_eq!(balance(|chunks| chunks.retain(|chunk| !is_counters(chunk))), Balance::Unknown);
    // Killed after its last checkpoint: there may be more records than it counted, but not fewer.
    assert_eq!(balance(|chunks| chunks.retain(|chunk| !is(format::Chunk::Footer)(chunk))), Balance::Even);
}

#[test]
fn an_impossible_header_is_refused() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("x.otr");
    let mut many = header();
    many.stages = vec![many.stages[0].clone(); 300];
    Writer::create(&path, false, &many).unwrap();
    assert!(error(Recording::open(&path)).contains("impossibly many"));
}

#[test]
fn an_existing_file_is_only_overwritten_by_force() {
    let dir = TempDir::new().unwrap();
    let path = write(&dir, true);
    let before = fs::read(&path).unwrap();
    assert!(error(Writer::create(&path, false, &header())).contains("--force"));
    assert_eq!(fs::read(&path).unwrap(), before);
    Writer::create(&path, true, &header()).unwrap();
    assert!(fs::read(&path).unwrap().len() < before.len());
}

#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "it needs the device /dev/full")]
fn a_full_disk_is_an_error() {
    let written = Writer::create("/dev/full", true, &header());
    assert!(error(written).contains("cannot write to the recording"));
    assert!(fs::metadata("/dev/full").is_ok());
}

#[test]
fn nothing_is_left_of_a_recording_that_could_not_be_begun() {
    let dir = TempDir::new().unwrap();
    // A disk on which the magic has room, and the header has not.
    let Ok(()) = nix::mount::mount(
        Some("none"),
        dir.path(),
        Some("tmpfs"),
        nix::mount::MsFlags::empty(),
        Some("size=4k"),
    ) else {
        eprintln!("skipped: mounting needs root");
        return;
    };
    let path = dir.path().join("a.otr");
    let long = Header { command: "x".repeat(10_000), ..header() };
    let written = error(Writer::create(&path, false, &long));
    let left = path.exists();
    nix::mount::umount(dir.path()).unwrap();
    assert!(written.contains("No space left") && !left, "{written}");
}
