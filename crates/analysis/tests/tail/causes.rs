//! Every cause that a recording by itself can show, injected on purpose: it is the first finding, at its place.

use overlay_trace_analysis::{
    report::{self, TailFormat},
    tail::{Evidence, Of, SingleCpu, Tail, Threshold, counter_row, rules},
};
use overlay_trace_common::{
    flags::RecordFlags,
    path::Span,
    record::{Outcome, RecordHeader},
    stage_map::STAGES,
};
use overlay_trace_format::{Header, HopName, Names};
use tempfile::TempDir;

use super::{Record, recording, support};

/// Number of a stage of this program's stage map.
fn number(name: &str) -> u8 {
    STAGES.iter().position(|stage| stage.name == name).unwrap_or_else(|| panic!("no stage {name}")) as u8
}

/// A path over VXLAN: stage, level, hop, typical ns.
const WAY: &[(&str, u8, u16, u64)] = &[
    ("socket-send", 0, 1, 2500),
    ("udp-send", 0, 1, 900),
    ("ip-local-out", 0, 1, 900),
    ("dev-queue-xmit", 0, 1, 800),
    ("veth-xmit", 0, 1, 500),
    ("backlog-wait", 0, 2, 1300),
    ("receive", 0, 2, 600),
    ("conntrack-in", 0, 2, 1100),
    ("iptables", 0, 2, 1900),
    ("dev-queue-xmit", 0, 3, 800),
    ("vxlan-encap", 1, 3, 1900),
    ("dev-queue-xmit", 1, 4, 900),
    ("veth-xmit", 1, 4, 500),
    ("backlog-wait", 1, 5, 1300),
    ("receive", 1, 5, 500),
    ("ip-rcv", 1, 5, 600),
    ("udp-rcv", 1, 5, 700),
    ("vxlan-decap", 1, 5, 700),
    ("gro-cells-wait", 0, 6, 900),
    ("receive", 0, 6, 500),
    ("ip-forward", 0, 6, 600),
    ("veth-xmit", 0, 7, 500),
    ("backlog-wait", 0, 8, 1200),
    ("udp-rcv", 0, 8, 1200),
    ("socket-wait", 0, 8, 2900),
    ("socket-receive", 0, 8, 800),
];

fn hops() -> Vec<(u16, HopName)> {
    let names = [
        ("pod1", "eth0"),
        ("node1", "veth-pod1"),
        ("node1", "flannel.1"),
        ("node1", "eth0"),
        ("node2", "eth0"),
        ("node2", "flannel.1"),
        ("node2", "veth-pod2"),
        ("pod2", "eth0"),
    ];
    let hop = |(netns, device): (&str, &str)| HopName {
        netns: netns.into(),
        device: device.into(),
        ..HopName::default()
    };
    (1..).zip(names.map(hop)).collect()
}

