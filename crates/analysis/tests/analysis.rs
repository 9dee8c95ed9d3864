//! The analysis: what must hold for any ways, and the directions of known ones.

#[path = "analysis/related.rs"]
mod related;
#[path = "analysis/sampled.rs"]
mod sampled;
mod support;

use std::collections::BTreeMap;

use overlay_trace_analysis::breakdown::{Analysis, By, Collector, Diff, Per, Row};

use overlay_trace_common::{
    flags::RecordFlags,
    path::{CODE_POSITION, NS_MAX, Span},
    record::{Outcome, RecordHeader},
    stage::{Layer, Target},
    stage_map::STAGES,
};
use overlay_trace_format::{
    Behaviour, Header, HopName, Names, ProbeCost, ProbeKind, RecordView, Recording, StageRow, encode_path,
};
use proptest::prelude::*;

const EVERY: [By; 5] = [By::Stage, By::Anywhere, By::Layer, By::Device, By::Level];

fn analyse(
    header: &Header,
    hops: &BTreeMap<u16, HopName>,
    by: By,
    records: &[(RecordHeader, Vec<Span>)],
) -> Analysis {
    let mut collector = Collector::new(header, hops, by);
    for (header, way) in records {
        collector.add(&RecordView { header: *header, path: &encode_path(way) });
    }
    collector.finish(&Names::default())
}

fn hops(names: &[(u16, &str, &str)]) -> BTreeMap<u16, HopName> {
    let name = |netns: &str, device: &str| HopName {
        netns: netns.into(),
        device: device.into(),
        ..HopName::default()
    };
    names.iter().map(|&(hop, netns, device)| (hop, name(netns, device))).collect()
}

/// This program's own stage map.
fn number(name: &str) -> u8 {
    STAGES.iter().position(|stage| stage.name == name).unwrap_or_else(|| panic!("no stage {name}")) as u8
}

/// "stage level hop ns" lines to a way.
fn way(lines: &str) -> Vec<Span> {
    let segment = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [stage, level, hop, ns] = fields[..] else { panic!("{line}") };
        Span {
            ns: ns.parse().unwrap(),
            hop: hop.parse().unwrap(),
            level: level.parse().unwrap(),
            stage: number(stage),
            cpu: None,
        }
    };
    lines.trim().lines().map(segment).collect()
}

/// The rows as "stage level direction netns device sum" lines, in order.
fn rows(analysis: &Analysis) -> String {
    let row = |row: &Row| {
        let key = row.key.clone();
        format!(
            "{} {} {} {}/{} {}\n",
            key.stage.unwrap(),
            key.level.unwrap(),
            key.direction.unwrap().name(),
            key.netns.unwrap(),
            key.device.unwrap(),
            row.raw.sum()
        )
    };
    analysis.rows.iter().map(row).collect()
}

fn assert_conserved(analysis: &Analysis) {
    let sum: u128 = analysis.rows.iter().map(|row| row.raw.sum()).sum();
    assert_eq!(sum, analysis.end_to_end.sum());
}

