//! The slow packets compared with the ordinary ones: what holds for any recording, and the names of known causes.

#[path = "tail/causes.rs"]
mod causes;
#[path = "tail/counters.rs"]
mod counters;
#[path = "tail/drops.rs"]
mod drops;
#[path = "tail/requests.rs"]
mod requests;
mod support;
#[path = "tail/tcp.rs"]
mod tcp;

use std::path::Path;

use overlay_trace_analysis::{
    report::{self, TailFormat},
    tail::{Of, Tail, TailRow, Threshold},
};
use overlay_trace_common::{
    flags::RecordFlags,
    path::Span,
    record::{Outcome, RecordHeader},
};
use overlay_trace_format::{
    Checkpoint, Header, HopName, Names, Recording, Writer, encode_path, encode_record,
};
use proptest::prelude::*;
use tempfile::TempDir;

type Record = (RecordHeader, Vec<Span>);

/// Writes a recording and opens it.
fn recording(
    dir: &Path,
    header: &Header,
    hops: &[(u16, HopName)],
    names: &Names,
    records: &[Record],
) -> Recording {
    let path = dir.join("a.otr");
    let mut writer = Writer::create(&path, true, header).unwrap();
    writer.hops(hops).unwrap();
    writer.names(names).unwrap();
    for (header, way) in records {
        let mut bytes = Vec::new();
        encode_record(header, &encode_path(way), &mut bytes);
        writer.records(&bytes).unwrap();
    }
    writer.finish(&Checkpoint::default()).unwrap();
    Recording::open(&path).unwrap()
}

fn of_fixture(dir: &Path, records: &[Record], threshold: Threshold, packets: usize) -> Tail {
    let recording = recording(dir, &support::header(), &support::hops(), &Names::default(), records);
    Tail::of(&recording, Of::Packets, threshold, packets).unwrap()
}

/// What holds for every comparison.
fn assert_conserved(tail: &Tail) {
    let sum = |of: &dyn Fn(&TailRow) -> i128| tail.rows.iter().map(of).sum::<i128>();
    assert_eq!(sum(&|row| row.slow_ns), tail.slow.mean_ns);
    assert_eq!(sum(&|row| row.ordinary_ns), tail.ordinary.mean_ns);
    assert_eq!(sum(&|row| row.excess_ns()), tail.excess_ns());
    assert_eq!(tail.rows.iter().map(|row| row.slow_sum_ns).sum::<u128>(), tail.slow.sum_ns);
    assert_eq!(tail.rows.iter().map(|row| row.ordinary_sum_ns).sum::<u128>(), tail.ordinary.sum_ns);
    assert_eq!(tail.rows.iter().map(|row| row.dominant).sum::<u64>(), tail.slow.packets);
    assert!(tail.rows.is_sorted_by_key(|row| std::cmp::Reverse(row.excess_ns())));
    for packet in &tail.slowest {
        assert!(packet.ns > tail.threshold_ns);
        let mut at_ns = 0;
        for step in &packet.steps {
            assert_eq!(step.at_ns, at_ns);
            at_ns += step.ns;
        }
        assert_eq!(at_ns, packet.ns);
    }
}

prop_compose! {
    fn segments()(
        parts in prop::collection::vec((0..22u8, 0..3u8, 0..10u16, 1u64..1 << 34, 0..34u32), 1..25)
    ) -> Vec<Span> {
        let segment = |(stage, level, hop, ns, less): (u8, u8, u16, u64, u32)| {
            let cpu = (ns % 4).checked_sub(1).map(|cpu| cpu as u16);
            Span { ns: ns >> less, hop, level, stage, cpu }
        };
        parts.into_iter().map(segment).collect()
    }
}

/// A packet's path, those of the packets that were made of it, and whether it was segmented.
type Family = (Vec<Span>, Vec<Vec<Span>>, bool);

/// A packet without children, a segmented one, or one that was cloned on its path.
fn family() -> impl Strategy<Value = Family> {
    (segments(), prop::collection::vec(segments(), 0..4), any::<bool>())
}

