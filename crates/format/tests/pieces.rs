//! Pieces of recordings, recordings that are joined, and recordings without what identifies.

mod support;

use std::{collections::HashMap, fs, path::Path};

use overlay_trace_common::{
    flags::RecordFlags,
    path::Span,
    record::{Flow, Outcome, RecordHeader},
};
use overlay_trace_format::{
    Anonymiser, Balance, Checkpoint, Counters, Detection, Growth, Header, HopName, Interface, KernelCounters,
    Machine, NetnsCounters, RecordView, Recording, Selection, ThrottledCgroup, Writer, cut, encode_path,
    encode_record, join,
};
use overlay_trace_test_support::chunks::Parts;
use serde_json::json;
use support::header;
use tempfile::TempDir;

const MS: u64 = 1_000_000;

/// A packet of this id that starts so many ms after `start_ns`, and takes as many µs as its id.
fn packet(id: u64, start_ns: u64, hop: u16) -> (RecordHeader, Vec<u32>) {
    let mut flow =
        Flow { protocol: 17, version: 4, source_port: id as u16, destination_port: 53, ..Flow::default() };
    flow.source[..4].copy_from_slice(&[10, 0, 0, id as u8]);
    flow.destination[..4].copy_from_slice(&[10, 0, 9, 9]);
    let ns = id * 1000;
    let header = RecordHeader {
        id,
        start_ns,
        end_ns: start_ns + ns,
        flow,
        bytes: 100,
        segments: 1,
        ..RecordHeader::default()
    };
    (header, encode_path(&[Span { ns, hop, level: 0, stage: 1, cpu: Some(0) }]))
}

/// Ten packets, a millisecond apart, in the namespaces `pod-0` and `pod-1` in turn; the last two are segments of the fifth.
fn write(path: &Path, start_ns: u64, change: impl FnOnce(&mut Header)) -> Recording {
    let mut header = Header { start_monotonic_ns: start_ns, ..header() };
    header.machine = Some(Machine { boot_id: "boot".into(), machine_id: "id".into(), ..Machine::default() });
    change(&mut header);
    let mut writer = Writer::create(path, false, &header).unwrap();
    let name = |pod: u32| HopName {
        netns: format!("pod-{pod}"),
        netns_inode: pod,
        device: "eth0".into(),
        ..HopName::default()
    };
    writer.hops(&[(3, name(0)), (4, name(1))]).unwrap();
    let mut bytes = Vec::new();
    for id in 1..=10 {
        let (mut header, path) = packet(id, start_ns + id * MS, 3 + (id % 2) as u16);
        match id {
            5 => {
                (header.outcome, header.segments, header.flags) =
                    (Outcome::Split as u8, 2, RecordFlags::PARENT)
            }
            9 | 10 => (header.parent, header.flags) = (5, RecordFlags::CHILD),
            _ => {}
        }
        encode_record(&header, &path, &mut bytes);
    }
    writer.records(&bytes).unwrap();
    let counters = Counters { started: 12, finished: 10, lost_records: 0, hits: 100, ..Counters::default() };
    writer.finish(&Checkpoint { duration_ns: 20 * MS, counters, clocks: None }).unwrap();
    Recording::open(path).unwrap()
}

