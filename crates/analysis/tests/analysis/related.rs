//! Packets that were made of others: what they share, what they wait for, and what is given up.

use std::collections::BTreeMap;

use overlay_trace_analysis::breakdown::{Analysis, By, Collector, Row};

use overlay_trace_common::{
    flags::RecordFlags,
    path::Span,
    record::{Outcome, RecordHeader},
};
use overlay_trace_format::{Header, HopName, Names, RecordView, encode_path};
use proptest::prelude::*;

use super::support;

type Record = (RecordHeader, Vec<Span>);

fn collect(records: &[Record]) -> Collector {
    let mut collector = Collector::new(&header(), &hops(), By::Stage);
    records
        .iter()
        .for_each(|(header, way)| collector.add(&RecordView { header: *header, path: &encode_path(way) }));
    collector
}

fn analyse(records: &[Record]) -> Analysis {
    collect(records).finish(&Names::default())
}

fn header() -> Header {
    support::header()
}

fn hops() -> BTreeMap<u16, HopName> {
    support::hops().into_iter().collect()
}

fn way(steps: &[(&str, u64)]) -> Vec<Span> {
    steps
        .iter()
        .map(|&(name, ns)| Span { ns, hop: 2, level: 0, stage: support::stage(name), cpu: None })
        .collect()
}

fn record(id: u64, start_ns: u64, steps: &[(&str, u64)], outcome: Outcome) -> Record {
    let way = way(steps);
    (support::record(id, start_ns, &way, outcome), way)
}

fn cut(id: u64, parts: u16, steps: &[(&str, u64)]) -> Record {
    let (header, way) = record(id, 1000, steps, Outcome::Split);
    (RecordHeader { flags: RecordFlags::PARENT, segments: parts, ..header }, way)
}

fn part(id: u64, parent: u64, bytes: u32, steps: &[(&str, u64)]) -> Record {
    let (header, way) = record(id, 2000, steps, Outcome::Freed);
    (RecordHeader { parent, bytes, flags: RecordFlags::CHILD, ..header }, way)
}

fn total(records: &[Record]) -> u128 {
    records.iter().map(|(header, _)| u128::from(header.end_ns - header.start_ns)).sum()
}

fn sums(analysis: &Analysis) -> u128 {
    analysis.rows.iter().map(|row| row.raw.sum()).sum()
}

/// Name of stage, packets, sum.
fn rows(analysis: &Analysis) -> Vec<(String, u64, u128)> {
    let row = |row: &Row| (row.key.stage.clone().unwrap(), row.raw.count(), row.raw.sum());
    let mut rows: Vec<_> = analysis.rows.iter().map(row).collect();
    rows.sort();
    rows
}

#[test]
fn parts_share_the_time_of_their_packet_by_their_length() {
    let records = [
        cut(1, 3, &[("ip-rcv", 1000), ("dev-queue-xmit", 1)]),
        part(2, 1, 600, &[("driver-xmit", 10)]),
        part(3, 1, 300, &[("driver-xmit", 20)]),
        part(4, 1, 100, &[("dev-queue-xmit", 5), ("driver-xmit", 30)]),
    ];
    let analysis = analyse(&records);
    assert_eq!((analysis.records, analysis.packets(), analysis.outcomes.split), (4, 3, 1));
    assert_eq!((analysis.orphans, analysis.incomplete), (0, 0));
    let row = |name: &str, packets, sum| (name.to_string(), packets, sum);
    assert_eq!(
        rows(&analysis),
        [row("dev-queue-xmit", 3, 6), row("driver-xmit", 3, 60), row("ip-rcv", 3, 1000)]
    );
    assert_eq!(analysis.end_to_end.sum(), total(&records));
    assert_eq!((analysis.end_to_end.max(), analysis.end_to_end.quantile(0.1)), (610, 136));
    // From the cut packet's beginning to the part's end: each has waited for all of it.
    assert_eq!(analysis.latency.sum(), 1010 + 1020 + 1035);
}

