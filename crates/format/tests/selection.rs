//! A part of a recording's packets, by their pods.

use overlay_trace_common::{flags::RecordFlags, path::Span, record::RecordHeader};
use overlay_trace_format::{
    Balance, Checkpoint, Counters, Header, HopName, Pod, PodFilter, Recording, Writer, encode_path,
    encode_record,
};
use tempfile::TempDir;

#[test]
fn a_part_by_pods_has_their_packets_and_lineages() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("pods.otr");
    let mut writer = Writer::create(&path, false, &Header::new()).unwrap();
    let hop = |number: u16, pod: &str| {
        let pod = Pod { namespace: "default".into(), name: pod.into(), ..Pod::default() };
        (number, HopName { netns: pod.shown(), pod: Some(pod), ..HopName::default() })
    };
    writer.hops(&[hop(1, "a"), hop(2, "b")]).unwrap();
    let mut bytes = Vec::new();
    // 1 passes a and is cut into 2, which only passes b; 3 is another one's at b, 4 at a.
    for (id, parent, hop, flags) in [
        (1, 0, 1, RecordFlags::PARENT),
        (2, 1, 2, RecordFlags::CHILD),
        (3, 0, 2, RecordFlags::NONE),
        (4, 0, 1, RecordFlags::NONE),
    ] {
        let header = RecordHeader { id, parent, end_ns: 10, flags, ..RecordHeader::default() };
        let path = encode_path(&[Span { ns: 10, hop, stage: 1, ..Span::default() }]);
        encode_record(&header, &path, &mut bytes);
    }
    writer.records(&bytes).unwrap();
    let counters = Counters { started: 6, finished: 5, lost_records: 1, hits: 8, ..Counters::default() };
    writer.finish(&Checkpoint { counters, ..Checkpoint::default() }).unwrap();
    let ids = |pod: &str| {
        let mut recording = Recording::open(&path).unwrap();
        let filter = PodFilter { pod: vec![pod.into()], ..PodFilter::default() };
        let is_wanted = |hop: &HopName| hop.pod.as_ref().is_some_and(|pod| filter.has(pod));
        let is_any = recording.select(&filter.to_string(), is_wanted).unwrap();
        let mut ids = Vec::new();
        recording.for_each_record(|record| ids.push(record.header.id)).unwrap();
        assert_eq!(recording.balance(ids.len() as u64), Balance::Even);
        assert_eq!(recording.header.filter, format!("pod {pod}"));
        (is_any, ids, recording.last.counters.finished)
    };
    assert_eq!(ids("default/a"), (true, vec![1, 2, 4], 4));
    assert_eq!(ids("b"), (true, vec![1, 2, 3], 4));
    assert_eq!(ids("c"), (false, vec![], 1));
}
