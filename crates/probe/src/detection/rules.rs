//! By what each network is known, as data. Rules that say more come before those that say less: a device that has led
//! to one network leads to no other.

use super::rules::Clue::*;

/// What a namespace must have. A `*` at the end of a name stands for any rest; the empty kind for any kind.
#[derive(Clone, Copy, Debug)]
pub enum Clue {
    /// A device of a name and kind that has led to nothing yet.
    Device(&'static str, &'static str),
    /// The same, and it is up: the kernel puts a device of that name into every namespace.
    Up(&'static str, &'static str),
    /// A device, whatever it has led to.
    Beside(&'static str, &'static str),
    Chain(&'static str),
    Set(&'static str),
    /// A route of a protocol's number.
    RouteBy(u8),
    /// A route by way of another machine to a network of the size of this device's own.
    PeersOf(&'static str),
    DefaultRoute,
    VirtualServers,
    TunnelledServers,
    Policies,
    SocketPrograms,
}

/// A network, or what comes with one.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    pub name: &'static str,
    /// Which of its kinds.
    pub mode: &'static str,
    /// Comes with a network.
    pub beside: bool,
    pub all: &'static [Clue],
    pub none: &'static [Clue],
}

const fn network(name: &'static str, mode: &'static str, all: &'static [Clue]) -> Rule {
    Rule { name, mode, beside: false, all, none: &[] }
}

const fn beside(name: &'static str, mode: &'static str, all: &'static [Clue]) -> Rule {
    Rule { beside: true, ..network(name, mode, all) }
}

impl Rule {
    const fn without(self, none: &'static [Clue]) -> Rule {
        Rule { none, ..self }
    }
}

/// The number of BIRD's routes.
const BIRD: u8 = 12;

pub const RULES: &[Rule] = &[
    network("Canal", "vxlan", &[Device("flannel*", "vxlan"), Device("cali*", "veth")]),
    network("flannel", "vxlan", &[Device("flannel*", "vxlan")]),
    network("flannel", "ipip", &[Device("flannel.ipip", "ipip")]),
    network("flannel", "udp", &[Device("flannel*", "tun")]),
    network("flannel", "wireguard", &[Device("flannel-wg*", "wireguard")]),
    network("flannel", "host-gw", &[Chain("FLANNEL-*"), PeersOf("cni0"), Beside("cni0", "bridge")])
        .without(&[Beside("flannel*", "")]),
    // A node without others has a default route too.
    network(
        "flannel",
        "routes of the cloud, or this node alone",
        &[Chain("FLANNEL-*"), DefaultRoute, Beside("cni0", "bridge")],
    )
    .without(&[Beside("flannel*", ""), PeersOf("cni0")]),
    network("flannel", "this node alone", &[Chain("FLANNEL-*"), Beside("cni0", "bridge")]).without(&[
        Beside("flannel*", ""),
        PeersOf("cni0"),
        DefaultRoute,
    ]),
    network("Calico", "vxlan", &[Device("vxlan.calico", "vxlan"), Device("cali*", "veth")]),
    network("Calico", "IPIP", &[Up("tunl0", "ipip"), Device("cali*", "veth")]),
    network("Calico", "BGP", &[Device("cali*", "veth"), RouteBy(BIRD)]),
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
    // What has no name of its own.
    network("pods on a node's NIC", "ipvlan", &[Device("*", "ipvlan")]),
    network("pods on a node's NIC", "macvlan", &[Device("*", "macvlan")]),
    network("a tunnel", "vxlan", &[Device("*", "vxlan")]),
    network("a tunnel", "geneve", &[Device("*", "geneve")]),
    network("a tunnel", "GRE", &[Up("*", "gre")]),
    network("a tunnel", "GRE with Ethernet inside", &[Up("*", "gretap")]),
    network("a tunnel", "ipip", &[Up("tun*", "ipip")]).without(&[Beside("cali*", "veth")]),
    network("a tunnel", "wireguard", &[Device("*", "wireguard")]),
    network("pods on a bridge", "cni0", &[Device("cni0", "bridge")]).without(&[Chain("FLANNEL-*")]),
    // What comes with a network.
    beside("VLANs", "", &[Device("*", "vlan")]),
    beside("IPsec", "", &[Policies]),
    beside("portmap", "", &[Chain("CNI-HOSTPORT-DNAT")]),
    beside("kube-proxy", "iptables", &[Chain("KUBE-SVC-*")]),
    beside("kube-proxy", "IPVS", &[Beside("kube-ipvs0", "dummy")]),
    beside("kube-proxy", "nftables", &[Chain("service-*"), Chain("nodeport-ips")]),
    beside(
        "kube-router's services",
        "IPVS, direct server return",
        &[Beside("kube-dummy-if", "dummy"), TunnelledServers],
    ),
    beside("kube-router's services", "IPVS", &[Beside("kube-dummy-if", "dummy"), VirtualServers])
        .without(&[TunnelledServers]),
    beside("services", "IPVS", &[VirtualServers])
        .without(&[Beside("kube-ipvs0", "dummy"), Beside("kube-dummy-if", "dummy")]),
    beside("services", "socket load balancing", &[Beside("cilium_host", "veth"), SocketPrograms]),
    beside("Calico's policy", "iptables and sets", &[Chain("cali-*"), Set("cali40*")]),
    beside("kube-router's policy", "iptables", &[Chain("KUBE-ROUTER-FORWARD")]),
    beside("Neutron's firewall", "iptables", &[Chain("neutron-*")]),
];