prop_compose! {
    fn record()(
        stage_bytes in prop::collection::vec((any::<u8>(), 0..16u8, 0..12u16, any::<u64>()), 0..200),
        cpu in any::<u16>(),
        fits in any::<bool>(), start in any::<u32>(), length in any::<u64>(), mut header in
            (0..20u64, any::<u32>(), any::<u64>(), any::<u8>(), any::<u8>(), any::<u16>()),
    ) -> (RecordHeader, Vec<Span>) {
        let way: Vec<Span> = stage_bytes.into_iter().map(|(stage, level, hop, ns)| {
            let stage = if stage < 200 { stage % 70 } else { stage % CODE_POSITION };
            Span { ns: (ns & NS_MAX) >> (ns % 48), hop, level: level % 4, stage, cpu: Some(cpu ^ (ns >> 63) as u16) }
        }).collect();
        let ns = way.iter().map(|s| u128::from(s.ns)).sum::<u128>();
        let length = if fits && ns < 1 << 63 { ns as u64 } else { length };
        header.3 %= 7;
        let start_ns = u64::from(start);
        (RecordHeader {
            id: header.0, parent: header.0 / 2, start_ns, end_ns: start_ns.saturating_add(length),
            drop_location: header.2, drop_reason: header.1, outcome: header.3, flags: overlay_trace_common::flags::RecordFlags::from_bits(header.4),
            segments: header.5, path_len: way.len() as u16, ..RecordHeader::default()
        }, way)
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn every_nanosecond_has_one_owner(records in prop::collection::vec(record(), 1..20)) {
        let hops = hops(&[(1, "a", "eth0"), (2, "b", "eth0"), (3, "b", "cni0"), (4, "", ""), (9, "c", "")]);
        let by_stage = analyse(&Header::new(), &hops, By::Stage, &records);
        let nowhere = |way: &[Span]| way.iter().map(|segment| Span { cpu: None, ..*segment }).collect();
        let without: Vec<_> = records.iter().map(|(header, way)| (*header, nowhere(way))).collect();
        prop_assert_eq!(rows(&by_stage), rows(&analyse(&Header::new(), &hops, By::Stage, &without)));
        let other = |row: &&Row| row.key.layer.as_deref() == Some("other");
        let other: u128 = by_stage.rows.iter().filter(other).map(|row| row.raw.sum()).sum();
        for by in EVERY {
            let analysis = analyse(&Header::new(), &hops, by, &records);
            prop_assert_eq!(analysis.unclaimed, other);
            let sum: u128 = analysis.rows.iter().map(|row| row.raw.sum()).sum();
            prop_assert_eq!(sum, analysis.end_to_end.sum());
            prop_assert_eq!(analysis.records, records.len() as u64);
            prop_assert!(analysis.packets() <= analysis.records);
            prop_assert_eq!(analysis.latency.count(), analysis.packets());
            let outcomes = &analysis.outcomes;
            let ended = outcomes.delivered + outcomes.dropped + outcomes.forwarded + outcomes.merged + outcomes.split;
            prop_assert_eq!(ended, records.len() as u64);
            for row in &analysis.rows {
                prop_assert!(row.raw.count() >= 1 && row.raw.count() <= records.len() as u64);
                prop_assert!(row.raw.quantile(0.5) <= row.raw.quantile(0.99) && row.raw.quantile(0.99) <= row.raw.max());
            }
            let mut keys: Vec<_> = analysis.rows.iter().map(|row| &row.key).collect();
            keys.sort();
            keys.dedup();
            prop_assert_eq!(keys.len(), analysis.rows.len());
        }
    }

    #[test]
    fn a_record_that_adds_up_is_consistent(records in prop::collection::vec(record(), 1..10)) {
        let adds_up = |(header, way): &&(RecordHeader, Vec<Span>)| {
            way.iter().map(|s| u128::from(s.ns)).sum::<u128>() == u128::from(header.end_ns - header.start_ns)
        };
        let wrong = records.len() - records.iter().filter(adds_up).count();
        let analysis = analyse(&Header::new(), &hops(&[]), By::Stage, &records);
        prop_assert_eq!(analysis.inconsistent, wrong as u64);
    }
}

#[test]
fn directions_of_a_way_through_vxlan() {
    let hops = hops(&[
        (1, "pod-a", "eth0"),
        (2, "n1", "veth"),
        (3, "n1", "flannel.1"),
        (4, "n1", "eth0"),
        (5, "n2", "eth0"),
        (6, "n2", "flannel.1"),
        (7, "n2", "veth"),
        (8, "pod-b", "eth0"),
    ]);
    let way = way("
socket-send 0 0 1
dev-queue-xmit 0 1 2
veth-xmit 0 1 3
backlog-wait 0 2 4
ip-forward 0 2 5
dev-queue-xmit 0 3 6
vxlan-encap 1 3 7
conntrack-in 1 3 8
driver-xmit 1 4 9
backlog-wait 1 5 10
conntrack-in 1 5 11
vxlan-decap 1 5 12
gro-cells-wait 0 6 13
ip-forward 0 6 14
veth-xmit 0 7 15
backlog-wait 0 8 16
socket-wait 0 8 17");
    let header = support::record(1, 0, &way, Outcome::Delivered);
    let analysis = analyse(&Header::new(), &hops, By::Stage, &[(header, way)]);
    assert_eq!(
        rows(&analysis),
        "\
socket-send 0 egress pod-a/ 1
dev-queue-xmit 0 egress pod-a/eth0 2
veth-xmit 0 egress pod-a/eth0 3
backlog-wait 0 forward n1/veth 4
ip-forward 0 forward n1/veth 5
dev-queue-xmit 0 forward n1/flannel.1 6
vxlan-encap 1 egress n1/flannel.1 7
conntrack-in 1 egress n1/flannel.1 8
driver-xmit 1 egress n1/eth0 9
backlog-wait 1 ingress n2/eth0 10
conntrack-in 1 ingress n2/eth0 11
vxlan-decap 1 ingress n2/eth0 12
gro-cells-wait 0 forward n2/flannel.1 13
ip-forward 0 forward n2/flannel.1 14
veth-xmit 0 forward n2/veth 15
backlog-wait 0 ingress pod-b/eth0 16
socket-wait 0 ingress pod-b/eth0 17
"
    );
    assert_eq!((analysis.inconsistent, analysis.outcomes.delivered), (0, 1));
}

#[test]
fn over_loopback_a_packet_leaves_and_arrives() {
    let way = way("
socket-send 0 0 1
driver-xmit 0 1 2
backlog-wait 0 1 3
udp-rcv 0 1 4");
    let header = support::record(1, 0, &way, Outcome::Freed);
    let analysis = analyse(&Header::new(), &hops(&[(1, "pod", "lo")]), By::Stage, &[(header, way)]);
    assert_eq!(
        rows(&analysis),
        "\
socket-send 0 egress pod/ 1
driver-xmit 0 egress pod/lo 2
backlog-wait 0 ingress pod/lo 3
udp-rcv 0 ingress pod/lo 4
"
    );
    assert_eq!(analysis.outcomes.delivered, 1);
}

#[test]
fn a_packet_from_outside_is_forwarded_or_stays() {
    let forwarded = way("
receive 0 1 1
ip-forward 0 1 2
driver-xmit 0 2 3");
    let stays = way("
receive 0 1 1
iptables 0 1 2");
    let hops = hops(&[(1, "n", "eth0"), (2, "n", "eth1")]);
    let mut header = support::record(1, 0, &forwarded, Outcome::Freed);
    header.flags |= RecordFlags::FROM_DEVICE;
    let dropped = support::record(2, 0, &stays, Outcome::Dropped);
    let analysis = analyse(&Header::new(), &hops, By::Stage, &[(header, forwarded), (dropped, stays)]);
    assert_eq!(
        rows(&analysis),
        "\
receive 0 forward n/eth0 1
ip-forward 0 forward n/eth0 2
driver-xmit 0 forward n/eth1 3
receive 0 ingress n/eth0 1
iptables 0 ingress n/eth0 2
"
    );
    assert_eq!((analysis.outcomes.forwarded, analysis.outcomes.dropped), (1, 1));
    assert_eq!(analysis.drops.len(), 1);
    assert_eq!(analysis.drops[0].key.stage.as_deref(), Some("iptables"));
}

#[test]
fn a_segment_goes_where_its_parent_went() {
    let parent_way = way("
receive 0 1 1
gso-segment 0 2 2");
    let child_way = way("driver-xmit 0 2 5");
    let hops = hops(&[(1, "n", "veth"), (2, "n", "eth0")]);
    let parent = support::record(7, 0, &parent_way, Outcome::Split);
    let child = RecordHeader {
        parent: 7,
        flags: RecordFlags::CHILD,
        ..support::record(8, 3, &child_way, Outcome::Freed)
    };
    let orphan = RecordHeader { parent: 6, ..child };
    let with_parent =
        analyse(&Header::new(), &hops, By::Stage, &[(parent, parent_way), (child, child_way.clone())]);
    // The parent was cut before it could be seen to leave.
    assert!(rows(&with_parent).ends_with("driver-xmit 0 forward n/eth0 5\n"), "{}", rows(&with_parent));
    let alone = analyse(&Header::new(), &hops, By::Stage, &[(orphan, child_way)]);
    assert_eq!(rows(&alone), "driver-xmit 0 egress n/eth0 5\n");
}

#[test]
fn a_time_of_two_words_is_one_segment() {
    let way = vec![Span { ns: (2 << 32) + 5, hop: 1, level: 0, stage: number("socket-wait"), cpu: None }];
    let header = support::record(1, 0, &way, Outcome::Delivered);
    let analysis = analyse(&Header::new(), &hops(&[(1, "pod", "eth0")]), By::Stage, &[(header, way)]);
    assert_eq!(analysis.rows.len(), 1);
    assert_eq!((analysis.rows[0].raw.sum(), analysis.rows[0].raw.count()), ((2 << 32) + 5, 1));
}

#[test]
fn the_probes_cost_is_taken_off_per_visit_and_never_more() {
    let stage = |name: &str, probe, exit| StageRow {
        name: name.into(),
        layer: "ip".into(),
        kind: "work".into(),
        level: "keep".into(),
        probe: Some(probe),
        exit,
        ..StageRow::default()
    };
    let header = Header {
        stages: vec![
            stage("a", ProbeKind::Kprobe, false),
            stage("b", ProbeKind::Kprobe, true),
            stage("t", ProbeKind::TpBtf, false),
            StageRow {
                name: "w".into(),
                layer: "cpu".into(),
                kind: "wait".into(),
                behaviour: Behaviour { interrupts: true, ..Behaviour::default() },
                ..StageRow::default()
            },
        ],
        probe_cost_ns: ProbeCost {
            entry: Some(100.0),
            exit: Some(50.5),
            tracepoint: Some(10.0),
            ..ProbeCost::default()
        },
        ..Header::default()
    };
    let segment = |stage, ns| Span { ns, stage, ..Span::default() };
    let way = vec![
        segment(0, 1000),
        segment(1, 200),
        segment(3, 60), // begun by another packet's probe
        segment(1, 100),
        segment(0, 500), // begun by the exit of b
        segment(3, 70),
        segment(0, 30),
        segment(2, 3),
    ];
    let record = support::record(1, 0, &way, Outcome::Delivered);
    let analysis = analyse(&header, &hops(&[]), By::Stage, &[(record, way.clone())]);
    let net: Vec<u128> = analysis.rows.iter().map(|row| row.net.as_ref().unwrap().sum()).collect();
    // 1530 - 100 - 50.5, 300 - 100, 60 + 70 untouched, 3 - 10 clamped.
    assert_eq!(net, [1379, 200, 130, 0]);
    assert_eq!(analysis.net.as_ref().unwrap().sum(), net.iter().sum::<u128>());

    // Behind other packets a packet waits for their probes too, which take 260 of 1833 ns of all work.
    let mut header = header;
    header.stages[3].behaviour.behind_others = true;
    let analysis = analyse(&header, &hops(&[]), By::Stage, &[(record, way.clone())]);
    let waited = analysis.rows.iter().find(|row| row.key.kind == "wait").unwrap();
    assert_eq!(waited.net.as_ref().unwrap().sum(), 130 - 18);
    assert_conserved(&analysis);

    // What is done once on a way, and at each device.
    header.stages[0].headers = true;
    let more = ProbeCost { birth: Some(40.0), headers: Some(30.0), hop: Some(7.0), ..header.probe_cost_ns };
    let elsewhere = [segment(0, 1000), Span { hop: 1, ..segment(1, 200) }, segment(2, 100)];
    let costing = Header { probe_cost_ns: more, ..header.clone() };
    let whole = |flags: RecordFlags| {
        let mut record = support::record(1, 0, &elsewhere, Outcome::Delivered);
        record.flags |= flags;
        let analysis = analyse(&costing, &hops(&[]), By::Stage, &[(record, elsewhere.to_vec())]);
        analysis.net.as_ref().unwrap().sum()
    };
    assert_eq!(whole(RecordFlags::NONE), 1300 - 100 - 40 - 30 - 100 - 7 - 10 - 7);
    assert_eq!(whole(RecordFlags::CHILD), 1300 - 100 - 100 - 7 - 10 - 7);

    // The second of two calls in a row, for which the clock is not read.
    let again = ProbeCost { again: Some(60.0), ..header.probe_cost_ns };
    let twice = [segment(0, 0), segment(0, 500)];
    let record = support::record(1, 0, &twice, Outcome::Delivered);
    let costing = Header { probe_cost_ns: again, ..header.clone() };
    let analysis = analyse(&costing, &hops(&[]), By::Stage, &[(record, twice.to_vec())]);
    assert_eq!(analysis.net.as_ref().unwrap().sum(), 500 - 100 - 60);

    let unmeasured = Header { probe_cost_ns: ProbeCost::default(), ..header };
    let analysis = analyse(&unmeasured, &hops(&[]), By::Stage, &[(record, way)]);
    assert!(analysis.rows.iter().all(|row| row.net.is_none()));
    assert_eq!(analysis.net_mean(), None);
}

#[test]
fn a_difference_adds_up() {
    let dir = tempfile::tempdir().unwrap();
    let analysis = |encapsulated| {
        let path = dir.path().join(format!("{encapsulated}.otr"));
        support::write(&path, encapsulated, true);
        Analysis::of(&Recording::open(&path).unwrap(), By::Anywhere).unwrap()
    };
    let diff = Diff::new(analysis(false), analysis(true), Per::Packet);
    let sums = diff.rows.iter().fold((0, 0), |sum, row| (sum.0 + row.first.sum, sum.1 + row.second.sum));
    assert_eq!(sums, (diff.total().first.sum, diff.total().second.sum));
    for per in [Per::Packet, Per::Byte] {
        let delta: f64 = diff.rows.iter().map(|row| row.delta(per)).sum();
        assert!((delta - diff.total().delta(per)).abs() < 1e-3);
    }
    let mut bytes = 0;
    let recording = Recording::open(dir.path().join("true.otr")).unwrap();
    recording.for_each_record(|record| bytes += u64::from(record.header.bytes)).unwrap();
    assert_eq!(diff.second.bytes, bytes);
    assert!((diff.total().second.per_byte - diff.total().second.sum as f64 / bytes as f64).abs() < 1e-9);
    let vxlan = diff.rows.iter().find(|row| row.key.stage.as_deref() == Some("vxlan-encap")).unwrap();
    assert!(vxlan.first.packets == 0 && vxlan.delta(Per::Packet) > 0.0);
}

#[test]
fn stages_that_transmit_say_so() {
    for stage in STAGES {
        let by_probe = stage
            .points
            .iter()
            .flat_map(|point| point.probes)
            .any(|probe| matches!(probe.target, Target::Transmit(_)));
        let by_name = matches!(stage.name, "dev-queue-xmit" | "tc-egress");
        assert_eq!(stage.behaviour.transmits, by_probe || by_name, "{}", stage.name);
    }
    assert_eq!(STAGES[usize::from(overlay_trace_common::stage_map::OTHER)].layer, Layer::Other);
}

#[test]
fn more_shapes_than_are_remembered_make_no_difference() {
    let stages = STAGES.iter().filter(|stage| stage.outcome.is_none()).count() as u64;
    let shape = |number: u64| -> Vec<Span> {
        let step = |place: u32| (number / stages.pow(place) % stages) as u8;
        (0..3).map(|place| Span { ns: 7, hop: 1, level: 0, stage: step(place), cpu: None }).collect()
    };
    let records: Vec<_> = (0..6000u64)
        .map(|number| (support::record(number, 0, &shape(number), Outcome::Delivered), shape(number)))
        .collect();
    let twice: Vec<_> = records.iter().chain(&records).cloned().collect();
    let hops = hops(&[(1, "pod", "eth0")]);
    let (once, twice) = (
        analyse(&Header::new(), &hops, By::Anywhere, &records),
        analyse(&Header::new(), &hops, By::Anywhere, &twice),
    );
    assert_conserved(&twice);
    assert_eq!(twice.packets(), 12000);
    for row in &once.rows {
        let same = twice.rows.iter().find(|other| other.key == row.key).unwrap();
        assert_eq!((same.raw.sum(), same.raw.count()), (2 * row.raw.sum(), 2 * row.raw.count()));
    }
}
