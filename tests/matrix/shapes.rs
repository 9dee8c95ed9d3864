//! What each of the networks looks like: which of the layers that tell networks apart its recording must show,
//! and which not, at which levels; and what must be seen at certain places.

use std::collections::BTreeSet;
use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use overlay_trace_format::detection::sentence;
use overlay_trace_lab::dataplanes::{Knobs, Running};
use overlay_trace_lab::traffic::{Kind, PORT, Protocol, Spec, Stop, TrafficReport};
use overlay_trace_probe::ProbeSet::{Full, Light};
use overlay_trace_probe::sys::kernel;

use crate::invariants::{EXACT, EXPLAINED, MODERATE, REQUESTS};
use crate::labs::looks_like;
use crate::layers::{IPV6, firewall_layer};
use crate::networks::{moderate, requests};
use crate::results::{Outcome, Verdict};
use crate::scene::{Check, Scene, Setting, check};
use crate::seen::{Seen, is_stage};

/// A lab's shape.
struct Shape {
    lab: &'static str,
    /// For traffic over IPv6: the name of its setting.
    ipv6: Option<&'static str>,
    /// Those of [`TELLING`] that its recording shows, and no others.
    layers: &'static [&'static str],
    /// The highest level.
    level: u8,
    /// `NAMESPACE STAGE LEVEL`, which must be there.
    places: &'static [&'static str],
    scenes: &'static [Scene],
}

/// The layers by which networks differ; the others are everywhere. `firewall` stands for that of iptables.
const TELLING: &[&str] = &[
    "conntrack",
    "nat",
    "firewall",
    "bridge",
    "vxlan",
    "ipip",
    "gre",
    "geneve",
    "ipvlan",
    "macvlan",
    "vlan",
    "ovs",
    "ipvs",
    "tun",
    "xfrm",
    "wireguard",
    "tc",
    "cgroup",
    "gro-cells",
];

const fn shape(
    lab: &'static str,
    layers: &'static [&'static str],
    level: u8,
    places: &'static [&'static str],
) -> Shape {
    Shape { lab, ipv6: None, layers, level, places, scenes: SCENES }
}

impl Shape {
    /// The setting of this name, whose traffic goes over IPv6.
    const fn over_ipv6(self, name: &'static str) -> Shape {
        Shape { ipv6: Some(name), scenes: IPV6_SCENES, ..self }
    }

    const fn setting(&self) -> Setting {
        match self.ipv6 {
            Some(name) => Setting {
                name,
                knobs: || Knobs { ipv6: true, ..Knobs::default() },
                ..Setting::plain(self.lab, self.scenes)
            },
            None => Setting::plain(self.lab, self.scenes),
        }
    }

    const fn with_light(self) -> Shape {
        Shape { scenes: FULL_AND_LIGHT, ..self }
    }
}

/// Datagrams to a Service, by a socket that is not connected, and how long to wait for one.
const DATAGRAMS: u64 = 50;
const PATIENCE: Duration = Duration::from_secs(5);

const TRACKED: &str = "conntrack";
const TRANSLATED: &str = "nat";
const FILTERED: &str = "firewall";

