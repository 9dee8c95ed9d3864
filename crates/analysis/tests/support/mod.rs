//! A small recording, made without a kernel: UDP requests and their answers between two pods of a flannel
//! VXLAN network, always the same.

// Each test uses a part of it.
#![allow(dead_code)]

use std::path::Path;

use overlay_trace_common::{
    flags::RecordFlags,
    path::Span,
    record::{Outcome, RecordHeader},
    stage_map,
};
use overlay_trace_format::{
    Checkpoint, Counters, Header, HopName, Names, ProbeCost, ProbeKind, StageRow, UnseenStage, Writer,
    encode_path, encode_record,
};

/// A stage map of its own: a recording is read with the map that it carries.
const STAGES: &[(&str, &str, &str, &str)] = &[
    ("other", "other", "work", "keep"),
    ("batch-wait", "cpu", "wait", "keep"),
    ("socket-send", "socket", "work", "keep"),
    ("udp-send", "transport", "work", "keep"),
    ("ip-local-out", "ip", "work", "keep"),
    ("conntrack-in", "conntrack", "work", "keep"),
    ("iptables", "iptables", "work", "keep"),
    ("dev-queue-xmit", "qdisc", "work", "keep"),
    ("veth-xmit", "veth", "work", "keep"),
    ("backlog-wait", "backlog", "wait", "keep"),
    ("receive", "backlog", "work", "keep"),
    ("bridge-rx", "bridge", "work", "keep"),
    ("ip-rcv", "ip", "work", "keep"),
    ("ip-forward", "ip", "work", "keep"),
    ("vxlan-encap", "vxlan", "work", "up"),
    ("qdisc-wait", "qdisc", "wait", "keep"),
    ("driver-xmit", "driver", "work", "keep"),
    ("vxlan-decap", "vxlan", "work", "keep"),
    ("gro-cells-wait", "gro-cells", "wait", "down"),
    ("udp-rcv", "transport", "work", "keep"),
    ("socket-wait", "socket", "wait", "keep"),
    ("socket-receive", "socket", "work", "keep"),
];

/// What a stage of this name means in the program's own map.
pub fn meaning(name: &str) -> StageRow {
    stage_map::STAGES.iter().find(|stage| stage.name == name).expect("a stage of the map").into()
}

/// Number of a stage of [`STAGES`].
pub fn stage(name: &str) -> u8 {
    STAGES.iter().position(|row| row.0 == name).expect("a stage of the fixture") as u8
}

pub fn header() -> Header {
    let stages = STAGES.iter().map(|&(name, layer, kind, level)| StageRow {
        name: name.into(),
        layer: layer.into(),
        kind: kind.into(),
        level: level.into(),
        link_kind: meaning(name).link_kind,
        behaviour: meaning(name).behaviour,
        probe: (name != "other" && layer != "cpu").then_some(match layer {
            "backlog" | "qdisc" | "driver" | "veth" => ProbeKind::TpBtf,
            _ => ProbeKind::Kprobe,
        }),
        ..StageRow::default()
    });
    Header {
        overlay_trace: "0.1.0".into(),
        kernel: "6.12.48-amd64".into(),
        arch: "x86_64".into(),
        node: "worker-1".into(),
        probe_set: "full".into(),
        stages: stages.collect(),
        unseen_stages: vec![UnseenStage {
            stage: "ipip-encap".into(),
            reason: "module ipip is not loaded".into(),
            module: None,
        }],
        probe_cost_ns: ProbeCost {
            entry: Some(90.0),
            exit: Some(130.5),
            tracepoint: Some(41.25),
            ..ProbeCost::default()
        },
        filter: "udp, port 5201".into(),
        command: "overlay-trace record -o vxlan.otr -d 30s".into(),
        ..Header::new()
    }
}

