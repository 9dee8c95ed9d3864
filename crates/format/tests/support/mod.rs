//! A small recording with every kind of chunk.

// Not every test file needs all of it.
#![allow(dead_code)]

use overlay_trace_common::{
    flags::RecordFlags,
    path::Span,
    record::{Flow, RecordHeader},
};
use overlay_trace_format::{
    Checkpoint, ClockReading, Counters, Header, HopName, Names, ProbeKind, SeenLater, UnseenStage, Writer,
    encode_path, encode_record,
};
use tempfile::TempDir;

pub fn header() -> Header {
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
pub fn later() -> SeenLater {
    let stage = header().stages[0].name.clone();
    SeenLater { stage, since_ns: 8, probe: ProbeKind::Kprobe, exit: true }
}

pub fn checkpoint(finished: u64) -> Checkpoint {
    let counters = Counters {
        started: finished,
        finished,
        // The last packet's record.
        lost_records: finished.saturating_sub(12),
        probe_misses: Some(7),
        ..Counters::default()
    };
    Checkpoint { duration_ns: finished * 1000, counters, clocks: Some(clocks(finished)) }
}

/// The clocks when so many packets had finished.
pub fn clocks(finished: u64) -> ClockReading {
    let (monotonic_ns, realtime_ns) = (finished * 1000, 1_700_000_000_000_000_000 + finished * 1000);
    ClockReading { monotonic_ns, realtime_ns, within_ns: 40, ..ClockReading::default() }
}

pub fn record(id: u64) -> (RecordHeader, Vec<u32>) {
    let segment =
        |n| Span { ns: 100 + n, hop: n as u16, level: 1, stage: n as u8 + 1, cpu: Some(n as u16 / 2) };
    let way = encode_path(&(0..id % 5).map(segment).collect::<Vec<_>>());
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
        flags: RecordFlags::CHILD,
        cpu: 11,
        weight: 12,
        witness: 13,
    };
    (header, way)
}

/// Writes it.
pub fn write(dir: &TempDir, finish: bool) -> std::path::PathBuf {
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