const SHAPES: &[Shape] = &[
    shape(
        "flannel-udp",
        &[TRACKED, TRANSLATED, FILTERED, "bridge", "tun"],
        1,
        &["node1 tun-wait 0", "node1 ip-output 1", "node2 udp-rcv 1", "node2 ip-forward 0"],
    ),
    shape(
        "flannel-aws-vpc",
        &[TRACKED, TRANSLATED, FILTERED, "bridge"],
        0,
        &["vpc ip-forward 0", "node1 bridge-rx 0", "node2 bridge-xmit 0"],
    ),
    shape(
        "flannel-ipip",
        &[TRACKED, TRANSLATED, FILTERED, "bridge", "ipip", "gro-cells"],
        1,
        &["node1 ipip-encap 1", "node2 ipip-decap 1", "node2 gro-cells-wait 0", "node2 iptables 1"],
    ),
    shape(
        "calico-bgp",
        &[TRACKED, TRANSLATED, FILTERED],
        0,
        &["node1 iptables 0", "node1 ip-forward 0", "node2 ip-forward 0"],
    ),
    shape(
        "canal",
        &[TRACKED, TRANSLATED, FILTERED, "vxlan", "gro-cells"],
        1,
        &["node1 vxlan-encap 1", "node2 vxlan-decap 1", "node1 iptables 0", "node1 iptables 1"],
    ),
    shape("romana", &[TRACKED, TRANSLATED, FILTERED], 0, &["node1 iptables 0", "node2 ip-forward 0"]),
    shape("ipvlan-l2", &["ipvlan"], 0, &["pod1 ipvlan-xmit 0", "node2 ipvlan-receive 0", "pod2 ip-rcv 0"]),
    shape(
        "ipvlan-l3",
        &["ipvlan"],
        0,
        &["pod1 ipvlan-xmit 0", "node1 dev-queue-xmit 0", "node2 ipvlan-receive 0"],
    ),
    shape("macvlan", &["macvlan"], 0, &["pod1 macvlan-xmit 0", "node2 macvlan-receive 0", "pod2 ip-rcv 0"]),
    shape(
        "cni-bridge",
        &[TRACKED, TRANSLATED, FILTERED, "bridge"],
        0,
        &["node1 bridge-rx 0", "node1 ip-forward 0", "node2 nat 0", "node2 bridge-xmit 0"],
    ),
    shape("cni-ipvlan", &["ipvlan"], 0, &["pod1 ipvlan-xmit 0", "node2 ipvlan-receive 0", "pod2 ip-rcv 0"]),
    shape(
        "cni-macvlan",
        &["macvlan"],
        0,
        &["pod1 macvlan-xmit 0", "node2 macvlan-receive 0", "pod2 ip-rcv 0"],
    ),
    shape(
        "kube-router",
        &[TRACKED, TRANSLATED, FILTERED, "bridge"],
        0,
        &["node1 iptables 0", "node2 bridge-xmit 0"],
    ),
    shape(
        "kube-router-ipip",
        &[TRACKED, TRANSLATED, FILTERED, "bridge", "ipip", "gro-cells"],
        1,
        &["node1 ipip-encap 1", "node2 ipip-decap 1"],
    ),
    shape(
        "kube-router-ipvs",
        &[TRACKED, TRANSLATED, FILTERED, "bridge", "ipvs"],
        0,
        &["node1 ipvs-in 0", "node1 ipvs-send 0", "node1 ipvs-out 0"],
    ),
    shape(
        "kube-router-dsr",
        &[TRACKED, TRANSLATED, FILTERED, "bridge", "ipvs", "ipip", "gro-cells"],
        1,
        &["node1 ipvs-in 0", "node1 ipvs-tunnel 1", "pod2 ipip-decap 1", "pod2 gro-cells-wait 0"],
    )
    .with_light(),
    shape(
        "kube-proxy-iptables",
        &[TRACKED, TRANSLATED, FILTERED, "bridge"],
        0,
        &["node1 nat 0", "node1 ip-forward 0"],
    ),
    shape(
        "kube-proxy-ipvs",
        &[TRACKED, TRANSLATED, FILTERED, "bridge", "ipvs"],
        0,
        &["node1 ipvs-in 0", "node1 ipvs-send 0", "node1 ipvs-out 0"],
    ),
    shape(
        "docker-bridge",
        &[TRACKED, TRANSLATED, FILTERED, "bridge"],
        0,
        &["node1 bridge-netfilter 0", "node1 bridge-rx 0"],
    ),
    shape(
        "docker-overlay",
        &["bridge", "vxlan", "gro-cells"],
        1,
        &["net1 bridge-rx 0", "net1 vxlan-encap 1", "node2 vxlan-decap 1", "net2 gro-cells-wait 0"],
    ),
    shape(
        "neutron-linuxbridge-flat",
        &[TRACKED, FILTERED, "bridge"],
        0,
        &["hv1 bridge-rx 0", "hv2 bridge-rx 0", "hv1 iptables 0"],
    ),
    shape(
        "neutron-linuxbridge-vlan",
        &[TRACKED, FILTERED, "bridge", "vlan"],
        0,
        &["hv1 bridge-rx 0", "hv1 vlan-xmit 0", "hv2 vlan-receive 0"],
    ),
    shape(
        "neutron-linuxbridge-vxlan",
        &[TRACKED, FILTERED, "bridge", "vxlan", "gro-cells"],
        1,
        &["hv1 vxlan-encap 1", "hv2 vxlan-decap 1", "hv2 bridge-rx 0"],
    ),
    shape(
        "neutron-linuxbridge-gre",
        &[TRACKED, FILTERED, "bridge", "gre", "gro-cells"],
        1,
        &["hv1 gretap-encap 1", "hv2 gre-decap 1", "hv2 bridge-rx 0"],
    ),
    shape(
        "neutron-ovs-flat",
        &[TRACKED, FILTERED, "bridge", "ovs"],
        0,
        &[
            "hv1 bridge-rx 0",
            "hv1 ovs-receive 0",
            "hv1 ovs-lookup 0",
            "hv1 ovs-actions 0",
            "hv2 ovs-output 0",
        ],
    ),
    // The kernel looks for a VLAN device of the tag before Open vSwitch gets the packet.
    shape(
        "neutron-ovs-vlan",
        &[TRACKED, FILTERED, "bridge", "ovs", "vlan"],
        0,
        &["hv1 ovs-actions 0", "hv1 ovs-output 0", "hv2 ovs-actions 0"],
    ),
    shape(
        "neutron-ovs-vxlan",
        &[TRACKED, FILTERED, "bridge", "ovs", "vxlan", "gro-cells"],
        1,
        &["hv1 ovs-output 0", "hv1 vxlan-encap 1", "hv2 vxlan-decap 1", "hv2 ovs-lookup 0"],
    ),
    shape(
        "neutron-ovs-gre",
        &[TRACKED, FILTERED, "bridge", "ovs", "gre", "gro-cells"],
        1,
        &["hv1 ovs-output 0", "hv1 gretap-encap 1", "hv2 gre-decap 1", "hv2 ovs-lookup 0"],
    ),
    shape(
        "neutron-ovs-firewall",
        &[TRACKED, "ovs", "vxlan", "gro-cells"],
        1,
        &["hv1 ovs-conntrack 0", "hv1 conntrack-in 0", "hv1 vxlan-encap 1", "hv2 ovs-conntrack 0"],
    ),
    shape(
        "kuryr-macvlan",
        &["macvlan", "bridge", "vxlan", "gro-cells"],
        1,
        &["pod1 macvlan-xmit 0", "hv1 vxlan-encap 1", "node2 macvlan-receive 0"],
    ),
    shape(
        "kuryr-ipvlan",
        &["ipvlan", "bridge", "vxlan", "gro-cells"],
        1,
        &["pod1 ipvlan-xmit 0", "hv1 vxlan-encap 1", "node2 ipvlan-receive 0"],
    ),
    shape(
        "kuryr-vlan",
        &["vlan", "bridge", "vxlan", "gro-cells"],
        1,
        &["pod1 vlan-xmit 0", "hv1 vlan-receive 0", "hv1 vxlan-encap 1", "node2 vlan-receive 0"],
    ),
    shape(
        "weave-fastdp",
        &["bridge", "ovs", "vxlan", "gro-cells"],
        1,
        &["node1 bridge-rx 0", "node1 ovs-actions 0", "node1 vxlan-encap 1", "node2 ovs-lookup 0"],
    ),
    shape(
        "cilium-native",
        &["tc"],
        0,
        &["node1 tc-redirect 0", "node1 dev-queue-xmit 0", "node2 tc-redirect 0", "pod2 ip-rcv 0"],
    ),
    shape(
        "cilium-vxlan",
        &["tc", "vxlan", "gro-cells"],
        1,
        &["node1 tc-redirect 0", "node1 vxlan-encap 1", "node2 vxlan-decap 1", "node2 tc-redirect 0"],
    ),
    shape(
        "cilium-geneve",
        &["tc", "geneve", "gro-cells"],
        1,
        &["node1 tc-redirect 0", "node1 geneve-encap 1", "node2 geneve-decap 1", "node2 tc-redirect 0"],
    ),
    // Connected sockets have been given the server's address when they connect.
    Shape {
        scenes: SERVICE_SCENES,
        ..shape(
            "cilium-service",
            &["tc", "cgroup"],
            0,
            &["pod1 cgroup-program 0", "pod2 cgroup-program 0", "node1 tc-redirect 0", "node2 tc-redirect 0"],
        )
    },
    // What Weave puts around a frame is its own, so that a packet in UDP is a packet of the nodes.
    shape(
        "weave-sleeve",
        &["bridge", "tun"],
        0,
        &["node1 bridge-rx 0", "node1 tun-wait 0", "node2 udp-rcv 0", "node2 bridge-rx 0"],
    ),
    shape(
        "wireguard",
        &[TRACKED, TRANSLATED, FILTERED, "bridge", "wireguard"],
        1,
        &["node1 wireguard-encap 1", "node1 wireguard-encrypt 1", "node2 wireguard-decrypt 1", "node2 gro 0"],
    )
    .with_light(),
    shape(
        "ipsec",
        &[TRACKED, TRANSLATED, FILTERED, "bridge", "xfrm", "gro-cells"],
        1,
        &["node1 xfrm-output 1", "node2 xfrm-input 1", "node2 gro-cells-wait 0"],
    )
    .with_light(),
    shape(
        "kube-proxy-ipvs",
        &[TRACKED, TRANSLATED, FILTERED, "bridge", "ipvs"],
        0,
        &["node1 ipvs-in 0", "node1 ipvs-send 0", "node1 ipvs-out 0"],
    )
    .over_ipv6("kube-proxy-ipvs+ipv6"),
    shape(
        "kube-router-dsr",
        &[TRACKED, TRANSLATED, FILTERED, "bridge", "ipvs", "ipip", "gro-cells"],
        1,
        &["node1 ipvs-in 0", "node1 ipvs-tunnel 1", "pod2 ipip-decap 1", "pod2 gro-cells-wait 0"],
    )
    .over_ipv6("kube-router-dsr+ipv6"),
    shape(
        "wireguard",
        &[TRACKED, TRANSLATED, FILTERED, "bridge", "wireguard"],
        1,
        &["node1 wireguard-encap 1", "node1 wireguard-encrypt 1", "node2 wireguard-decrypt 1", "node2 gro 0"],
    )
    .over_ipv6("wireguard+ipv6"),
];

