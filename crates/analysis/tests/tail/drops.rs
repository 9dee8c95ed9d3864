//! Drops for which the kernel gives one reason, and which have several causes: the flows of the packets tell them apart.
//! And drops that are no finding.

use overlay_trace_analysis::{
    report::{self, TailFormat},
    tail::{Confidence, Finding, Of, Severity, Tail, Threshold},
};
use overlay_trace_common::{
    flags::RecordFlags,
    path::Span,
    record::{Flow, Outcome},
    stage_map::STAGES,
};
use overlay_trace_format::{Header, HopName, Names};
use tempfile::TempDir;

use super::{Record, recording, support};

const CLIENT: [u8; 4] = [10, 42, 1, 2];
const SERVICE: [u8; 4] = [10, 96, 0, 5];
const POD: [u8; 4] = [10, 42, 2, 2];
const TCP: u8 = 6;
const UDP: u8 = 17;
const LOCATION: u64 = 0xffff_ffff_8100_0000;
const REASON: u32 = 60;

fn flow(protocol: u8, from: ([u8; 4], u16), to: ([u8; 4], u16)) -> Flow {
    let address = |short: [u8; 4]| std::array::from_fn(|at| short.get(at).copied().unwrap_or(0));
    Flow {
        version: 4,
        protocol,
        source: address(from.0),
        source_port: from.1,
        destination: address(to.0),
        destination_port: to.1,
        ..Flow::default()
    }
}

/// Packets, the reason and the function of those that are dropped, and the stage that they are dropped in.
struct Scene {
    reason: &'static str,
    function: &'static str,
    stage: &'static str,
    /// The stage that the others end in.
    passes: &'static str,
    level: u8,
    /// Of the next packets.
    bytes: u32,
    records: Vec<Record>,
    /// ns.
    now: u64,
}

impl Scene {
    fn new(reason: &'static str, function: &'static str, stage: &'static str) -> Scene {
        let (passes, records) = ("socket-wait", Vec::new());
        Scene { reason, function, stage, passes, level: 0, bytes: 100, records, now: 1000 }
    }

    /// A packet, one millisecond after the one before.
    fn packet(&mut self, flow: Flow, is_dropped: bool) {
        self.now += 1_000_000;
        self.packet_at(self.now, flow, is_dropped);
    }

    fn packet_at(&mut self, start_ns: u64, flow: Flow, is_dropped: bool) {
        let number = |name: &str| STAGES.iter().position(|stage| stage.name == name).expect("a stage") as u8;
        let span = |stage, ns| Span { ns, hop: 1, level: self.level, stage: number(stage), cpu: None };
        let mut way = vec![span("receive", 9000), span("conntrack-in", 700)];
        way.push(if is_dropped { span(self.stage, 300) } else { span(self.passes, 2000) });
        let outcome = if is_dropped { Outcome::Dropped } else { Outcome::Delivered };
        let mut header = support::record(self.records.len() as u64 + 1, start_ns, &way, outcome);
        header.bytes = self.bytes;
        header.flow = Flow { sequence: self.records.len() as u32 * 100, ..flow };
        if is_dropped {
            (header.drop_reason, header.drop_location) = (REASON, LOCATION);
        }
        self.records.push((header, way));
    }

    fn tail(&self) -> Tail {
        let dir = TempDir::new().unwrap();
        let mut names = Names::default();
        names.drop_reasons.insert(REASON, self.reason.into());
        names.symbols.insert(LOCATION, format!("{}+0x1f", self.function));
        let hop = HopName { netns: "node1".into(), device: "cni0".into(), ..HopName::default() };
        let header = Header { start_monotonic_ns: 0, ..Header::new() };
        let recording = recording(dir.path(), &header, &[(1, hop)], &names, &self.records);
        Tail::of(&recording, Of::Packets, Threshold::Quantile(0.99), 0).unwrap()
    }

    fn first(&self) -> Option<Finding> {
        let tail = self.tail();
        assert!(
            tail.findings.len() <= 1,
            "{:?}",
            tail.findings.iter().map(|finding| finding.rule.id).collect::<Vec<_>>()
        );
        tail.findings.into_iter().next()
    }

    fn id(&self) -> &'static str {
        self.first().map_or("", |finding| finding.rule.id)
    }
}

