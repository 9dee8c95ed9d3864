//! A stage that no version of the analysis has heard of: its row in the recording is enough.

mod support;

use std::path::Path;

use overlay_trace_analysis::{
    breakdown::{Analysis, By},
    report::{Format, Sort, TailFormat, WhatIfFormat, report, tail, what_if},
    tail::{Of, Tail, Threshold},
    what_if::{Change, WhatIf},
};
use overlay_trace_common::{
    behaviour::Role,
    path::Span,
    record::Outcome,
    stage_map::{OTHER, STAGES},
};
use overlay_trace_format::{
    Behaviour, Header, ProbeKind, Recording, StageRow, Writer, encode_path, encode_record,
};
use tempfile::TempDir;

const PACKETS: u64 = 200;
/// One packet in so many is slow, because of the new stage.
const SLOW: u64 = 20;

/// A packet filter of the future, in a layer of its own.
fn filter() -> StageRow {
    StageRow {
        name: "policy-check".into(),
        layer: "policy".into(),
        kind: "work".into(),
        level: "keep".into(),
        probe: Some(ProbeKind::Kprobe),
        behaviour: Behaviour { role: Role::Iptables, ..Behaviour::default() },
        ..StageRow::default()
    }
}

/// A tunnel of the future.
fn tunnel() -> StageRow {
    StageRow {
        name: "nebula-encap".into(),
        layer: "nebula".into(),
        kind: "work".into(),
        level: "up".into(),
        probe: Some(ProbeKind::TpBtf),
        link_kind: Some("nebula".into()),
        behaviour: Behaviour { transmits: true, leaves: true, role: Role::Tunnel, ..Behaviour::default() },
        ..StageRow::default()
    }
}

/// The packets of the fixture, each with a visit of the new filter after the first iptables.
fn write(path: &Path) -> Recording {
    let mut header = support::header();
    let number = header.stages.len() as u8;
    header.stages.push(filter());
    let mut random = support::Lcg(3);
    let mut writer = Writer::create(path, true, &header).unwrap();
    writer.hops(&support::hops()).unwrap();
    for id in 0..PACKETS {
        let mut spans = support::way(2 * id, true, &mut random);
        let at = spans.iter().position(|span| span.stage == support::stage("iptables")).unwrap();
        let ns = if id % SLOW == 0 { 9_000_000 } else { 5000 };
        spans.insert(at + 1, Span { ns, stage: number, ..spans[at] });
        let record = support::record(id + 1, id * 100_000, &spans, Outcome::Delivered);
        let mut bytes = Vec::new();
        encode_record(&record, &encode_path(&spans), &mut bytes);
        writer.records(&bytes).unwrap();
    }
    writer.finish(&Default::default()).unwrap();
    Recording::open(path).unwrap()
}

#[test]
fn is_in_the_report_and_the_flame_graph() {
    let dir = TempDir::new().unwrap();
    let recording = write(&dir.path().join("a.otr"));
    let mut analysis = Analysis::of(&recording, By::Stage).unwrap();
    let row = analysis.rows.iter().find(|row| row.key.stage.as_deref() == Some("policy-check")).unwrap();
    let slow = u128::from(PACKETS / SLOW);
    assert_eq!(row.raw.sum(), slow * 9_000_000 + (u128::from(PACKETS) - slow) * 5000);
    // It is on the node, where the packet is forwarded, after iptables.
    assert_eq!((row.key.netns.as_deref(), row.key.device.as_deref()), (Some("node-1"), Some("cni0")));
    assert_eq!(row.key.direction.unwrap().name(), "forward");
    let order: Vec<&str> = analysis.rows.iter().filter_map(|row| row.key.stage.as_deref()).collect();
    let before = order.iter().position(|stage| *stage == "policy-check").unwrap() - 1;
    assert_eq!(order[before], "iptables");
    for format in [Format::Text, Format::Json, Format::Csv, Format::Folded, Format::Svg] {
        let text = String::from_utf8(report(&mut analysis, format, Sort::Path).unwrap()).unwrap();
        assert!(text.contains("policy-check") && text.contains("policy"), "{text}");
    }
}

#[test]
fn is_what_makes_packets_slow() {
    let dir = TempDir::new().unwrap();
    let recording = write(&dir.path().join("a.otr"));
    let slow = Tail::of(&recording, Of::Packets, Threshold::Time(5_000_000), 1).unwrap();
    assert_eq!(slow.slow.packets, PACKETS / SLOW);
    assert_eq!(slow.rows[0].key.stage.as_deref(), Some("policy-check"));
    assert_eq!(slow.rows[0].dominant, PACKETS / SLOW);
    for format in [TailFormat::Text, TailFormat::Json, TailFormat::Svg, TailFormat::Html] {
        let text = String::from_utf8(tail(&slow, format).unwrap()).unwrap();
        assert!(text.contains("policy-check"), "{text}");
    }
}

#[test]
fn can_be_taken_out() {
    let dir = TempDir::new().unwrap();
    let recording = write(&dir.path().join("a.otr"));
    let predict = |change: &str| {
        let changes: [Change; 1] = [change.parse().unwrap()];
        WhatIf::of(&recording, &changes, &|_| true).unwrap()
    };
    let predicted = predict("iptables");
    let gain = predicted.predictions[0].gain(&predicted.now, |dist| dist.mean());
    let mean = (9_000_000.0 + (SLOW - 1) as f64 * 5000.0) / SLOW as f64;
    assert!(gain.estimate > mean, "{gain:?}");
    let text = String::from_utf8(what_if(&predicted, WhatIfFormat::Text).unwrap()).unwrap();
    assert!(text.contains("without iptables"), "{text}");
    // Nothing else takes it out.
    let predicted = predict("nftables+conntrack+bridge");
    let gain = predicted.predictions[0].gain(&predicted.now, |dist| dist.mean());
    assert!(gain.most < mean, "{gain:?}");
}

/// The device of a new kind of tunnel goes with its queue, by its link kind.
#[test]
fn can_be_a_tunnel() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("a.otr");
    let gain = |row: StageRow| {
        let mut header = support::header();
        let vxlan = usize::from(support::stage("vxlan-encap"));
        header.stages[vxlan] = row;
        let mut writer = Writer::create(&path, true, &header).unwrap();
        let mut hops = support::hops();
        for (_, hop) in hops.iter_mut().filter(|(_, hop)| hop.kind == "vxlan") {
            hop.kind = "nebula".into();
        }
        writer.hops(&hops).unwrap();
        let spans = support::way(0, true, &mut support::Lcg(7));
        let mut bytes = Vec::new();
        encode_record(&support::record(1, 0, &spans, Outcome::Delivered), &encode_path(&spans), &mut bytes);
        writer.records(&bytes).unwrap();
        writer.finish(&Default::default()).unwrap();
        let changes: [Change; 1] = ["overlay".parse().unwrap()];
        let predicted = WhatIf::of(&Recording::open(&path).unwrap(), &changes, &|_| true).unwrap();
        predicted.predictions[0].gain(&predicted.now, |dist| dist.mean()).least
    };
    let of_other_kind = StageRow { link_kind: Some("star".into()), ..tunnel() };
    assert!(gain(tunnel()) > gain(of_other_kind));
}

/// What the map says of a stage is what a recording says of it: there is no other place to add it to.
#[test]
fn is_one_row() {
    let header = Header::new();
    assert_eq!(header.stages.len(), STAGES.len());
    for (row, stage) in header.stages.iter().zip(STAGES) {
        assert_eq!(row, &StageRow::from(stage));
    }
    assert_eq!(header.stages[usize::from(OTHER)].name, "other");
}