const CHECKS: &[Check] =
    &[check("layers", layers), check("places", places), check("pings", pings), check("named", named)];
const FULL: Scene =
    Scene { drive: requests_and_pings, ..Scene::of(Full, &[EXACT, MODERATE, REQUESTS, EXPLAINED, CHECKS]) };
const SCENES: &[Scene] = &[FULL];
const IPV6_SCENES: &[Scene] = &[Scene {
    drive: requests_and_pings,
    ..Scene::of(Full, &[EXACT, MODERATE, REQUESTS, EXPLAINED, CHECKS, IPV6])
}];
const SERVICE_SCENES: &[Scene] = &[Scene { drive: by_service, ..FULL }];
/// For networks of which the light set has rows that no other shows.
const FULL_AND_LIGHT: &[Scene] =
    &[FULL, Scene::of(Light, &[EXACT, MODERATE, REQUESTS, &[check("levels", levels)]])];

/// A setting for each shape.
pub const SETTINGS: &[Setting] = &{
    let mut settings = [const { Setting::plain("", SCENES) }; SHAPES.len()];
    let mut number = 0;
    while number < SHAPES.len() {
        settings[number] = SHAPES[number].setting();
        number += 1;
    }
    settings
};

/// Requests over UDP and TCP, and pings.
fn requests_and_pings(running: &Running, stop: &Stop) -> Result<Vec<TrafficReport>> {
    let mut reports = requests(running, stop)?;
    let ping = Spec { count: Some(50), ..moderate(Kind::Ping, Protocol::Icmp) };
    reports.extend(overlay_trace_lab::dataplanes::drive(running, &[ping], stop)?);
    Ok(reports)
}

