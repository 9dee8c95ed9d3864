//! One encapsulation each: tunnels, VLAN tags, encrypted tunnels, and Docker's overlay driver.

use crate::dataplanes::definitions::{
    bridge, docker, encrypted, flannel, kube_proxy, tunnels, underlay, vlan,
};
use crate::dataplanes::lab::{EndpointSpec, Lab};

pub const GRE: Lab = Lab::new(
    "gre",
    "Nodes joined by a GRE tunnel with a key.",
    &[&underlay::NAMESPACES, &underlay::UNDERLAY, &bridge::CNI_BRIDGE, &tunnels::GRE],
)
.dual_stack()
.overhead(28);

pub const GRETAP: Lab = Lab::new(
    "gretap",
    "Nodes joined by a GRE tunnel that carries Ethernet frames (gretap).",
    &[&underlay::NAMESPACES, &underlay::UNDERLAY, &bridge::CNI_BRIDGE, &tunnels::GRETAP],
)
.dual_stack()
.overhead(42);

pub const GENEVE: Lab = Lab::new(
    "geneve",
    "Nodes joined by Geneve with a tunnel option in each packet, as OVN uses it.",
    &[&underlay::NAMESPACES, &underlay::UNDERLAY, &bridge::CNI_BRIDGE, &tunnels::GENEVE],
)
.dual_stack()
.overhead(58);

pub const VXLAN6: Lab = Lab::new(
    "vxlan6",
    "Nodes joined by VXLAN over IPv6, on a non-standard UDP port.",
    &[&underlay::NAMESPACES, &underlay::UNDERLAY, &bridge::CNI_BRIDGE, &tunnels::VXLAN6],
)
.dual_stack()
.overhead(70);

pub const VLAN: Lab = Lab::new(
    "vlan",
    "Pods on tagged ports: a VLAN device at both ends of the pod's veth pair.",
    &[&underlay::NAMESPACES, &underlay::UNDERLAY, &vlan::TAGGED, &flannel::HOST_GW],
)
.dual_stack();

pub const QINQ: Lab = Lab::new(
    "qinq",
    "Pods on double-tagged ports (QinQ: 802.1Q inside 802.1ad).",
    &[&underlay::NAMESPACES, &underlay::UNDERLAY, &vlan::DOUBLY_TAGGED, &flannel::HOST_GW],
)
.dual_stack();

pub const DOCKER_OVERLAY: Lab = Lab::new(
    "docker-overlay",
    "Docker, driver overlay: one namespace per network with a bridge and a VXLAN device, static neighbour entries; IPv4 only.",
    &[&underlay::NAMESPACES, &underlay::UNDERLAY, &docker::NETWORK],
)
.namespaces(&["node1", "node2", "net1", "net2", "pod1", "pod2"])
.between(
    EndpointSpec { namespace: "pod1", v4: "10.0.1.11", v6: None },
    EndpointSpec { namespace: "pod2", v4: "10.0.1.12", v6: None },
)
.overhead(50);

pub const WIREGUARD: Lab = Lab::new(
    "wireguard",
    "flannel, backend wireguard: flannel-wg encrypts packets between the nodes' pods.",
    &[
        &underlay::NAMESPACES,
        &underlay::UNDERLAY,
        &bridge::CNI_BRIDGE,
        &encrypted::WIREGUARD,
        &kube_proxy::KUBE_PROXY,
        &flannel::FIREWALL,
    ],
)
.dual_stack()
.overhead(80);

pub const IPSEC: Lab = Lab::new(
    "ipsec",
    "IPsec: xfrm policies encrypt packets between the nodes' pods with ESP in tunnel mode, without a tunnel device.",
    &[
        &underlay::NAMESPACES,
        &underlay::UNDERLAY,
        &bridge::CNI_BRIDGE,
        &flannel::HOST_GW,
        &encrypted::ESP,
        &kube_proxy::KUBE_PROXY,
        &flannel::FIREWALL,
    ],
)
.dual_stack()
.overheads(80, 100);
