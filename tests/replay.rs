//! A real recording, made on a real kernel, is reported as it always was: 50 requests each over UDP and TCP
//! through the lab flannel-vxlan, under Debian's kernel 6.12. After an intended change:
//! `BLESS=1 cargo test -p overlay-trace-tests`, then read the difference before it is committed.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use overlay_trace_analysis::breakdown::{Analysis, By, Collector};
use overlay_trace_analysis::report::{Format, Sort, TailFormat, report, tail};
use overlay_trace_analysis::tail::{Of, Tail, Threshold};
use overlay_trace_common::headers::IPPROTO_UDP;
use overlay_trace_format::{RecordView, Recording, extract};
use overlay_trace_test_support::golden;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).into()
}

fn recording() -> Recording {
    Recording::open(folder().join("recordings/flannel-vxlan-6.12.otr")).unwrap()
}

/// The recording without handshakes, acknowledgements and the two exchanges about what is to be sent: records of version 3
/// do not tell segments without data.
fn requests_alone(folder: &Path) -> Recording {
    const LONGEST_OTHER: u32 = 116;
    let path = folder.join("requests.otr");
    let recording = recording();
    let is_kept = |record: &RecordView<'_>| {
        record.header.flow.protocol == IPPROTO_UDP || record.header.bytes > LONGEST_OTHER
    };
    extract(&recording, is_kept, &path, &recording.header, &recording.traffic).unwrap();
    Recording::open(&path).unwrap()
}

fn check(name: &str, by: By, format: Format) {
    let output = report(&mut Analysis::of(&recording(), by).unwrap(), format, Sort::Path).unwrap();
    golden::check(name, &output);
}

#[test]
fn the_reports_are_the_known_ones() {
    check("replay.txt", By::Stage, Format::FullText);
    check("replay-layer.txt", By::Layer, Format::FullText);
    check("replay.folded", By::Stage, Format::Folded);
}

#[test]
fn the_slow_packets_are_explained_as_ever() {
    let slow = Tail::of(&recording(), Of::Packets, Threshold::Quantile(0.95), 1).unwrap();
    golden::check("replay-tail.txt", &tail(&slow, TailFormat::FullText).unwrap());
}

#[test]
fn requests_are_paired_with_their_answers() {
    let folder = tempfile::tempdir().unwrap();
    let recording = requests_alone(folder.path());
    let pairs = Tail::of(&recording, Of::Requests, Threshold::default(), 0).unwrap();
    let told = |report: &serde_json::Value, number: &str| report["latency"][number].as_f64().unwrap();
    let requests: f64 = recording.traffic.iter().map(|report| told(report, "count")).sum();
    let latency: f64 =
        recording.traffic.iter().map(|report| told(report, "count") * told(report, "mean")).sum();
    assert_eq!((pairs.slow.packets + pairs.ordinary.packets) as f64, requests);
    // What the client measured is this and its own part, before the send call and behind the read one.
    let seen = (pairs.slow.sum_ns + pairs.ordinary.sum_ns) as f64;
    assert!(seen < latency && seen > 0.8 * latency, "{seen} of {latency}");
}

#[test]
fn every_nanosecond_has_an_owner() {
    let recording = recording();
    let mut total = 0u128;
    let mut packets = 0;
    recording
        .for_each_record(|record| {
            let time = record.header.end_ns - record.header.start_ns;
            assert_eq!(record.spans().map(|step| step.ns).sum::<u64>(), time);
            total += u128::from(time);
            packets += 1;
        })
        .unwrap();
    for by in [By::Stage, By::Anywhere, By::Layer, By::Device, By::Level] {
        let analysis = Analysis::of(&recording, by).unwrap();
        assert_eq!(analysis.records, packets);
        assert_eq!(analysis.end_to_end.sum(), total);
        assert_eq!(analysis.rows.iter().map(|row| row.raw.sum()).sum::<u128>(), total);
        assert!(analysis.other_share() <= 0.1);
    }
}

#[test]
fn requests_take_the_known_way() {
    let recording = recording();
    let mut collector = Collector::new(&recording.header, &recording.hops, By::Stage);
    recording
        .for_each_record(|record| {
            if record.header.flow.destination_port == 7700 {
                collector.add(&record);
            }
        })
        .unwrap();
    let analysis = collector.finish(&recording.names);
    let parts: BTreeSet<_> = analysis
        .rows
        .iter()
        .filter_map(|row| Some((row.key.netns.as_deref()?, row.key.level?, row.key.direction?.name())))
        .collect();
    let expected = [
        ("ot-flannel-vxlan-pod1", 0, "egress"),
        ("ot-flannel-vxlan-node1", 0, "forward"),
        ("ot-flannel-vxlan-node1", 1, "egress"),
        ("ot-flannel-vxlan-node2", 1, "ingress"),
        ("ot-flannel-vxlan-node2", 0, "forward"),
        ("ot-flannel-vxlan-pod2", 0, "ingress"),
    ];
    assert_eq!(parts, BTreeSet::from(expected));
}

#[test]
fn the_recorded_traffic_is_in_the_records() {
    let recording = recording();
    let messages: u64 = recording
        .traffic
        .iter()
        .filter(|report| report["protocol"] == "udp")
        .filter_map(|report| Some(report["sent"].as_u64()? + report["received"].as_u64()?))
        .sum();
    let mut datagrams = 0;
    recording.for_each_record(|record| datagrams += u64::from(record.header.flow.protocol == 17)).unwrap();
    assert_eq!((messages, datagrams), (100, 100));
    assert_eq!(recording.last.counters.lost_records, 0);
    assert!(recording.complete);
}