/// Also datagrams of a socket that is not connected, of which each is given an address, and so is its answer.
fn by_service(running: &Running, stop: &Stop) -> Result<Vec<TrafficReport>> {
    let (service, server) = (running.target()?, running.listen_address()?);
    let any = SocketAddr::new(running.client()?.address, 0);
    let answering = running.server()?.netns.run(|| UdpSocket::bind(server))??;
    let asking = running.client()?.netns.run(|| UdpSocket::bind(any))??;
    for socket in [&answering, &asking] {
        socket.set_read_timeout(Some(PATIENCE))?;
    }
    for _ in 0..DATAGRAMS {
        asking.send_to(b"who is there?", service)?;
        let (length, client) = answering.recv_from(&mut [0; 64])?;
        answering.send_to(&b"it is the server"[..length], client)?;
        let (_, from) = asking.recv_from(&mut [0; 64])?;
        ensure!(from == service, "the answer is from {from}, not from {service}");
    }
    drop(answering);
    let mut reports = requests_and_pings(running, stop)?;
    let of_datagrams = reports.iter_mut().find(|report| report.protocol == Protocol::Udp);
    let report = of_datagrams.context("nothing was sent over UDP")?;
    report.sent += DATAGRAMS;
    report.received += DATAGRAMS;
    Ok(reports)
}

