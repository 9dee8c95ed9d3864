//! The recording file: what is written is read again, and whatever happens to the file, the reader says
//! one clear sentence or uses all that is whole.

use std::{fs, path::Path};

use overlay_trace_analysis::breakdown::{Analysis, By};

use overlay_trace_analysis::report::{Format, Sort, report};

use overlay_trace_common::{
    path::Span,
    record::{Flow, RecordHeader},
};
use overlay_trace_format::{
    Checkpoint, Counters, Header, HopName, Names, ProbeKind, Recording, SeenLater, UnseenStage, Writer,
    encode_record, encode_way,
};
use proptest::prelude::*;
use tempfile::TempDir;

fn header() -> Header {
    let mut header = Header::new();
    // A short map keeps the file short: the tests below cut and damage it at every byte.
    header.stages.truncate(2);
    header.unseen_stages = vec![UnseenStage {
        stage: header.stages[0].name.clone(),
        reason: "needs module x".into(),
        module: Some("x".into()),
    }];
    Header { kernel: "6.12.1".into(), node: "a".into(), probe_set: "full".into(), ..header }
}

/// The first stage, when what it is in was loaded.
fn later() -> SeenLater {
    let stage = header().stages[0].name.clone();
    SeenLater { stage, since_ns: 8, probe: ProbeKind::Kprobe, exit: true }
}

fn checkpoint(finished: u64) -> Checkpoint {
    let counters = Counters { started: finished, finished, probe_misses: Some(7), ..Counters::default() };
    Checkpoint { duration_ns: finished * 1000, counters }
}

fn record(id: u64) -> (RecordHeader, Vec<u32>) {
    let segment =
        |n| Span { ns: 100 + n, hop: n as u16, level: 1, stage: n as u8 + 1, cpu: Some(n as u16 / 2) };
    let way = encode_way(&(0..id % 5).map(segment).collect::<Vec<_>>());
    let flow = Flow {
        source_port: 1,
        destination_port: 2,
        protocol: 17,
        version: 4,
        ip_id: 3,
        sequence: 4,
        ..Flow::default()
    };
    let header = RecordHeader {
        id,
        parent: 1,
        start_ns: 5,
        end_ns: 6,
        drop_location: 7,
        flow,
        bytes: 8,
        drop_reason: 9,
        segments: 10,
        path_len: way.len() as u16,
        outcome: 1,
        flags: overlay_trace_common::flags::RecordFlags::CHILD,
        cpu: 11,
        weight: 12,
    };
    (header, way)
}

/// A small recording with every kind of chunk.
fn write(dir: &TempDir, finish: bool) -> std::path::PathBuf {
    let path = dir.path().join("a.otr");
    let mut writer = Writer::create(&path, true, &header()).unwrap();
    writer
        .hops(&[(1, HopName { netns: "pod".into(), device: "eth0".into(), ..HopName::default() })])
        .unwrap();
    for round in 0..3 {
        let mut bytes = Vec::new();
        for id in round * 4..round * 4 + 4 {
            let (header, way) = record(id);
            encode_record(&header, &way, &mut bytes);
        }
        writer.records(&bytes).unwrap();
        writer.checkpoint(&checkpoint(round * 4 + 4)).unwrap();
    }
    writer.traffic(&[serde_json::json!({"kind": "rr"})]).unwrap();
    let names =
        Names { drop_reasons: [(5, "NO_SOCKET".into())].into(), symbols: [(7, "udp_rcv+1".into())].into() };
    writer.names(&names).unwrap();
    writer.later(&[later()]).unwrap();
    if finish {
        writer.finish(&checkpoint(13)).unwrap();
    }
    path
}