#[test]
fn a_race_is_told_from_ports_that_are_used_up() {
    let mut race = Scene::new("NETFILTER_DROP", "nf_hook_slow", "conntrack-confirm");
    let mut ports = Scene::new("NETFILTER_DROP", "nf_hook_slow", "conntrack-confirm");
    for port in 40_000..40_020 {
        let question = flow(UDP, (CLIENT, port), (SERVICE, 53));
        race.now += 1_000_000;
        race.packet_at(race.now, question, false);
        race.packet_at(race.now + 400, question, true);
        ports.packet(flow(TCP, (CLIENT, port + 100), (SERVICE, 80)), false);
        // It is tried again, in vain.
        ports.packet(flow(TCP, (CLIENT, port), (SERVICE, 80)), true);
        ports.packet(flow(TCP, (CLIENT, port), (SERVICE, 80)), true);
    }
    assert_eq!((race.id(), ports.id()), ("conntrack-race", "snat-ports-used-up"));
    let found = ports.first().unwrap();
    assert_eq!((found.confidence, found.severity), (Confidence::Likely, Severity::Severe));
    assert_eq!(found.lossy.map(|lossy| (lossy.flows, lossy.silenced, lossy.run)), Some((20, 20, 2)));
}

#[test]
fn many_destinations_are_neither_a_race_nor_ports() {
    let mut scene = Scene::new("NETFILTER_DROP", "nf_hook_slow", "conntrack-confirm");
    for port in 0..20 {
        scene.packet(flow(UDP, (CLIENT, 40_000), (SERVICE, 1000 + port)), true);
        scene.packet(flow(UDP, (CLIENT, 40_000), (SERVICE, 2000 + port)), false);
    }
    let found = scene.first().unwrap();
    assert_eq!((found.rule.id, found.confidence), ("conntrack-insert", Confidence::Certain));
    assert!(found.what().contains("no source port was free") && found.check().contains("chaintoolong"));
}

#[test]
fn a_stale_entry_is_told_from_a_host_that_is_gone() {
    let (old, new) = (flow(UDP, (CLIENT, 40_000), (SERVICE, 53)), flow(UDP, (CLIENT, 40_001), (SERVICE, 53)));
    let mut stale = Scene::new("NEIGH_FAILED", "neigh_invalidate", "neighbour-wait");
    let mut gone = Scene::new("NEIGH_FAILED", "neigh_invalidate", "neighbour-wait");
    for scene in [&mut stale, &mut gone] {
        (0..20).for_each(|_| scene.packet(old, false));
        (0..20).for_each(|_| scene.packet(old, true));
    }
    (0..20).for_each(|_| stale.packet(new, false));
    (0..20).for_each(|_| gone.packet(new, true));
    assert_eq!((stale.id(), gone.id()), ("stale-entry", "neighbour-failed"));
    assert!(gone.first().unwrap().possible().iter().any(|cause| cause.contains("connection tracking entry")));
}

#[test]
fn lost_translation_is_told_from_a_missing_route_and_from_a_close() {
    let (ask, answer) =
        (flow(TCP, (CLIENT, 40_000), (SERVICE, 80)), flow(TCP, (POD, 8080), (CLIENT, 40_000)));
    let direct = flow(TCP, (CLIENT, 40_000), (POD, 8080));
    let mut lost = Scene::new("NO_SOCKET", "tcp_v4_rcv", "tcp-rcv");
    let mut closed = Scene::new("NO_SOCKET", "tcp_v4_rcv", "tcp-rcv");
    let mut late = Scene::new("NOT_SPECIFIED", "tcp_v4_rcv", "tcp-rcv");
    let mut route = Scene::new("IP_INNOROUTES", "ip_error", "route-input");
    for _ in 0..20 {
        lost.packet(ask, false);
        lost.packet(answer, false);
        late.packet(ask, false);
        late.packet(answer, false);
        closed.packet(direct, false);
        closed.packet(answer, false);
        route.packet(direct, false);
        route.packet(answer, false);
    }
    (0..5).for_each(|_| lost.packet(answer, true));
    // The client has had no answer, and asks again.
    lost.packet(ask, false);
    // Behind a translation as well, what comes after a close is missed by nobody.
    (0..5).for_each(|_| late.packet(answer, true));
    (0..5).for_each(|_| closed.packet(answer, true));
    (0..5).for_each(|_| route.packet(direct, true));
    let found = [lost.id(), closed.id(), late.id(), route.id()];
    assert_eq!(found, ["translation-lost", "", "", "no-route"]);
}

#[test]
fn a_pod_that_does_not_reach_itself_is_told_from_other_drops_of_a_bridge() {
    let mut hairpin = Scene::new("NOT_SPECIFIED", "br_forward", "bridge-rx");
    let mut blocked = Scene::new("NOT_SPECIFIED", "br_forward", "bridge-rx");
    for port in 40_000..40_009 {
        let connection = flow(TCP, (CLIENT, port), (SERVICE, 80));
        let is_chosen = port % 3 == 0;
        hairpin.packet(connection, is_chosen);
        // The next attempt can be sent to another pod.
        hairpin.packet(connection, is_chosen && port % 2 == 0);
        (0..2).for_each(|_| blocked.packet(connection, true));
    }
    hairpin.packet(flow(TCP, (CLIENT, 41_000), (SERVICE, 80)), false);
    assert_eq!((hairpin.id(), blocked.id()), ("hairpin", "drop"));
    assert!(blocked.first().unwrap().what().contains("bridge"));
}