#[test]
fn the_order_of_relatives_makes_no_difference() {
    let mut records = vec![
        cut(1, 2, &[("ip-rcv", 999)]),
        part(2, 1, 7, &[("driver-xmit", 10)]),
        part(3, 1, 8, &[("driver-xmit", 20)]),
    ];
    let forward = analyse(&records);
    records.reverse();
    let backward = analyse(&records);
    assert_eq!(rows(&forward), rows(&backward));
    assert_eq!(forward.latency.sum(), backward.latency.sum());
    assert_eq!((backward.orphans, backward.incomplete), (0, 0));
}

#[test]
fn a_part_that_was_cut_hands_on_what_it_inherited() {
    let mut middle = cut(2, 2, &[("iptables", 50)]);
    (middle.0.parent, middle.0.flags, middle.0.bytes) = (1, RecordFlags::CHILD | RecordFlags::PARENT, 100);
    let records = [
        cut(1, 1, &[("ip-rcv", 1001)]),
        middle,
        part(3, 2, 50, &[("driver-xmit", 1)]),
        part(4, 2, 50, &[("driver-xmit", 2)]),
    ];
    let analysis = analyse(&records);
    assert_eq!((analysis.packets(), analysis.end_to_end.sum()), (2, total(&records)));
    assert_eq!(sums(&analysis), total(&records));
    let start = records[0].0.start_ns;
    assert_eq!(analysis.latency.max(), records[3].0.end_ns - start);
}

#[test]
fn parts_share_too_when_nobody_knows_how_many_there_are() {
    let part = |id| part(id, 1, 500, &[("driver-xmit", 10)]);
    let records = [part(2), cut(1, 0, &[("ip-rcv", 1000)]), part(3), part(4), part(5)];
    let analysis = analyse(&records);
    assert_eq!((analysis.packets(), analysis.orphans, analysis.incomplete), (4, 0, 0));
    assert_eq!((analysis.end_to_end.max(), analysis.end_to_end.sum()), (260, 1040));
}

#[test]
fn a_copy_was_under_way_since_its_original_was() {
    let mut original = record(1, 1000, &[("ip-rcv", 500)], Outcome::Delivered);
    original.0.flags = RecordFlags::PARENT;
    let records = [part(2, 1, 100, &[("veth-xmit", 40)]), original];
    let analysis = analyse(&records);
    // Each has its own time, and nothing twice.
    assert_eq!((analysis.packets(), analysis.end_to_end.sum()), (2, 540));
    assert_eq!(analysis.latency.max(), 2040 - 1000);
}

#[test]
fn what_never_comes_is_counted_and_nothing_is_lost() {
    let lonely = cut(1, 4, &[("ip-rcv", 100)]);
    let half = [cut(2, 4, &[("ip-rcv", 100)]), part(3, 2, 1, &[("driver-xmit", 10)])];
    let orphan = part(4, 77, 1, &[("driver-xmit", 10)]);
    let records: Vec<Record> = [lonely, orphan].into_iter().chain(half).collect();
    let analysis = analyse(&records);
    assert_eq!((analysis.orphans, analysis.incomplete, analysis.packets()), (1, 2, 3));
    assert_eq!((sums(&analysis), analysis.end_to_end.sum()), (total(&records), total(&records)));
}

#[test]
fn packets_without_end_need_no_more_memory() {
    // Packets that were cut of which a part never comes, and parts whose packet never comes.
    let family = |id: u64| {
        let id = id * 4;
        [
            cut(id, 3, &[("ip-rcv", 100)]),
            part(id + 1, id, 1, &[("driver-xmit", 9)]),
            part(id + 2, id + 3, 1, &[]),
        ]
    };
    let mut collector = collect(&[]);
    let mut given_up = Vec::new();
    for id in 0..100_000 {
        for (header, way) in family(id) {
            collector.add(&RecordView { header, path: &encode_path(&way) });
        }
        given_up.push(collector.given_up());
    }
    // From some number on, one is given up for each that comes.
    let late = &given_up[50_000..];
    let [first, last] = [late[0], late[late.len() - 1]];
    assert_eq!((last.0 - first.0, last.1 - first.1), (49_999, 49_999));
    let analysis = collector.finish(&Names::default());
    assert_eq!((analysis.orphans, analysis.incomplete), (100_000, 100_000));
    assert_eq!(analysis.end_to_end.sum(), 100_000 * 109);
}