fn records(recording: &Recording) -> Vec<RecordHeader> {
    let mut all = Vec::new();
    recording.for_each_record(|record: RecordView<'_>| all.push(record.header)).unwrap();
    all
}

fn ids(recording: &Recording) -> Vec<u64> {
    records(recording).iter().map(|header| header.id).collect()
}

/// The ids of a piece, which has to count its own records.
fn piece(selection: &Selection) -> Vec<u64> {
    let dir = TempDir::new().unwrap();
    let whole = write(&dir.path().join("a.otr"), 1000, |_| ());
    let path = dir.path().join("b.otr");
    let done = cut(&whole, selection, &path, false).unwrap();
    let piece = Recording::open(&path).unwrap();
    assert_eq!(done.bytes, fs::metadata(&path).unwrap().len());
    assert_eq!((done.records, done.of), (ids(&piece).len() as u64, 10));
    assert!(piece.complete);
    assert_eq!(piece.balance(done.records), Balance::Even);
    ids(&piece)
}

#[test]
fn a_piece_has_the_packets_that_are_asked_for_and_their_lineage() {
    assert_eq!(piece(&Selection::default()), (1..=10).collect::<Vec<_>>());
    // The third is in flight from 3 ms on; the segments come with the packet that was cut.
    let time = Selection { from_ns: Some(3 * MS), until_ns: Some(5 * MS), ..Selection::default() };
    assert_eq!(piece(&time), [3, 4, 5, 9, 10]);
    let of_pod = Selection { netns: Some("pod-0".into()), ..Selection::default() };
    assert_eq!(piece(&of_pod), [2, 4, 5, 6, 8, 9, 10]);
    let of_port =
        Selection { port: Some(7), protocol: Some(17), device: Some("eth0".into()), ..Selection::default() };
    assert_eq!(piece(&of_port), [7]);
    let of_address = Selection { address: Some("10.0.0.2".parse().unwrap()), ..Selection::default() };
    assert_eq!(piece(&of_address), [2]);
    // The segments' latency counts from the start of the packet that was cut.
    assert_eq!(piece(&Selection { slowest: Some(1), ..Selection::default() }), [5, 9, 10]);
    assert_eq!(piece(&Selection { slowest: Some(4), ..Selection::default() }), [5, 7, 8, 9, 10]);
}

#[test]
fn a_piece_says_its_own_time_and_an_empty_one_is_none() {
    let dir = TempDir::new().unwrap();
    let whole = write(&dir.path().join("a.otr"), 1000, |_| ());
    let path = dir.path().join("b.otr");
    let time = Selection { from_ns: Some(3 * MS), until_ns: Some(9 * MS), ..Selection::default() };
    cut(&whole, &time, &path, false).unwrap();
    let part = Recording::open(&path).unwrap();
    assert_eq!(part.header.start_monotonic_ns, 1000 + 3 * MS);
    assert_eq!(part.header.start_wall_ns - whole.header.start_wall_ns, 3 * MS);
    assert_eq!(part.last.duration_ns, 6 * MS);
    fs::remove_file(&path).unwrap();
    for (selection, said) in [
        (Selection { port: Some(9999), ..Selection::default() }, "no packet of the recording matches"),
        (
            Selection { netns: Some("x\n".into()), ..Selection::default() },
            "no network namespace x\\x0a in the recording",
        ),
        (Selection { device: Some("x".into()), ..Selection::default() }, "no device x in the recording"),
        (Selection { from_ns: Some(2), until_ns: Some(2), ..Selection::default() }, "ends before it begins"),
    ] {
        let error = cut(&whole, &selection, &path, false).unwrap_err().to_string();
        assert!(
            error.contains(said) || said == "ends before it begins" && error.contains("end before it begins"),
            "{error}"
        );
        assert!(!path.exists());
    }
}

#[test]
fn recordings_are_joined_in_the_order_of_time() {
    let dir = TempDir::new().unwrap();
    let at = |name: &str| dir.path().join(name);
    // The hops of the second have other numbers.
    let (first, second) = (write(&at("a.otr"), 1000, |_| ()), write(&at("b.otr"), 1000 + 50 * MS, |_| ()));
    let mut all = records(&first);
    all.extend(records(&second));
    let joined = join(vec![second, first], &at("c.otr"), false).unwrap();
    assert_eq!((joined.records, joined.gaps_ns), (20, 30 * MS));
    let whole = Recording::open(at("c.otr")).unwrap();
    assert_eq!((whole.last.duration_ns, whole.header.start_monotonic_ns), (70 * MS, 1000));
    assert_eq!((whole.last.counters.started, whole.last.counters.hits), (24, 200));
    assert_eq!((whole.balance(20), whole.complete, whole.hops.len()), (Balance::Even, true, 2));
    let mut ids = HashMap::new();
    for (read, written) in records(&whole).iter().zip(&all) {
        assert_eq!((read.start_ns, read.end_ns, read.flow), (written.start_ns, written.end_ns, written.flow));
        assert_eq!(ids.insert(read.id, read.parent), None, "ids are unique");
    }
    // Segments still know their packet.
    let parents = ids.values().filter(|parent| **parent != 0);
    assert!(parents.clone().count() == 4 && parents.clone().all(|parent| ids.contains_key(parent)));
    whole
        .for_each_record(|record| {
            for span in record.spans() {
                assert_eq!(
                    whole.hops[&span.hop].netns,
                    format!("pod-{}", record.header.flow.source_port % 2)
                );
            }
        })
        .unwrap();
}

#[test]
fn what_does_not_belong_together_is_not_joined() {
    let dir = TempDir::new().unwrap();
    let first = || write(&TempDir::new().unwrap().path().join("a.otr"), 1000, |_| ());
    let mut number = 0;
    let mut refused = |start_ns, change: fn(&mut Header)| {
        number += 1;
        let other = write(&dir.path().join(format!("{number}.otr")), start_ns, change);
        let path = dir.path().join("x.otr");
        let error = join(vec![first(), other], &path, false).unwrap_err().to_string();
        assert!(!path.exists());
        error
    };
    assert!(refused(1000 + 10 * MS, |_| ()).contains("overlap in time"));
    assert!(
        refused(1000 + 50 * MS, |header| header.node = "b".into())
            .contains("not of one start of one machine")
    );
    assert!(refused(1000 + 50 * MS, |header| header.machine = None).contains("not of one start"));
    assert!(refused(1000 + 50 * MS, |header| header.filter = "x".into()).contains("in different ways"));
    assert!(refused(1000 + 50 * MS, |header| header.sample = Some(64)).contains("in different ways"));
    assert!(
        refused(1000 + 50 * MS, |header| header.stages[1].name = "x".into()).contains("different versions")
    );
}

/// A word that nobody writes into a recording but this test.
const SECRET: &str = "secret-of-a-tenant";
/// Texts that are the program's or the kernel's own: by their beginning, and by their end.
const KEPT: [&str; 8] = [
    "header.overlay_trace",
    "header.kernel",
    "header.arch",
    "header.byte_order",
    "header.probe_set",
    "header.stages",
    "header.unseen_stages",
    "header.networks.0.name",
];
const KEPT_KEYS: [&str; 3] = [".kind", ".protocol", ".counter"];

/// A recording with texts wherever there can be some.
fn talkative(path: &Path) {
    let interface = Interface {
        device: "eth0".into(),
        mac: "52:54:00:12:34:56".into(),
        addresses: vec!["10.1.2.3".into()],
    };
    let machine = Machine {
        boot_id: "b".into(),
        machine_id: "m".into(),
        hypervisor: None,
        interfaces: vec![interface],
    };
    let network = Detection {
        name: "flannel".into(),
        details: "d".into(),
        evidence: vec!["e".into()],
        is_addition: false,
    };
    let header = Header {
        machine: Some(machine),
        networks: Some(vec![network]),
        filter: "netns a".into(),
        command: "overlay-trace record -- a".into(),
        ..header()
    };
    let mut writer = Writer::create(path, true, &header).unwrap();
    let hop = |netns: &str| HopName {
        netns: netns.into(),
        device: "veth1".into(),
        kind: "veth".into(),
        ..HopName::default()
    };
    writer.hops(&[(1, hop("pod")), (2, hop("guest / pod"))]).unwrap();
    let mut bytes = Vec::new();
    for id in 0..5 {
        let (header, way) = support::record(id);
        encode_record(&header, &way, &mut bytes);
    }
    writer.records(&bytes).unwrap();
    writer
        .traffic(&[json!({"kind": "rr", "protocol": "udp", "from": "10.0.0.1:5", "to": "pod.example"})])
        .unwrap();
    let growth = |device: &str| Growth { device: device.into(), counter: "c".into(), by: 1 };
    let group =
        ThrottledCgroup { cgroup: "/g".into(), commands: vec!["sh".into()], ..ThrottledCgroup::default() };
    let netns =
        NetnsCounters { netns: "pod".into(), grown: vec![growth("veth1")], ..NetnsCounters::default() };
    let counters = KernelCounters {
        node: vec![growth("eth0")],
        netns: vec![netns],
        throttled: vec![group],
        unread: vec!["u".into()],
        ..KernelCounters::default()
    };
    writer.kernel_counters(&counters).unwrap();
    writer.finish(&support::checkpoint(5)).unwrap();
}

#[test]
fn nothing_that_identifies_is_left() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("secret.otr");
    talkative(&path);
    let mut parts = Parts::of(&fs::read(&path).unwrap());
    let mut replaced = 0;
    parts.replace_texts(&mut |place, text| {
        let is_own = KEPT.iter().any(|kept| place.starts_with(kept))
            || KEPT_KEYS.iter().any(|key| place.ends_with(key));
        // A merged recording's names have the machine before a slash.
        let secret =
            || text.split(" / ").map(|part| format!("{SECRET}{part}")).collect::<Vec<_>>().join(" / ");
        replaced += u32::from(!is_own);
        (!is_own).then(secret)
    });
    assert!(replaced > 20, "{replaced}");
    fs::write(&path, parts.bytes()).unwrap();
    let (secret, other) = (Recording::open(&path).unwrap(), dir.path().join("other.otr"));
    Anonymiser::new().write(&secret, &other, false).unwrap();
    let mut left = Parts::of(&fs::read(&other).unwrap());
    left.replace_texts(&mut |place, text| {
        assert!(!text.contains(SECRET), "{place} has {text}");
        None
    });
    let (before, after) = (records(&secret), records(&Recording::open(&other).unwrap()));
    assert_eq!(before.len(), after.len());
    for (before, after) in before.iter().zip(&after) {
        assert_ne!((before.witness, before.drop_location), (after.witness, after.drop_location));
        let RecordHeader { flow, witness, drop_location, .. } = *before;
        let restored = RecordHeader { flow, witness, drop_location, ..*after };
        assert_eq!(restored, *before);
    }
}

#[test]
fn what_is_equal_in_two_recordings_stays_equal() {
    let dir = TempDir::new().unwrap();
    let at = |name: &str| dir.path().join(name);
    let named = |header: &mut Header| header.node = "a".into();
    let sources = [write(&at("a.otr"), 1000, named), write(&at("b.otr"), 1000 + 50 * MS, named)];
    let mut anonymiser = Anonymiser::new();
    let outputs = ["c.otr", "d.otr"].map(&at);
    for (source, output) in sources.iter().zip(&outputs) {
        anonymiser.write(source, output, false).unwrap();
    }
    let outputs = outputs.map(|path| Recording::open(path).unwrap());
    let flows =
        |recording: &Recording| records(recording).iter().map(|header| header.flow).collect::<Vec<_>>();
    assert_eq!(flows(&outputs[0]), flows(&outputs[1]));
    assert_ne!(flows(&sources[0]), flows(&outputs[0]));
    assert_eq!(outputs[0].hops, outputs[1].hops);
    assert_eq!(outputs[0].header.machine, outputs[1].header.machine);
    // They are still of one machine, and so can be joined.
    assert_eq!(join(outputs.into(), &at("e.otr"), false).unwrap().records, 20);
}