#[test]
fn two_packets_are_a_finding_if_they_are_all_of_a_flow_for_a_while() {
    let one = flow(TCP, (CLIENT, 40_000), (POD, 8080));
    let mut scene = Scene::new("NOT_SPECIFIED", "xfrm_input", "xfrm-input");
    (0..400).for_each(|_| scene.packet(one, false));
    let mut apart = Scene::new("NOT_SPECIFIED", "xfrm_input", "xfrm-input");
    (0..400).for_each(|_| apart.packet(one, false));
    for drop in [true, true, false] {
        scene.packet(one, drop);
    }
    for drop in [true, false, true, false] {
        apart.packet(one, drop);
    }
    let found = scene.first().unwrap();
    assert_eq!((found.rule.id, found.packets, found.severity), ("drop", 2, Severity::Warning));
    assert!(found.what().contains("IPsec") && found.possible()[0].contains("SPI"), "{}", found.what());
    assert_eq!(apart.id(), "");
    let text = String::from_utf8(report::tail(&scene.tail(), TailFormat::FullText).unwrap()).unwrap();
    let first = text.lines().next().unwrap();
    assert!(
        first.contains("Cause: IPsec could not decrypt") && first.contains("2 packets were lost"),
        "{first}"
    );
    for part in ["make sure: /proc/net/xfrm_stat", "it can come from:", "2 in a row", "xfrm_input+0x1f"] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn what_nobody_waited_for_is_no_finding_but_is_counted() {
    let multicast = flow(UDP, (CLIENT, 5353), ([224, 0, 0, 251], 5353));
    let usual = flow(TCP, (CLIENT, 40_000), (POD, 8080));
    for (reason, function, flow) in [
        ("VXLAN_NO_REMOTE", "vxlan_xmit", multicast),
        ("QUEUE_PURGE", "skb_queue_purge_reason", usual),
        ("TCP_OLD_DATA", "tcp_data_queue", usual),
        ("NOT_SPECIFIED", "ip6_mc_input", usual),
    ] {
        let mut scene = Scene::new(reason, function, "receive");
        (0..100).for_each(|_| scene.packet(usual, false));
        (0..5).for_each(|_| scene.packet(flow, true));
        assert_eq!(scene.id(), "", "{reason}");
        let text = String::from_utf8(report::tail(&scene.tail(), TailFormat::FullText).unwrap()).unwrap();
        assert!(text.contains("\ndrops     5 packets: 5 "), "{reason}: {text}");
    }
}

#[test]
fn frames_that_a_bridge_floods_are_no_loss_but_a_changed_address_is() {
    let one = flow(TCP, (CLIENT, 40_000), (POD, 8080));
    let mut flooded = Scene::new("OTHERHOST", "ip_rcv_core", "ip-rcv");
    let mut changed = Scene::new("OTHERHOST", "ip_rcv_core", "ip-rcv");
    for _ in 0..20 {
        flooded.packet(one, false);
        flooded.packet_at(flooded.now + 200, one, true);
        changed.packet(one, false);
    }
    (0..20).for_each(|_| changed.packet(one, true));
    assert_eq!((flooded.id(), changed.id()), ("", "drop"));
    assert!(changed.first().unwrap().what().contains("MAC address"));
}

#[test]
fn a_reason_without_a_row_is_still_told_with_its_place() {
    let mut scene = Scene::new("OF_A_NEWER_KERNEL", "some_function", "receive");
    for port in 0..20 {
        scene.packet(flow(UDP, (CLIENT, 40_000 + port), (POD, 53)), port % 4 == 0);
    }
    let text = String::from_utf8(report::tail(&scene.tail(), TailFormat::FullText).unwrap()).unwrap();
    for part in
        ["the kernel dropped packets", "OF_A_NEWER_KERNEL in some_function+0x1f", "receive at cni0 of node1"]
    {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn a_rule_that_takes_some_packets_of_a_flow_is_told_from_a_policy() {
    let (asked, forbidden) =
        (flow(UDP, (CLIENT, 40_000), (POD, 53)), flow(UDP, (CLIENT, 40_000), (POD, 9999)));
    let mut limit = Scene::new("NETFILTER_DROP", "nf_hook_slow", "iptables");
    let mut policy = Scene::new("NETFILTER_DROP", "nf_hook_slow", "iptables");
    for number in 0..200 {
        limit.packet(asked, number % 10 == 9);
        policy.packet(asked, false);
        policy.packet(forbidden, true);
    }
    let found = [limit.first().unwrap(), policy.first().unwrap()];
    assert_eq!(found.map(|found| found.severity), [Severity::Severe, Severity::Note]);
    let text = String::from_utf8(report::tail(&limit.tail(), TailFormat::FullText).unwrap()).unwrap();
    assert!(text.starts_with("Cause: a firewall rule"), "{text}");
}

#[test]
fn a_router_that_does_not_forward_for_a_while_is_told_from_a_host_that_packets_come_to_by_mistake() {
    let one = flow(UDP, (CLIENT, 40_000), (POD, 53));
    let mut host = Scene::new("IP_INADDRERRORS", "ip_error", "route-input");
    let mut router = Scene::new("IP_INADDRERRORS", "ip_error", "route-input");
    router.passes = "ip-forward";
    for scene in [&mut host, &mut router] {
        (0..40).for_each(|number| scene.packet(one, number % 8 > 5));
    }
    assert_eq!((host.id(), router.id()), ("wrong-host", "forwarding-off"));
}

#[test]
fn an_echo_reply_that_a_raw_socket_has_read_is_no_loss() {
    let mut scene = Scene::new("NO_SOCKET", "icmp_rcv", "icmp-rcv");
    (0..20).for_each(|_| scene.packet(flow(1, (POD, 7), (CLIENT, 7)), true));
    assert_eq!(scene.id(), "");
}

#[test]
fn an_mtu_that_differs_is_told_from_a_device_that_is_down() {
    let one = flow(UDP, (CLIENT, 40_000), (POD, 53));
    let mut down = Scene::new("NOT_SPECIFIED", "__dev_forward_skb2", "veth-xmit");
    let mut mtu = Scene::new("NOT_SPECIFIED", "__dev_forward_skb2", "veth-xmit");
    for number in 0..100 {
        let is_long = number % 10 == 9;
        mtu.bytes = if is_long { 3000 } else { 100 + number % 7 };
        down.bytes = mtu.bytes;
        mtu.packet(one, is_long);
        down.packet(one, (40..60).contains(&number));
    }
    assert_eq!((mtu.id(), down.id()), ("mtu-differs", "drop"));
}

#[test]
fn a_tunnel_that_nobody_listens_to_is_told_from_a_program_that_is_not_there() {
    let one = flow(UDP, (CLIENT, 40_000), (POD, 53));
    let mut tunnel = Scene::new("NO_SOCKET", "__udp4_lib_rcv", "udp-rcv");
    let mut program = Scene::new("NO_SOCKET", "__udp4_lib_rcv", "udp-rcv");
    tunnel.level = 1;
    for scene in [&mut tunnel, &mut program] {
        (0..20).for_each(|_| scene.packet(one, true));
    }
    assert_eq!((tunnel.id(), program.id()), ("tunnel-port", "drop"));
    assert_eq!(tunnel.first().unwrap().confidence, Confidence::Certain);
}

#[test]
fn damaged_packets_are_told_from_checksums_that_nobody_fills_in() {
    let one = flow(UDP, (CLIENT, 40_000), (POD, 53));
    let mut damaged = Scene::new("UDP_CSUM", "udp_queue_rcv_one_skb", "udp-rcv");
    let mut offload = Scene::new("UDP_CSUM", "udp_queue_rcv_one_skb", "udp-rcv");
    // A socket for each request, as of a resolver: a damaged one is all of its flow.
    (0..40).for_each(|number| {
        damaged.packet(flow(UDP, (CLIENT, 40_000 + number), (POD, 53)), number % 10 == 5);
    });
    (0..40).for_each(|number| offload.packet(one, number > 20));
    assert_eq!((damaged.id(), offload.id()), ("bad-checksum", "checksum-not-filled"));
}

#[test]
fn acknowledgements_that_were_overtaken_are_no_loss_but_data_is() {
    let one = flow(TCP, (CLIENT, 40_000), (POD, 8080));
    for (flags, expected) in [(RecordFlags::NO_DATA, ""), (RecordFlags::NONE, "drop")] {
        let mut scene = Scene::new("TCP_RFC7323_PAWS", "tcp_validate_incoming", "tcp-do-rcv");
        for number in 0..100 {
            scene.packet(one, number % 20 > 17);
            scene.records.last_mut().unwrap().0.flags |= flags;
        }
        assert_eq!(scene.id(), expected);
    }
}

#[test]
fn a_route_that_rejects_is_told_from_one_that_is_missing() {
    let one = flow(UDP, (CLIENT, 40_000), (POD, 53));
    for (reason, expected) in
        [("NOT_SPECIFIED", "route-rejects"), ("IP_INNOROUTES", "no-route"), ("", "no-route")]
    {
        let mut scene = Scene::new(reason, "ip_error", "route-input");
        (0..40).for_each(|number| scene.packet(one, number % 8 > 5));
        assert_eq!(scene.id(), expected, "{reason}");
    }
}
