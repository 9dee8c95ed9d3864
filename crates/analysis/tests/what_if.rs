//! What packets would take without a part of their network: what must hold for any recording, and known ways.

mod support;

use overlay_trace_analysis::breakdown::Dist;

use overlay_trace_format::{Header, ProbeCost, Recording, Writer, encode_path, encode_record};

use overlay_trace_analysis::what_if::{Change, WhatIf};
use overlay_trace_common::{path::Span, record::Outcome};
use proptest::prelude::*;
use tempfile::TempDir;

/// With a kernel that costs nothing to watch.
fn header() -> Header {
    let free = Some(0.0);
    Header {
        probe_cost_ns: ProbeCost { entry: free, exit: free, tracepoint: free, ..ProbeCost::default() },
        ..support::header()
    }
}

fn write(dir: &TempDir, header: &Header, ways: &[Vec<Span>]) -> Recording {
    let path = dir.path().join("a.otr");
    let mut writer = Writer::create(&path, true, header).unwrap();
    writer.hops(&support::hops()).unwrap();
    for (at, way) in ways.iter().enumerate() {
        let mut bytes = Vec::new();
        let record = support::record(at as u64 + 1, 1000 * at as u64, way, Outcome::Delivered);
        encode_record(&record, &encode_path(way), &mut bytes);
        writer.records(&bytes).unwrap();
    }
    writer.finish(&Default::default()).unwrap();
    Recording::open(&path).unwrap()
}

/// A packet over VXLAN, without its answer; and the time of the stages for which it is so.
fn a_way() -> Vec<Span> {
    support::way(0, true, &mut support::Lcg(7))
}

fn time(way: &[Span], is_so: impl Fn(&str, &Span) -> bool) -> u64 {
    let stages = support::header().stages;
    let name = |segment: &Span| stages[usize::from(segment.stage)].name.clone();
    way.iter().filter(|segment| is_so(&name(segment), segment)).map(|segment| segment.ns).sum()
}

fn predict(way: &[Span], change: &str) -> WhatIf {
    let dir = TempDir::new().unwrap();
    WhatIf::of(&write(&dir, &header(), &[way.to_vec()]), &[change.parse().unwrap()], &|_| true).unwrap()
}

fn mean(dist: &Dist) -> f64 {
    dist.mean()
}

#[test]
fn without_an_overlay_the_nics_are_left() {
    let way = a_way();
    let what_if = predict(&way, "overlay");
    let devices = ["dev-queue-xmit", "driver-xmit", "veth-xmit", "receive", "qdisc-wait", "backlog-wait"];
    const TUNNEL: [u16; 2] = [4, 7];
    let goes = |name: &str, segment: &Span| match segment.level {
        0 => TUNNEL.contains(&segment.hop) && devices.contains(&name),
        _ => !devices.contains(&name) && name != "batch-wait",
    };
    let gain = what_if.predictions[0].gain(&what_if.now, mean);
    assert_eq!(what_if.now.sum(), u128::from(time(&way, |_, _| true)));
    assert_eq!(gain.least, time(&way, goes) as f64);
    // The queue of the tunnel device goes with its wait; those that stay may become empty.
    let queue = time(&way, |name, _| name == "gro-cells-wait");
    let others = time(&way, |name, _| matches!(name, "backlog-wait" | "qdisc-wait" | "batch-wait"));
    assert_eq!(gain.most, gain.least + (queue + others) as f64);
    assert!(gain.estimate > gain.least + queue as f64 && gain.estimate < gain.most);
}

#[test]
fn what_is_known_is_certain_and_what_is_not_is_said() {
    let way = a_way();
    let tracking = time(&way, |name, _| name == "conntrack-in") as f64;
    let what_if = predict(&way, "conntrack");
    assert_eq!(what_if.predictions[0].gain(&what_if.now, mean).least, tracking);
    let rules = time(&way, |name, _| name == "iptables") as f64;
    let what_if = predict(&way, "kube-proxy");
    let gain = what_if.predictions[0].gain(&what_if.now, mean);
    assert!(gain.least == 0.0 && gain.most >= rules && gain.estimate > rules / 2.0 - 1.0);
    // The bridge's part and both together.
    let bridge = time(&way, |name, at| name == "bridge-rx" || name == "receive" && at.hop == 3) as f64;
    let what_if = predict(&way, "bridge");
    assert_eq!(what_if.predictions[0].gain(&what_if.now, mean).least, bridge);
    let what_if = predict(&way, "bridge+conntrack");
    assert_eq!(what_if.predictions[0].gain(&what_if.now, mean).least, bridge + tracking);
    // There is no second overlay, and no IPVS.
    assert!(predict(&way, "overlay-2").predictions.is_empty());
    assert!(predict(&way, "ipvs").predictions.is_empty());
}

#[test]
fn where_there_is_no_overlay_none_can_be_taken_out() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("host-gw.otr");
    support::write(&path, false, true);
    let recording = Recording::open(&path).unwrap();
    let changes = ["host-gw", "conntrack"].map(|change| change.parse::<Change>().unwrap());
    let what_if = WhatIf::of(&recording, &changes, &|_| true).unwrap();
    let [only] = &what_if.predictions[..] else { panic!("{} predictions", what_if.predictions.len()) };
    assert_eq!(only.change, changes[1]);
}

#[test]
fn without_known_costs_there_is_no_prediction() {
    let dir = TempDir::new().unwrap();
    let header = Header { probe_cost_ns: ProbeCost::default(), ..support::header() };
    let said = WhatIf::of(&write(&dir, &header, &[a_way()]), &Change::all(), &|_| true).err().unwrap();
    assert!(said.to_string().contains("cost was not measured"), "{said}");
    assert!("tunnel".parse::<Change>().unwrap_err().to_string().contains("overlay-2"));
}

prop_compose! {
    fn segments()(
        parts in prop::collection::vec((0..22u8, 0..4u8, 0..10u16, 1u64..1 << 34, 0..34u32), 1..25)
    ) -> Vec<Span> {
        let segment = |(stage, level, hop, ns, less): (u8, u8, u16, u64, u32)| Span { ns: ns >> less, hop, level, stage, cpu: None };
        parts.into_iter().map(segment).collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn the_estimate_is_between_the_bounds(ways in prop::collection::vec(segments(), 1..30)) {
        let dir = TempDir::new().unwrap();
        for header in [header(), support::header()] {
            let recording = write(&dir, &header, &ways);
            let what_if = WhatIf::of(&recording, &Change::all(), &|_| true).unwrap();
            let now = &what_if.now;
            prop_assert_eq!(now.count(), ways.len() as u64);
            for prediction in &what_if.predictions {
                let dists = [&prediction.fastest, &prediction.then, &prediction.slowest, now];
                prop_assert!(dists.iter().all(|dist| dist.count() == now.count()));
                prop_assert!(dists.is_sorted_by_key(|dist| dist.sum()));
                for quantile in [0.1, 0.5, 0.9, 0.99, 1.0] {
                    prop_assert!(dists.is_sorted_by_key(|dist| dist.quantile(quantile)));
                }
            }
            let none = WhatIf::of(&recording, &Change::all(), &|_| false).unwrap();
            prop_assert!(none.now.count() == 0 && none.predictions.is_empty());
        }
    }
}