/// Records of families, and the time of each of their packets, ns.
fn records(families: &[Family]) -> (Vec<Record>, Vec<u64>) {
    let (mut records, mut times) = (Vec::new(), Vec::new());
    let mut id = 0;
    for (at, (way, children, is_cut)) in families.iter().enumerate() {
        id += 1;
        let is_cut = *is_cut && !children.is_empty();
        let outcome = if is_cut { Outcome::Split } else { Outcome::Delivered };
        let mut parent = support::record(id, 1000 * at as u64, way, outcome);
        if !children.is_empty() {
            parent.flags |= RecordFlags::PARENT;
            parent.segments = children.len() as u16;
        }
        let ns = parent.end_ns - parent.start_ns;
        times.extend((!is_cut).then_some(ns));
        for way in children {
            // A segment starts when its packet is segmented, a clone at any moment.
            let made_after = if is_cut { ns } else { ns / 3 };
            id += 1;
            let mut child = support::record(id, parent.start_ns + made_after, way, Outcome::Delivered);
            (child.flags, child.parent) = (RecordFlags::CHILD, parent.id);
            times.push(child.end_ns - parent.start_ns);
            records.push((child, way.clone()));
        }
        // Records come at the paths' ends, in any order.
        let place = if at % 2 == 0 { records.len() } else { records.len() - children.len() };
        records.insert(place, (parent, way.clone()));
    }
    (records, times)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn rows_add_up_to_the_difference(families in prop::collection::vec(family(), 1..40), part in 0.0..1.0f64) {
        let dir = TempDir::new().unwrap();
        let (records, mut times) = records(&families);
        let tail = of_fixture(dir.path(), &records, Threshold::Quantile(part), 5);
        assert_conserved(&tail);
        let all: u128 = times.iter().map(|&ns| u128::from(ns)).sum();
        prop_assert_eq!(tail.slow.sum_ns + tail.ordinary.sum_ns, all);
        prop_assert_eq!(tail.slow.packets + tail.ordinary.packets, times.len() as u64);
        prop_assert_eq!(tail.analysis.latency.sum(), all);
        let slow = times.iter().filter(|&&ns| ns > tail.threshold_ns);
        prop_assert_eq!(tail.slow.packets, slow.count() as u64);
        prop_assert!(tail.slow.packets >= 1);
        times.sort_unstable_by_key(|&ns| std::cmp::Reverse(ns));
        let slowest: Vec<u64> = tail.slowest.iter().map(|packet| packet.ns).collect();
        let expected = 5.min(tail.slow.packets as usize);
        prop_assert_eq!(slowest, &times[..expected]);
    }
}

prop_compose! {
    /// A record of a damaged recording, with arbitrary times and relatives.
    fn wild()(
        way in segments(), id in 0..20u64, times in any::<(u64, u64)>(), flags in any::<u8>(),
        outcome in 0..7u8, parts in any::<u16>(), ports in (0..3u16, 0..3u16), sequence in 0..3u32,
    ) -> Record {
        let mut header = support::record(id, times.0, &[], Outcome::Delivered);
        (header.end_ns, header.parent, header.flags) = (times.1, id / 2, RecordFlags::from_bits(flags));
        (header.outcome, header.segments) = (outcome, parts);
        (header.flow.source_port, header.flow.destination_port) = ports;
        (header.flow.version, header.flow.protocol, header.flow.sequence) = (4, 6, sequence);
        (header, way)
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn a_damaged_recording_is_read_to_its_end(records in prop::collection::vec(wild(), 1..40)) {
        let dir = TempDir::new().unwrap();
        let recording =
            recording(dir.path(), &support::header(), &support::hops(), &Names::default(), &records);
        for of in [Of::Packets, Of::Requests, Of::Flows] {
            let tail = Tail::of(&recording, of, Threshold::Quantile(0.8), 3).unwrap();
            let sum: i128 = tail.rows.iter().map(|row| row.excess_ns()).sum();
            prop_assert_eq!(sum, tail.excess_ns());
            for format in [TailFormat::Text, TailFormat::Json, TailFormat::Folded, TailFormat::Html] {
                prop_assert!(!report::tail(&tail, format).unwrap().is_empty() || tail.rows.is_empty());
            }
        }
    }
}

#[test]
fn a_segment_inherits_the_path_of_its_packet() {
    let segment = |name, ns| Span { ns, hop: 2, level: 0, stage: support::stage(name), cpu: None };
    let cut = [segment("ip-rcv", 1000), segment("dev-queue-xmit", 500)];
    let part = [segment("driver-xmit", 70)];
    let dir = TempDir::new().unwrap();
    let families = [(cut.to_vec(), vec![part.to_vec(), part.to_vec()], true), (part.to_vec(), vec![], false)];
    let tail = of_fixture(dir.path(), &records(&families).0, Threshold::Time(1000), 1);
    assert_eq!((tail.slow.packets, tail.slow.mean_ns), (2, 1570));
    assert_eq!((tail.ordinary.packets, tail.ordinary.mean_ns), (1, 70));
    let steps: Vec<(&str, u64)> =
        tail.slowest[0].steps.iter().map(|step| (step.key.stage.as_deref().unwrap(), step.ns)).collect();
    assert_eq!(steps, [("ip-rcv", 1000), ("dev-queue-xmit", 500), ("driver-xmit", 70)]);
}

#[test]
fn a_recording_without_slow_or_ordinary_packets_says_so() {
    let dir = TempDir::new().unwrap();
    let way = vec![Span { ns: 700, hop: 2, level: 0, stage: support::stage("ip-rcv"), cpu: None }];
    let one = [(support::record(1, 0, &way, Outcome::Delivered), way)];
    for (records, threshold, words) in [
        (&one[..0], Threshold::default(), "No packet finished its path"),
        (&one[..], Threshold::Time(700), "None of 1 packets took longer than 700ns"),
        (&one[..], Threshold::default(), "there are no others"),
    ] {
        let tail = of_fixture(dir.path(), records, threshold, 1);
        let text = report::tail(&tail, TailFormat::FullText).unwrap();
        let text = String::from_utf8(text).unwrap();
        assert!(text.lines().next().unwrap().contains(words), "{text}");
        assert!(!tail.is_comparison() && tail.findings.is_empty());
    }
}