/// Hop number, namespace, device, kind.
const HOPS: &[(u16, &str, &str, &str)] = &[
    (1, "pod-a", "eth0", "veth"),
    (2, "node-1", "veth-a", "veth"),
    (3, "node-1", "cni0", "bridge"),
    (4, "node-1", "flannel.1", "vxlan"),
    (5, "node-1", "eth0", "veth"),
    (6, "node-2", "eth0", "veth"),
    (7, "node-2", "flannel.1", "vxlan"),
    (8, "node-2", "veth-b", "veth"),
    (9, "pod-b", "eth0", "veth"),
];

pub fn hops() -> Vec<(u16, HopName)> {
    let hop = |&(number, netns, device, kind): &(u16, &str, &str, &str)| {
        let name = HopName {
            netns_inode: 4026532000 + u32::from(number),
            netns: netns.into(),
            ifindex: u32::from(number),
            device: device.into(),
            kind: kind.into(),
            pod: None,
        };
        (number, name)
    };
    HOPS.iter().map(hop).collect()
}

/// Stage, level, hop, typical ns. The answer goes the same way with the hops turned round.
const WAY: &[(&str, u8, u16, u64)] = &[
    ("socket-send", 0, 0, 1400),
    ("udp-send", 0, 0, 350),
    ("ip-local-out", 0, 0, 400),
    ("dev-queue-xmit", 0, 1, 300),
    ("veth-xmit", 0, 1, 450),
    ("backlog-wait", 0, 2, 2600),
    ("receive", 0, 2, 500),
    ("bridge-rx", 0, 2, 420),
    ("receive", 0, 3, 240),
    ("ip-rcv", 0, 3, 280),
    ("conntrack-in", 0, 3, 900),
    ("ip-forward", 0, 3, 500),
    ("iptables", 0, 3, 1900),
    ("dev-queue-xmit", 0, 4, 330),
    ("vxlan-encap", 1, 4, 1500),
    ("ip-local-out", 1, 4, 380),
    ("conntrack-in", 1, 4, 850),
    ("iptables", 1, 4, 1200),
    ("dev-queue-xmit", 1, 5, 310),
    ("qdisc-wait", 1, 5, 900),
    ("driver-xmit", 1, 5, 480),
    ("backlog-wait", 1, 6, 3100),
    ("receive", 1, 6, 560),
    ("ip-rcv", 1, 6, 260),
    ("conntrack-in", 1, 6, 800),
    ("iptables", 1, 6, 1100),
    ("vxlan-decap", 1, 6, 1250),
    ("gro-cells-wait", 0, 7, 1800),
    ("receive", 0, 7, 520),
    ("ip-rcv", 0, 7, 250),
    ("conntrack-in", 0, 7, 700),
    ("ip-forward", 0, 7, 480),
    ("iptables", 0, 7, 1700),
    ("dev-queue-xmit", 0, 8, 290),
    ("veth-xmit", 0, 8, 430),
    ("backlog-wait", 0, 9, 2200),
    ("receive", 0, 9, 510),
    ("ip-rcv", 0, 9, 240),
    ("udp-rcv", 0, 9, 600),
    ("socket-wait", 0, 9, 6500),
    ("socket-receive", 0, 9, 700),
];

/// The hop at the other end of the path that has the same part in the answer's way.
const ANSWER_HOP: [u16; 10] = [0, 9, 8, 8, 7, 6, 5, 4, 2, 1];

/// A small generator of numbers that look random.
pub struct Lcg(pub u64);

impl Lcg {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        self.0 >> 33
    }
}

