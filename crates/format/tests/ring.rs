//! The last part of a recording that never ends.

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use overlay_trace_common::{path::Span, record::RecordHeader};
use overlay_trace_format::{
    Balance, Checkpoint, Counters, Header, HopName, RING_MIN, Recording, RingFolder, Writer, dump,
    encode_path, encode_record, segments,
};
use tempfile::TempDir;

/// One second of a recorder: so many packets, each with a record of some 50 KB, and a checkpoint.
fn second(writer: &mut Writer, number: u64, packets: u64) {
    for packet in 0..packets {
        let id = number * packets + packet + 1;
        // Times that do not get shorter by compression.
        let ns = |place: u64| (id * 12_000 + place).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 44;
        let span = |place| Span { ns: ns(place), hop: 1, stage: 1, ..Span::default() };
        let spans: Vec<Span> = (0..12_000).map(span).collect();
        let header = RecordHeader { id, end_ns: 12_000, ..RecordHeader::default() };
        let mut bytes = Vec::new();
        encode_record(&header, &encode_path(&spans), &mut bytes);
        writer.records(&bytes).unwrap();
    }
    let finished = (number + 1) * packets;
    let counters = Counters { started: finished + 2, finished, ..Counters::default() };
    let duration_ns = (number + 1) * 1_000_000_000;
    writer.checkpoint(&Checkpoint { duration_ns, counters, clocks: None }).unwrap();
}

fn ids(recording: &Recording) -> Vec<u64> {
    let mut ids = Vec::new();
    recording.for_each_record(|record| ids.push(record.header.id)).unwrap();
    ids
}

#[test]
fn the_last_packets_are_kept_and_written_out_as_one_recording() {
    let dir = TempDir::new().unwrap();
    let folder = dir.path().join("ring");
    let mut writer =
        Writer::create_ring(RingFolder::take(&folder, RING_MIN).unwrap(), &Header::new()).unwrap();
    writer
        .hops(&[(1, HopName { netns: "pod".into(), device: "eth0".into(), ..HopName::default() })])
        .unwrap();
    let another = RingFolder::take(&folder, RING_MIN).unwrap_err().to_string();
    assert!(another.contains("another monitor"), "{another}");
    for number in 0..100 {
        second(&mut writer, number, 4);
        assert!(writer.bytes() <= RING_MIN + (1 << 20), "{}", writer.bytes());
    }
    let there = segments(&folder);
    assert!((10..=17).contains(&there.len()), "{there:?}");
    let out = dir.path().join("out.otr");
    let (packets, duration_ns) = dump(&folder, &out, false).unwrap();
    let recording = Recording::open(&out).unwrap();
    let ids = ids(&recording);
    assert_eq!((ids.last(), ids.len() as u64), (Some(&400), packets));
    assert!(ids.windows(2).all(|two| two[0] + 1 == two[1]) && ids.len() > 100);
    assert_eq!(recording.balance(packets), Balance::Even);
    assert_eq!((recording.last.duration_ns, recording.last.counters.finished), (duration_ns, packets));
    assert_eq!(duration_ns, packets / 4 * 1_000_000_000);
    assert!(recording.complete && recording.hops[&1].netns == "pod");
    assert!(dump(dir.path(), &dir.path().join("none.otr"), false).is_err());
}

#[test]
fn a_recording_in_progress_is_followed() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("a.otr");
    let mut writer = Writer::create(&path, false, &Header::new()).unwrap();
    let mut recording = Recording::open(&path).unwrap();
    let mut seen = Vec::new();
    for number in 0..3 {
        second(&mut writer, number, 2);
        let new = recording.refresh().unwrap();
        recording.for_each_record_of(new, |record| seen.push(record.header.id)).unwrap();
        assert_eq!(recording.last.counters.finished, (number + 1) * 2);
    }
    assert_eq!(seen, [1, 2, 3, 4, 5, 6]);
    assert!(recording.refresh().unwrap().is_empty() && !recording.complete);
    writer.finish(&Checkpoint::default()).unwrap();
    assert!(recording.refresh().unwrap().is_empty() && recording.complete);
}

#[test]
fn on_a_full_disk_the_oldest_packets_make_room() {
    let dir = TempDir::new().unwrap();
    let disk = dir.path();
    if mount(Some("tmpfs"), disk, Some("tmpfs"), MsFlags::empty(), Some("size=4m")).is_err() {
        return eprintln!("skipped: mounting a file system needs root");
    }
    let folder = disk.join("ring");
    let mut writer =
        Writer::create_ring(RingFolder::take(&folder, RING_MIN).unwrap(), &Header::new()).unwrap();
    (0..100).for_each(|number| second(&mut writer, number, 4));
    assert!(writer.bytes() < 4 << 20, "{}", writer.bytes());
    drop(writer);
    let kept: Vec<Recording> =
        segments(&folder).iter().filter_map(|(_, path)| Recording::open(path).ok()).collect();
    let lost = kept.last().map(|last| last.last.counters.lost_records);
    let newest = kept.iter().flat_map(ids).max();
    drop(kept);
    umount2(disk, MntFlags::MNT_DETACH).unwrap();
    // What finds no room for the beginning of a segment is left out until the next checkpoint, and counted.
    assert!(newest > Some(390) && lost.is_some_and(|lost| lost < 100), "{newest:?} {lost:?}");
}