fn error(result: anyhow::Result<impl Sized>) -> String {
    format!("{:#}", result.err().expect("an error was expected"))
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
    assert!(recording.complete);
    let mut id = 0;
    recording
        .for_each_record(|read| {
            let (header, way) = record(id);
            assert_eq!((read.header, read.way), (header, way.as_slice()));
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
    let mut bytes = fs::read(write(&dir, true)).unwrap();
    bytes[8] = 99;
    fs::write(&path, &bytes).unwrap();
    assert!(error(Recording::open(&path)).contains("newer overlay-trace (format 99"));
    assert!(error(Recording::open(dir.path().join("missing"))).starts_with("cannot open the recording"));
}

#[test]
fn a_recording_of_another_byte_order_is_refused() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("x.otr");
    let other = if cfg!(target_endian = "big") { "little" } else { "big" };
    Writer::create(&path, false, &Header { byte_order: other.into(), ..header() }).unwrap();
    assert!(error(Recording::open(&path)).contains(&format!("{other}-endian")));
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
}

/// Reports a file in every way; what comes out does not matter, only that something does.
fn report_all(path: &Path) {
    let Ok(recording) = Recording::open(path) else { return };
    for by in [By::Stage, By::Anywhere, By::Layer, By::Device, By::Level] {
        let Ok(mut analysis) = Analysis::of(&recording, by) else { return };
        let rows: u128 = analysis.rows.iter().map(|row| row.raw.sum()).sum();
        assert_eq!(rows, analysis.end_to_end.sum());
        for format in [Format::Text, Format::Json, Format::Csv, Format::Folded, Format::Svg] {
            let _ = report(&mut analysis, format, Sort::Path);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn a_damaged_recording_is_reported_or_refused(
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        length in any::<prop::sample::Index>(), cut in any::<bool>(),
    ) {
        let dir = TempDir::new().unwrap();
        let path = write(&dir, true);
        let mut bytes = fs::read(&path).unwrap();
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] ^= byte;
        }
        if cut {
            bytes.truncate(length.index(bytes.len()));
        }
        fs::write(&path, bytes).unwrap();
        report_all(&path);
    }

    /// As a broken kernel side, or somebody with bad intentions, would write them: the checksums are right.
    #[test]
    fn any_words_are_reported_or_refused(
        words in prop::collection::vec(prop_oneof![any::<u64>(), 0..300u64], 0..400),
        header in any::<[u64; 13]>(), lengths in prop::collection::vec(0..40u16, 0..12),
        stages in 0..3usize, hop in any::<u16>(),
    ) {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("a.otr");
        let mut about = self::header();
        match stages {
            0 => about.stages.clear(),
            1 => about.stages = about.stages.iter().cycle().take(300).cloned().collect(),
            _ => {}
        }
        let mut writer = Writer::create(&path, true, &about).unwrap();
        writer.hops(&[(hop, HopName { netns: "pod".into(), ..HopName::default() })]).unwrap();
        let mut rest = words.iter();
        for length in lengths {
            // The words are any, the length is that of the way.
            let way: Vec<u32> = rest.by_ref().take(length.into()).map(|&word| word as u32).collect();
            let [id, parent, start_ns, end_ns, drop_location, bytes, drop_reason, segments, outcome, flags, cpu, ..] =
                header.map(|word| word.rotate_left(u32::from(length)));
            let header = RecordHeader {
                id, parent, start_ns, end_ns, drop_location, bytes: bytes as u32, drop_reason: drop_reason as u32,
                segments: segments as u16, outcome: outcome as u8 % 6, flags: overlay_trace_common::flags::RecordFlags::from_bits(flags as u8), cpu: cpu as u16,
                ..RecordHeader::default()
            };
            let mut bytes = Vec::new();
            encode_record(&header, &way, &mut bytes);
            writer.records(&bytes).unwrap();
        }
        // What is left is no record at all.
        let bytes: Vec<u8> = rest.flat_map(|word| word.to_ne_bytes()).collect();
        writer.records(&bytes).unwrap();
        writer.finish(&checkpoint(1)).unwrap();
        report_all(&path);
    }
}