/// A packet's way: `encapsulated` false leaves out what VXLAN adds.
pub fn way(number: u64, encapsulated: bool, random: &mut Lcg) -> Vec<Span> {
    let answer = number % 2 == 1;
    let mut way = Vec::new();
    for &(name, level, hop, ns) in WAY {
        if !encapsulated && (level > 0 && !matches!(hop, 5 | 6) || name.starts_with("vxlan") || hop == 7) {
            continue;
        }
        let level = if encapsulated { level } else { 0 };
        // What comes in to the other node is steered to its second CPU.
        let cpu = Some(u16::from(hop >= 6));
        let hop = if answer { ANSWER_HOP[usize::from(hop)] } else { hop };
        let slow = if random.next().is_multiple_of(97) { 20 } else { 1 };
        let ns = (ns / 2 + random.next() % ns) * slow;
        let segment = |stage, ns| Span { ns, hop, level, stage, cpu };
        way.push(segment(stage(name), ns));
        if name == "iptables" && random.next().is_multiple_of(10) {
            // Interrupted: another packet came first, then the stage went on.
            way.push(segment(stage("batch-wait"), 4000 + random.next() % 3000));
            way.push(segment(stage(name), ns / 3));
        }
        if name == "socket-send" {
            way.push(Span { ns: 20 + random.next() % 100, stage: stage("other"), ..Span::default() });
        }
    }
    way
}

/// A record's header for a way that begins at `start_ns`.
pub fn record(id: u64, start_ns: u64, way: &[Span], outcome: Outcome) -> RecordHeader {
    let end_ns = start_ns + way.iter().map(|segment| segment.ns).sum::<u64>();
    let (bytes, segments) = (378, 1);
    RecordHeader { id, start_ns, end_ns, bytes, segments, outcome: outcome as u8, ..RecordHeader::default() }
}

/// Writes the recording: 400 packets, some of which iptables drops on the second node.
pub fn write(path: &Path, encapsulated: bool, finish: bool) {
    let mut random = Lcg(42);
    let mut writer = Writer::create(path, true, &header()).unwrap();
    writer.hops(&hops()).unwrap();
    for number in 0..400 {
        let mut way = way(number, encapsulated, &mut random);
        let mut header = record(number + 1, 1_000_000 + number * 100_000, &way, Outcome::Delivered);
        if number % 50 == 7 {
            let iptables = way.iter().rposition(|segment| segment.stage == stage("iptables")).unwrap();
            way.truncate(iptables + 1);
            header = record(number + 1, header.start_ns, &way, Outcome::Dropped);
            header.drop_reason = 6;
            header.drop_location = 0xffff_ffff_8123_4567;
        }
        if number == 3 {
            header.flags |= RecordFlags::UNKNOWN_START;
        }
        let mut bytes = Vec::new();
        encode_record(&header, &encode_path(&way), &mut bytes);
        writer.records(&bytes).unwrap();
    }
    let names = Names {
        drop_reasons: [(6, "NETFILTER_DROP".into())].into(),
        symbols: [(0xffff_ffff_8123_4567, "nf_hook_slow+0xb7".into())].into(),
    };
    writer.names(&names).unwrap();
    writer.traffic(&[traffic()]).unwrap();
    let counters = Counters {
        // 1234 of them the filter did not let through.
        started: 1640,
        finished: 400,
        lost_records: 0,
        unmatched_exits: 2,
        unknown_start: 1,
        lost_end: 4,
        filtered: 1234,
        hits: 15_000,
        probe_misses: Some(0),
        ..Counters::default()
    };
    writer
        .checkpoint(&Checkpoint { duration_ns: 29_000_000_000, counters: counters.clone(), clocks: None })
        .unwrap();
    if finish {
        writer.finish(&Checkpoint { duration_ns: 30_004_000_000, counters, clocks: None }).unwrap();
    }
}

fn traffic() -> serde_json::Value {
    serde_json::json!({
        "kind": "request/response", "protocol": "udp", "from": "pod-a", "to": "pod-b",
        "sent": 200, "answered": 196, "lost": 4,
        "latency": {"count": 196, "mean": 71000.5, "p50": 68000, "p90": 81000, "p99": 190000,
                    "p999": 240000, "p9999": 240000, "p99999": 240000, "max": 240123}
    })
}
