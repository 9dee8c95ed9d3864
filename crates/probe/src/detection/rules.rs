//! The evidence by which each container network is detected, as data. Specific rules come before general ones: a device
//! that is evidence for one network is none for another.

use super::rules::Clue::*;

/// Evidence that a namespace must have. A `*` at the end of a name matches any text, an empty kind any kind.
#[derive(Clone, Copy, Debug)]
pub enum Clue {
    /// A device of this name and kind that is no evidence for an earlier rule.
    Device(&'static str, &'static str),
    /// The same, and it is up: the kernel creates a device of that name in every namespace.
    Up(&'static str, &'static str),
    /// A device of this name and kind, also if it is evidence for an earlier rule.
    AnyDevice(&'static str, &'static str),
    Chain(&'static str),
    Set(&'static str),
    /// A route of this protocol (`rtnetlink(7)`).
    RouteProtocol(u8),
    /// A route by a gateway to a network of the same prefix length as this device's own.
    PeerRoute(&'static str),
    DefaultRoute,
    VirtualServers,
    TunnelledServers,
    Policies,
    SocketPrograms,
}

/// A container network, or an addition to one.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    pub name: &'static str,
    /// Which of its modes; may be empty.
    pub mode: &'static str,
    /// It comes with a network (`kube-proxy`).
    pub is_addition: bool,
    pub all: &'static [Clue],
    pub none: &'static [Clue],
}

const fn network(name: &'static str, mode: &'static str, all: &'static [Clue]) -> Rule {
    Rule { name, mode, is_addition: false, all, none: &[] }
}

const fn addition(name: &'static str, mode: &'static str, all: &'static [Clue]) -> Rule {
    Rule { is_addition: true, ..network(name, mode, all) }
}

impl Rule {
    const fn without(self, none: &'static [Clue]) -> Rule {
        Rule { none, ..self }
    }
}

/// The protocol number of BIRD's routes.
const BIRD: u8 = 12;

pub const RULES: &[Rule] = &[
    network("Canal", "vxlan", &[Device("flannel*", "vxlan"), Device("cali*", "veth")]),
    network("flannel", "vxlan", &[Device("flannel*", "vxlan")]),
    network("flannel", "ipip", &[Device("flannel.ipip", "ipip")]),
    network("flannel", "udp", &[Device("flannel*", "tun")]),
    network("flannel", "wireguard", &[Device("flannel-wg*", "wireguard")]),
    network("flannel", "host-gw", &[Chain("FLANNEL-*"), PeerRoute("cni0"), AnyDevice("cni0", "bridge")])
        .without(&[AnyDevice("flannel*", "")]),
    // A node without others has a default route too.
    network(
        "flannel",
        "routes of the cloud, or this node alone",
        &[Chain("FLANNEL-*"), DefaultRoute, AnyDevice("cni0", "bridge")],
    )
    .without(&[AnyDevice("flannel*", ""), PeerRoute("cni0")]),
    network("flannel", "this node alone", &[Chain("FLANNEL-*"), AnyDevice("cni0", "bridge")]).without(&[
        AnyDevice("flannel*", ""),
        PeerRoute("cni0"),
        DefaultRoute,
    ]),
    network("Calico", "vxlan", &[Device("vxlan.calico", "vxlan"), Device("cali*", "veth")]),
    network("Calico", "IPIP", &[Up("tunl0", "ipip"), Device("cali*", "veth")]),
    network("Calico", "BGP", &[Device("cali*", "veth"), RouteProtocol(BIRD)]),
    network("Calico", "", &[Device("cali*", "veth")]),
    network("Romana", "", &[Chain("ROMANA-*")]),
    network(
        "Weave",
        "fast datapath",
        &[Device("vxlan-*", "vxlan"), Device("weave", "bridge"), Device("datapath", "openvswitch")],
    ),
    network("Weave", "sleeve", &[Device("weave", "bridge"), Device("vethwe-*", "")]),
    network("kube-router", "overlay, ipip", &[Device("kube-bridge", "bridge"), Device("tun-*", "ipip")]),
    network("kube-router", "overlay, ip6tnl", &[Device("kube-bridge", "bridge"), Device("tun-*", "ip6tnl")]),
    network("kube-router", "routes", &[Device("kube-bridge", "bridge")]),
    network("Cilium", "vxlan", &[Device("cilium_vxlan", "vxlan"), Device("cilium_host", "veth")]),
    network("Cilium", "geneve", &[Device("cilium_geneve", "geneve"), Device("cilium_host", "veth")]),
    network("Cilium", "native routing", &[Device("cilium_host", "veth")]),
    network("Docker", "overlay", &[Device("vx-*", "vxlan"), Device("br0", "bridge")]),
    network("Docker", "bridge", &[Device("docker0", "bridge"), Chain("DOCKER")]),
    network(
        "Neutron",
        "Open vSwitch with a bridge for each firewall, vxlan",
        &[Device("vxlan_sys_*", "vxlan"), Device("*", "openvswitch"), Device("qbr*", "bridge")],
    ),
    network(
        "Neutron",
        "Open vSwitch with a bridge for each firewall, GRE",
        &[Device("gre_sys", "gretap"), Device("*", "openvswitch"), Device("qbr*", "bridge")],
    ),
    network(
        "Neutron",
        "Open vSwitch with a bridge for each firewall, flat or VLAN",
        &[Device("*", "openvswitch"), Device("qbr*", "bridge")],
    ),
    network(
        "Neutron",
        "Open vSwitch without a bridge for each firewall, vxlan",
        &[Device("vxlan_sys_*", "vxlan"), Device("*", "openvswitch"), Device("tap*", "")],
    ),
    network("Neutron", "Linux bridge, vxlan", &[Device("vxlan-*", "vxlan"), Device("brq*", "bridge")]),
    network("Neutron", "Linux bridge, GRE", &[Device("gre-*", "gretap"), Device("brq*", "bridge")]),
    network("Neutron", "Linux bridge, VLAN", &[Device("*", "vlan"), Device("brq*", "bridge")]),
    network("Neutron", "Linux bridge, flat", &[Device("brq*", "bridge")]),
    network("Open vSwitch", "", &[Device("*", "openvswitch")]),
    // Networks without a name of their own.
    network("pods on a node's NIC", "ipvlan", &[Device("*", "ipvlan")]),
    network("pods on a node's NIC", "macvlan", &[Device("*", "macvlan")]),
    network("a tunnel", "vxlan", &[Device("*", "vxlan")]),
    network("a tunnel", "geneve", &[Device("*", "geneve")]),
    network("a tunnel", "GRE", &[Up("*", "gre")]),
    network("a tunnel", "GRE with Ethernet inside", &[Up("*", "gretap")]),
    network("a tunnel", "ipip", &[Up("tun*", "ipip")]).without(&[AnyDevice("cali*", "veth")]),
    network("a tunnel", "wireguard", &[Device("*", "wireguard")]),
    network("pods on a bridge", "cni0", &[Device("cni0", "bridge")]).without(&[Chain("FLANNEL-*")]),
    // Additions.
    addition("VLANs", "", &[Device("*", "vlan")]),
    addition("IPsec", "", &[Policies]),
    addition("portmap", "", &[Chain("CNI-HOSTPORT-DNAT")]),
    addition("kube-proxy", "iptables", &[Chain("KUBE-SVC-*")]),
    addition("kube-proxy", "IPVS", &[AnyDevice("kube-ipvs0", "dummy")]),
    addition("kube-proxy", "nftables", &[Chain("service-*"), Chain("nodeport-ips")]),
    addition(
        "kube-router's services",
        "IPVS, direct server return",
        &[AnyDevice("kube-dummy-if", "dummy"), TunnelledServers],
    ),
    addition("kube-router's services", "IPVS", &[AnyDevice("kube-dummy-if", "dummy"), VirtualServers])
        .without(&[TunnelledServers]),
    addition("services", "IPVS", &[VirtualServers])
        .without(&[AnyDevice("kube-ipvs0", "dummy"), AnyDevice("kube-dummy-if", "dummy")]),
    addition("services", "socket load balancing", &[AnyDevice("cilium_host", "veth"), SocketPrograms]),
    addition("Calico's policy", "iptables and sets", &[Chain("cali-*"), Set("cali40*")]),
    addition("kube-router's policy", "iptables", &[Chain("KUBE-ROUTER-FORWARD")]),
    addition("Neutron's firewall", "iptables", &[Chain("neutron-*")]),
];