fn of(seen: &Seen) -> Result<&'static Shape> {
    let is_its = |shape: &&Shape| shape.lab == seen.lab && shape.ipv6.is_some() == seen.ipv6;
    SHAPES.iter().find(is_its).context("this lab has no shape")
}

/// The layers are those of the network, and so are the levels.
fn layers(seen: &Seen, all: &[Seen]) -> Outcome {
    let (shape, firewall) = (of(seen)?, firewall_layer()?);
    let named = |layer: &'static str| if layer == "firewall" { firewall } else { layer };
    let telling: BTreeSet<&str> = TELLING.iter().map(|layer| named(layer)).collect();
    let everywhere = all_track_connections().then_some("conntrack");
    let expected: BTreeSet<&str> = shape.layers.iter().map(|layer| named(layer)).chain(everywhere).collect();
    let found = seen.own.rows.iter().filter_map(|row| row.key.layer.as_deref());
    let found: BTreeSet<&str> = found.filter(|layer| telling.contains(layer)).collect();
    ensure!(
        found == expected,
        "missing: {:?}; not expected: {:?}",
        expected.difference(&found).collect::<Vec<_>>(),
        found.difference(&expected).collect::<Vec<_>>()
    );
    levels(seen, all)?;
    Ok(Verdict::With(found.into_iter().collect::<Vec<_>>().join(" ")))
}

/// Before Linux 6.12 the module of Open vSwitch makes every namespace track connections: its datapath calls
/// `nf_conncount_init` for each, which asked for the hooks.
fn all_track_connections() -> bool {
    !kernel::at_least((6, 12)) && Path::new("/sys/module/openvswitch").exists()
}

fn levels(seen: &Seen, _: &[Seen]) -> Outcome {
    let (found, expected) = (seen.levels(), (0..=of(seen)?.level).collect::<BTreeSet<u8>>());
    ensure!(found == expected, "the levels are {found:?} instead of {expected:?}");
    Ok(Verdict::Passed)
}

/// The stages are where they belong.
fn places(seen: &Seen, _: &[Seen]) -> Outcome {
    let (shape, firewall) = (of(seen)?, firewall_layer()?);
    let is_missing = |place: &&&str| {
        let words: Vec<&str> = place.split(' ').collect();
        let [netns, stage, level] = words[..] else { return true };
        let stage = if stage == "iptables" { firewall } else { stage };
        let netns = seen.netns(netns);
        !seen.has(|key| {
            is_stage(key, stage)
                && key.netns.as_deref() == Some(netns.as_str())
                && key.level.map(|level| level.to_string()).as_deref() == Some(level)
        })
    };
    let missing: Vec<_> = shape.places.iter().filter(is_missing).collect();
    ensure!(missing.is_empty(), "missing: {missing:?}");
    Ok(Verdict::With(format!("{} as expected", shape.places.len())))
}

/// The recording says what network it is of, also when other networks stood at the same time.
fn named(seen: &Seen, _: &[Seen]) -> Outcome {
    let found = seen.recording.header.networks.as_deref().context("no network was looked for")?;
    let (said, expected) = (sentence(found), looks_like(seen.lab)?);
    ensure!(said == expected, "{said:?} instead of {expected:?}");
    Ok(Verdict::Passed)
}

/// All pings were answered, and their echoes are recorded.
fn pings(seen: &Seen, _: &[Seen]) -> Outcome {
    let report =
        seen.traffic.iter().find(|report| report.kind == Kind::Ping).context("nothing was pinged")?;
    ensure!(report.sent > 0 && report.lost == 0, "{} of {} pings were lost", report.lost, report.sent);
    let icmp = if seen.ipv6 { 58 } else { 1 };
    let recorded = seen.count(|record| {
        seen.is_own(record)
            && record.header.flow.protocol == icmp
            && record.header.flow.destination_port != PORT
    })?;
    ensure!(recorded >= report.sent, "{} pings were sent, {recorded} packets recorded", report.sent);
    Ok(Verdict::With(format!("{} pings", report.sent)))
}