prop_compose! {
    /// Records with relatives of every kind, most of whom are there, in any order. What a packet was made
    /// of was there before it.
    fn records()(
        records in prop::collection::vec((
            prop::collection::vec((0..30u8, 0..3u8, 0..10u16, 0..5000u64), 0..12),
            0..60u64, any::<u8>(), 0..6u8, 0..5u16, any::<u16>(),
        ), 1..40),
    ) -> Vec<Record> {
        type Fields = (Vec<(u8, u8, u16, u64)>, u64, u8, u8, u16, u16);
        let record = |(id, (steps, parent, flags, outcome, segments, bytes)): (usize, Fields)| {
            let segment = |(stage, level, hop, ns)| Span { ns, hop, level, stage, cpu: None };
            let way: Vec<Span> = steps.into_iter().map(segment).collect();
            let parent = if parent < id as u64 { parent } else { parent + 1000 };
            let start_ns = 1000 + id as u64 * 100;
            let end_ns = start_ns + way.iter().map(|segment| segment.ns).sum::<u64>();
            let header = RecordHeader {
                id: id as u64, parent, start_ns, end_ns, outcome, flags: RecordFlags::from_bits(flags), segments,
                bytes: bytes.into(), path_len: way.len() as u16, ..RecordHeader::default()
            };
            (header, way)
        };
        let mut records: Vec<Record> = records.into_iter().enumerate().map(record).collect();
        // Some packets say how many parts they were cut into; now and then one of them never comes.
        for at in 0..records.len() {
            let is_part = |(header, _): &&Record| header.parent == at as u64 && header.flags.has(RecordFlags::CHILD);
            let parts = records.iter().filter(is_part).count() as u16;
            records[at].0.segments = match records[at].0.segments % 3 {
                0 => 0,
                missing => parts + missing - 1,
            };
        }
        records
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn whatever_the_relations_every_nanosecond_is_counted_once(
        records in records().prop_shuffle(), at in 0..40usize,
    ) {
        let analysis = analyse(&records);
        prop_assert_eq!(analysis.end_to_end.sum(), total(&records));
        prop_assert_eq!(sums(&analysis), total(&records));
        prop_assert_eq!(analysis.latency.count(), analysis.packets());
        prop_assert!(analysis.latency.sum() + total(&records) >= analysis.end_to_end.sum());
        let net = analysis.net.as_ref().unwrap();
        prop_assert_eq!(net.sum(), analysis.rows.iter().map(|row| row.net.as_ref().unwrap().sum()).sum::<u128>());
        prop_assert!(net.sum() <= analysis.end_to_end.sum());
        for row in &analysis.rows {
            let net = row.net.as_ref().unwrap();
            prop_assert!(net.sum() <= row.raw.sum() && net.count() == row.raw.count());
        }

        // In two halves that are joined it is the same.
        let (first, second) = records.split_at(at.min(records.len()));
        let mut joined = collect(first);
        joined.append(collect(second));
        let joined = joined.finish(&Names::default());
        prop_assert_eq!(rows(&joined), rows(&analysis));
        prop_assert_eq!(joined.records, analysis.records);
        prop_assert_eq!(&joined.outcomes, &analysis.outcomes);
        prop_assert_eq!(joined.end_to_end.quantile(0.5), analysis.end_to_end.quantile(0.5));
        prop_assert_eq!((joined.latency.sum(), joined.orphans, joined.incomplete),
            (analysis.latency.sum(), analysis.orphans, analysis.incomplete));
    }
}