/// A fault that is injected into one packet of a hundred.
#[derive(Clone, Copy)]
enum Fault {
    /// It spends this many ns more in this stage, at this level and hop.
    Longer(&'static str, u8, u16, u64),
    /// It waits this many ns more in each queue from the NIC on.
    Queued(u64),
    /// The same, with all packets on one CPU there.
    Steered(u64),
    /// It waits this many ns for a softirq behind the NIC, if its flow is on the second CPU.
    Deferred(u64),
    /// Instead of one in a hundred, this many consecutive ones of every thousand packets wait for a late reader.
    Together(u64),
    /// It is dropped in this stage at this hop, for this reason, by this function.
    Dropped(&'static str, u16, &'static str, &'static str),
    /// As `Longer`, one of three hundred.
    Few(&'static str, u8, u16, u64),
    /// As `Longer`, a single packet.
    Once(&'static str, u8, u16, u64),
    /// As `Longer`, every packet.
    AllLonger(&'static str, u8, u16, u64),
    /// It is copied in this stage, at this level and hop, and nothing receives the copy.
    Copied(&'static str, u8, u16),
}
use Fault::*;

/// This many flows take turns, a hundred packets each. From the NIC on they are spread over two CPUs by flow.
const FLOWS: u64 = 8;
const NIC: u16 = 5;

/// A packet's record with the records of its copies.
fn packet(id: u64, faults: &[Fault]) -> (Vec<Record>, Names) {
    let flow = id / 100 % FLOWS;
    let is_steered = faults.iter().any(|fault| matches!(fault, Steered(_)));
    let cpu = |hop: u16| Some(if hop >= NIC && (is_steered || flow % 2 == 1) { 1 } else { 0 });
    let jitter = |at: u64| (id * 7919 + at * 104_729) % 13;
    let mut way: Vec<Span> = (0..)
        .zip(WAY)
        .map(|(at, &(stage, level, hop, ns))| Span {
            ns: ns + ns * jitter(at) / 50,
            hop,
            level,
            stage: number(stage),
            cpu: cpu(hop),
        })
        .collect();
    let mut names = Names::default();
    let (mut drop, mut copies) = (None, Vec::new());
    for (which, &fault) in (0..).zip(faults) {
        let is_hit = id % 100 == 50 + which;
        match fault {
            Longer(stage, level, hop, ns) if is_hit => lengthen(&mut way, stage, level, hop, ns + id * 13),
            Few(stage, level, hop, ns) if id % 300 == 50 + which => lengthen(&mut way, stage, level, hop, ns),
            Once(stage, level, hop, ns) if id == 1000 + which => lengthen(&mut way, stage, level, hop, ns),
            AllLonger(stage, level, hop, ns) => lengthen(&mut way, stage, level, hop, ns),
            // All until one moment: each starts 50 µs after the one before.
            Together(packets) if id % 1000 < packets => {
                lengthen(&mut way, "socket-wait", 0, 8, (packets + 10 - id % 1000) * 50_000)
            }
            Dropped(stage, hop, reason, function) => {
                let place = 0xffff_ffff_8000_0000 + which;
                names.drop_reasons.insert(50 + which as u32, reason.into());
                names.symbols.insert(place, format!("{function}+0x1f"));
                if is_hit {
                    let at = way.iter().position(|step| step.hop >= hop).unwrap();
                    way.truncate(at);
                    way.push(Span { ns: 300, hop, level: 0, stage: number(stage), cpu: cpu(hop) });
                    drop = Some((50 + which as u32, place));
                }
            }
            Copied(stage, level, hop) if is_hit => {
                let made = way.iter().position(|step| step.stage == number(stage)).unwrap();
                let ns: u64 = way[..made].iter().map(|step| step.ns).sum();
                let way = vec![Span { ns: 700, hop, level, stage: number("copy"), cpu: cpu(hop) }];
                let header = support::record(100_000 + id, id * 50_000 + ns, &way, Outcome::Dropped);
                copies.push((RecordHeader { flags: RecordFlags::CHILD, parent: id, ..header }, way));
            }
            Queued(ns) | Steered(ns) if is_hit => {
                lengthen(&mut way, "backlog-wait", 1, 5, ns + id * 13);
                lengthen(&mut way, "gro-cells-wait", 0, 6, ns + id * 17);
                lengthen(&mut way, "backlog-wait", 0, 8, ns);
            }
            Deferred(ns) if is_hit && cpu(NIC) == Some(1) => {
                lengthen(&mut way, "softirq-wait", 1, NIC, ns + id * 13)
            }
            Longer(..) | Few(..) | Once(..) | Copied(..) | Queued(..) | Steered(..) | Deferred(..)
            | Together(_) => {}
        }
    }
    let outcome = if drop.is_some() { Outcome::Dropped } else { Outcome::Delivered };
    let mut header = support::record(id, id * 50_000, &way, outcome);
    (header.drop_reason, header.drop_location) = drop.unwrap_or_default();
    header.flow.source_port = 1000 + flow as u16;
    header.flags |= if copies.is_empty() { RecordFlags::NONE } else { RecordFlags::PARENT };
    ([vec![(header, way)], copies].concat(), names)
}

fn lengthen(way: &mut Vec<Span>, stage: &str, level: u8, hop: u16, ns: u64) {
    let stage = number(stage);
    let here = |step: &Span| (step.level, step.hop) == (level, hop);
    match way.iter_mut().find(|step| step.stage == stage && here(step)) {
        Some(step) => step.ns += ns,
        None => {
            let at = way.iter().rposition(here).unwrap();
            way.insert(at, Span { ns, hop, level, stage, cpu: way[at].cpu });
        }
    }
}

fn tail(faults: &[Fault]) -> Tail {
    tail_on(2, faults)
}

/// The same on a node with so many CPUs.
fn tail_on(cpus: u32, faults: &[Fault]) -> Tail {
    let dir = TempDir::new().unwrap();
    let packets: Vec<(Vec<Record>, Names)> = (0..2000).map(|id| packet(id, faults)).collect();
    let names = packets[0].1.clone();
    let records: Vec<Record> = packets.into_iter().flat_map(|(records, _)| records).collect();
    let header = Header { start_monotonic_ns: 0, cpus: Some(cpus), ..Header::new() };
    let recording = recording(dir.path(), &header, &hops(), &names, &records);
    let tail = Tail::of(&recording, Of::Packets, Threshold::Quantile(0.985), 2).unwrap();
    super::assert_conserved(&tail);
    tail
}

fn ids(tail: &Tail) -> Vec<&'static str> {
    tail.findings.iter().map(|finding| finding.rule.id).collect()
}

const CASES: &[(&str, Fault)] = &[
    ("slow-reader", Longer("socket-wait", 0, 8, 900_000)),
    ("one-core", Steered(100_000)),
    ("busy-core-ksoftirqd", Longer("ksoftirqd-wait", 0, 8, 4_000_000)),
    ("busy-core-scheduling", Longer("scheduling-wait", 0, 1, 3_000_000)),
    ("busy-core-softirq", Longer("softirq-interruption", 1, 5, 700_000)),
    ("interleaving", Queued(100_000)),
    ("batch", Longer("batch-wait", 0, 6, 300_000)),
    ("backlog-wait", Longer("backlog-wait", 1, 5, 500_000)),
    ("gro-cells-wait", Longer("gro-cells-wait", 0, 6, 500_000)),
    ("qdisc-wait", Longer("qdisc-wait", 1, 4, 9_000_000)),
    ("driver", Longer("driver-xmit", 1, 4, 900_000)),
    ("tun-wait", Longer("tun-wait", 0, 3, 110_000)),
    ("neighbour-wait", Longer("neighbour-wait", 1, 4, 30_000_000)),
    ("fragments", Longer("reassembly-wait", 1, 5, 110_000)),
    ("software-segmentation", Longer("gso-segment", 1, 4, 85_000)),
    ("wireguard-wait", Longer("wireguard-wait", 0, 3, 100_000)),
    ("slow-rules", Longer("iptables", 0, 2, 150_000)),
    ("slow-conntrack", Longer("conntrack-in", 0, 2, 150_000)),
    ("long-rules", AllLonger("iptables", 0, 2, 40_000)),
    ("long-conntrack", AllLonger("conntrack-in", 0, 2, 40_000)),
    ("software-offload", AllLonger("checksum", 1, 3, 4_000)),
    ("fragmentation", AllLonger("fragment", 1, 4, 4_000)),
    ("user-space", AllLonger("tun-wait", 0, 3, 4_000)),
    ("gro-cells-overflow", Dropped("gro-cells-wait", 6, "NOT_SPECIFIED", "gro_cells_receive")),
    ("backlog-overflow", Dropped("backlog-wait", 5, "CPU_BACKLOG", "enqueue_to_backlog")),
    ("socket-overflow", Dropped("udp-rcv", 8, "SOCKET_RCVBUFF", "udp_queue_rcv_one_skb")),
    ("qdisc-overflow", Dropped("dev-queue-xmit", 4, "QDISC_DROP", "__dev_queue_xmit")),
    ("conntrack-refused", Dropped("conntrack-in", 2, "NETFILTER_DROP", "nf_hook_slow")),
    ("conntrack-insert", Dropped("conntrack-confirm", 2, "NETFILTER_DROP", "nf_hook_slow")),
    ("no-server", Dropped("ipvs-in", 2, "NETFILTER_DROP", "nf_hook_slow")),
    ("queue-to-program", Dropped("iptables", 2, "NOT_SPECIFIED", "nf_queue")),
    ("rule-drop", Dropped("iptables", 2, "NETFILTER_DROP", "nf_hook_slow")),
    ("tc-drop", Dropped("receive", 6, "TC_INGRESS", "__netif_receive_skb_core")),
    ("flooding", Copied("vxlan-encap", 1, 3)),
    ("fdb-miss", Dropped("vxlan-encap", 3, "VXLAN_NO_REMOTE", "vxlan_xmit")),
    ("neighbour-table-full", Dropped("neighbour", 4, "NEIGH_CREATEFAIL", "ip_finish_output2")),
    ("neighbour-failed", Dropped("neighbour-wait", 4, "NEIGH_FAILED", "neigh_invalidate")),
    ("wrong-host", Dropped("route-input", 8, "IP_INADDRERRORS", "ip_error")),
    ("no-route", Dropped("route-input", 2, "IP_INNOROUTES", "ip_error")),
    ("reverse-path", Dropped("route-input", 2, "IP_RPFILTER", "ip_rcv_finish_core")),
    ("too-long", Dropped("ip-forward", 2, "PKT_TOO_BIG", "ip_forward")),
    ("not-forwarded", Dropped("ip-forward", 2, "", "ip_forward")),
    ("fragments-lost", Dropped("reassembly-wait", 5, "FRAG_REASM_TIMEOUT", "ip_expire")),
    ("bad-checksum", Dropped("udp-rcv", 8, "UDP_CSUM", "udp_queue_rcv_one_skb")),
    ("drop", Dropped("receive", 6, "OTHERHOST", "ip_rcv_core")),
];

/// The same without drop reasons, as on kernels before 5.17.
const WITHOUT_REASON: &[(&str, Fault)] = &[
    ("conntrack-insert", Dropped("conntrack-confirm", 2, "", "nf_hook_slow")),
    ("rule-drop", Dropped("iptables", 2, "", "nf_hook_slow")),
    ("tc-drop", Dropped("dev-queue-xmit", 3, "", "__dev_queue_xmit")),
];

/// Rows of requests that no packet has.
const BETWEEN_PACKETS: &[&str] = &[
    "answering",
    "elsewhere",
    "retransmission-wait",
    "connection-wait",
    "delayed-ack-wait",
    "window-wait",
    "loss-probe-wait",
];

#[test]
fn every_cause_is_named_first_at_its_place() {
    let tested: Vec<&str> = CASES.iter().map(|case| case.0).collect();
    // These are about requests: see `requests` and `tcp`.
    let of_requests = [
        "slow-answer",
        "retransmission",
        "zero-window",
        "elsewhere",
        "slow-connect",
        "delayed-ack",
        "window-full",
        "loss-probe",
    ];
    // These are told apart by the flows of the packets: see `drops`.
    let of_flows = [
        "conntrack-race",
        "snat-ports-used-up",
        "translation-lost",
        "stale-entry",
        "hairpin",
        "forwarding-off",
        "mtu-differs",
        "tunnel-port",
        "checksum-not-filled",
        "route-rejects",
    ];
    // These are told by what the kernel itself has counted: see `counters`.
    let of_counters = [
        "unknown-spi",
        "cpu-quota",
        "steal",
        "listener-full",
        "syn-cookies",
        "receive-buffer-pruned",
        "old-timestamps",
        "conntrack-early-drop",
        "not-sent",
        "receive-errors",
        "tcp-memory",
        "softirq-budget",
        "resets",
    ];
    let is_here = |id: &&str| ![&of_requests[..], &of_flows, &of_counters].iter().any(|ids| ids.contains(id));
    let rules: Vec<&str> = rules().map(|rule| rule.id).filter(is_here).collect();
    assert_eq!(tested, rules);
    for &(id, fault) in CASES.iter().chain(WITHOUT_REASON) {
        let tail = tail(&[fault]);
        assert_eq!(ids(&tail), [id]);
        let (stage, level, hop) = match fault {
            Longer(stage, level, hop, _)
            | Few(stage, level, hop, _)
            | Once(stage, level, hop, _)
            | AllLonger(stage, level, hop, _) => (stage, level, hop),
            Dropped(stage, hop, ..) => (stage, 0, hop),
            Copied(stage, level, hop) => (stage, level, hop),
            Queued(_) | Steered(_) => ("backlog-wait", 1, NIC),
            Deferred(_) => ("softirq-wait", 1, NIC),
            Together(_) => ("socket-wait", 0, 8),
        };
        let (_, place) = &hops()[usize::from(hop) - 1];
        let key = &tail.findings[0].key;
        let found = (key.stage.as_deref(), key.level, key.netns.as_deref(), key.device.as_deref());
        assert_eq!(found, (Some(stage), Some(level), Some(&*place.netns), Some(&*place.device)), "{id}");
        if let Longer(..) = fault {
            assert_eq!(tail.rows[0].key, *key, "{id}");
            assert!(tail.findings[0].share.unwrap() > 0.5, "{id}");
        }
    }
}

#[test]
fn a_clean_recording_has_no_cause() {
    assert_eq!(ids(&tail(&[])), [""; 0]);
}

#[test]
fn one_core_has_the_number_of_its_cpu_and_needs_other_cpus() {
    let finding = &tail(&[Steered(100_000)]).findings[0];
    assert_eq!(finding.cpu, Some(SingleCpu { cpu: 1, flows: FLOWS }));
    assert_eq!(ids(&tail_on(1, &[Steered(100_000)])), ["interleaving"]);
    // At one place as at several.
    let one_place = [Longer("backlog-wait", 1, NIC, 500_000), Steered(0)];
    assert_eq!(ids(&tail(&one_place)), ["one-core"]);
    assert_eq!(ids(&tail_on(1, &one_place)), ["backlog-wait"]);
    // The packets of the other CPU passed the same place, so it is not one core.
    assert_eq!(ids(&tail(&[Deferred(900_000)])), ["busy-core-softirq"]);
}

#[test]
fn a_reader_that_was_late_on_two_occasions_only_is_no_finding() {
    assert_eq!(ids(&tail(&[Together(15)])), [""; 0]);
    assert_eq!(ids(&tail(&[Longer("socket-wait", 0, 8, 500_000)])), ["slow-reader"]);
}

#[test]
fn a_slow_reader_is_named_also_where_another_cause_has_more_packets() {
    // It has few of the slow packets, but they are slow enough.
    let both = [Longer("qdisc-wait", 1, 4, 400_000), Few("socket-wait", 0, 8, 400_000)];
    assert_eq!(ids(&tail(&both)), ["qdisc-wait", "slow-reader"]);
}

#[test]
fn a_single_packet_with_nearly_all_excess_hides_no_cause() {
    let stray = Once("copy", 0, 8, 5_000_000_000);
    assert_eq!(ids(&tail(&[Longer("ksoftirqd-wait", 0, 8, 4_000_000), stray])), ["busy-core-ksoftirqd"]);
    assert_eq!(ids(&tail(&[Longer("backlog-wait", 1, 5, 500_000), stray])), ["backlog-wait"]);
    assert_eq!(ids(&tail(&[stray])), [""; 0]);
}

#[test]
fn two_causes_at_once_are_both_named() {
    for pair in
        [["slow-reader", "qdisc-wait"], ["backlog-wait", "gro-cells-overflow"], ["batch", "rule-drop"]]
    {
        let fault = |id: &str| CASES.iter().find(|case| case.0 == id).unwrap().1;
        let scaled = match pair.map(fault) {
            // About the same excess each, so that neither hides the other.
            [Longer(a, l, h, _), Longer(b, m, i, _)] => [Longer(a, l, h, 950_000), Longer(b, m, i, 900_000)],
            other => other,
        };
        let tail = tail(&scaled);
        let mut found = ids(&tail);
        found.sort_unstable();
        let mut expected = pair;
        expected.sort_unstable();
        assert_eq!(found, expected);
    }
}

#[test]
fn rules_name_existing_stages_and_layers() {
    let mut ids: Vec<&str> = rules().map(|rule| rule.id).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), rules().count());
    for rule in rules() {
        let (stages, layers): (&[&str], &[&str]) = match &rule.evidence {
            Evidence::Excess(stages)
            | Evidence::Queue(stages)
            | Evidence::RequestWait(stages)
            | Evidence::ExcessLed(stages)
            | Evidence::ExcessInProgram(stages)
            | Evidence::ExcessSpread(stages)
            | Evidence::ExcessOnOneCpu(stages) => (stages, &[]),
            Evidence::Copies { stages, .. } => (stages, &[]),
            Evidence::TimeShare { layers, .. } => (&[], layers),
            Evidence::Timeouts | Evidence::ZeroWindows | Evidence::OtherDrops => (&[], &[]),
            Evidence::Throttled | Evidence::Stolen | Evidence::Squeezed => (&[], &[]),
            Evidence::Counted(counters) => {
                let names = counters.names.iter().chain(counters.with);
                names.for_each(|name| assert!(counter_row(name).is_some(), "{name}"));
                (&[], &[])
            }
            Evidence::Drops { stages, reasons, functions, .. } => {
                assert!(!reasons.is_empty() || !functions.is_empty(), "{}", rule.id);
                (stages, &[])
            }
        };
        let stages = stages.iter().filter(|stage| !BETWEEN_PACKETS.contains(stage));
        stages.for_each(|stage| assert!(number(stage) > 0));
        for layer in layers {
            assert!(STAGES.iter().any(|stage| stage.layer.name() == *layer), "{layer}");
        }
        // What to do about other drops is in their table.
        let of_table = matches!(rule.evidence, Evidence::OtherDrops | Evidence::Drops { .. });
        assert!(!rule.check.is_empty() || of_table, "{}", rule.id);
        let has_advice = !rule.advice.is_empty() || matches!(rule.evidence, Evidence::OtherDrops);
        assert!(has_advice && !rule.what.ends_with('.'), "{}", rule.id);
        assert!(rule.advice.iter().all(|advice| !advice.what.is_empty() && !advice.source.is_empty()));
    }
}

#[test]
fn a_wait_that_every_packet_has_is_a_cause() {
    let found = tail(&[AllLonger("qdisc-wait", 1, 4, 9_000_000)]);
    assert_eq!(ids(&found), ["qdisc-wait"]);
    let finding = &found.findings[0];
    assert_eq!(finding.key.device.as_deref(), Some("eth0"));
    assert!(
        finding.typical_ns.is_some_and(|ns| ns >= 9_000_000) && finding.share.unwrap() > 0.9,
        "{finding:?}"
    );
    let text = text(&found);
    let first = text.lines().next().unwrap();
    assert!(first.starts_with("Likely cause: packets wait in the device's qdisc"), "{first}");
    assert!(first.contains("of all packets, not only of slow ones"), "{first}");
    // A wait that no rule is about is told as well.
    let unknown = tail(&[AllLonger("batch-wait", 0, 6, 9_000_000)]);
    assert_eq!(ids(&unknown), [""; 0]);
    assert!(
        self::text(&unknown).contains("\nThe typical packet is slow here too: 9"),
        "{}",
        self::text(&unknown)
    );
    assert!(!self::text(&tail(&[])).contains("typical packet"));
}

#[test]
fn the_first_lines_follow_most_slow_packets_not_the_largest_sum() {
    // One packet holds nearly all of the sum; the others lose little, each at the same place.
    let stray = Once("udp-rcv", 0, 8, 5_000_000_000);
    let found = tail(&[Longer("ip-rcv", 1, 5, 30_000), stray]);
    assert_eq!(found.rows[0].key.stage.as_deref(), Some("udp-rcv"));
    let text = text(&found);
    let mut lines = text.lines();
    let (first, second) = (lines.next().unwrap(), lines.next().unwrap());
    assert!(
        first.starts_with("No known cause stands out: 20 of 21 slow packets lost most in ip-rcv at eth0"),
        "{first}"
    );
    assert!(second.contains("20 of 21 lost most in ip-rcv at eth0 of node2"), "{second}");
    assert!(second.contains("of the excess is udp-rcv at eth0 of pod2 (level 0) (of 1 packet)"), "{second}");
}

fn text(tail: &Tail) -> String {
    String::from_utf8(report::tail(tail, TailFormat::FullText).unwrap()).unwrap()
}
