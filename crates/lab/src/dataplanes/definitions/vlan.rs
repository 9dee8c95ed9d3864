//! Pods on VLAN-tagged ports.

use super::{NODES, PODS};
use crate::dataplanes::lab::{Need, Part};
use crate::dataplanes::step::ip;

const POD_ROUTES: &str = "
    route add default via 10.244.{n}.1
    route add 10.244.0.0/16 via 10.244.{n}.1
    ";

const GATEWAY_V6: &str = "addr add fd00:10:244:{n}::1/64 dev cni0 nodad";

const POD_ROUTES_V6: &str = "
    route add ::/0 via fd00:10:244:{n}::1
    route add fd00:10:244::/48 via fd00:10:244:{n}::1
    ";

const BRIDGE: &str = "
    link add name cni0 mtu {pod_mtu} type bridge
    addr add 10.244.{n}.1/24 dev cni0
    link set dev cni0 up
    link add name veth-pod{n} mtu {pod_mtu} type veth peer name eth0 mtu {pod_mtu} netns {pod}
    link set dev veth-pod{n} up
    ";

/// One tag: VLAN 100.
pub const TAGGED: Part = Part {
    about: "cni0, whose port is the VLAN device veth-pod*.100; in the pod eth0.100 has the address",
    needs: &[Need::Link("veth"), Need::Link("bridge"), Need::Link("vlan")],
    steps: &[
        ip(NODES, BRIDGE),
        ip(
            NODES,
            "
            link add link veth-pod{n} name veth-pod{n}.100 type vlan id 100
            link set dev veth-pod{n}.100 master cni0 up
            ",
        ),
        ip(
            PODS,
            "
            link set dev eth0 up
            link add link eth0 name eth0.100 type vlan id 100
            addr add 10.244.{n}.2/24 dev eth0.100
            link set dev eth0.100 up
            ",
        ),
        ip(PODS, POD_ROUTES),
        ip(NODES, GATEWAY_V6).v6(),
        ip(PODS, "addr add fd00:10:244:{n}::2/64 dev eth0.100 nodad").v6(),
        ip(PODS, POD_ROUTES_V6).v6(),
    ],
};

/// Two tags: VLAN 100 within the service VLAN 200.
pub const DOUBLY_TAGGED: Part = Part {
    about: "cni0, whose port is cvlan (802.1Q) on svlan (802.1ad) on veth-pod*; the same in the pod",
    needs: &[Need::Link("veth"), Need::Link("bridge"), Need::Link("vlan")],
    steps: &[
        ip(NODES, BRIDGE),
        ip(
            NODES,
            "
            link add link veth-pod{n} name svlan type vlan protocol 802.1ad id 200
            link set dev svlan up
            link add link svlan name cvlan type vlan id 100
            link set dev cvlan master cni0 up
            ",
        ),
        ip(
            PODS,
            "
            link set dev eth0 up
            link add link eth0 name svlan type vlan protocol 802.1ad id 200
            link set dev svlan up
            link add link svlan name cvlan type vlan id 100
            addr add 10.244.{n}.2/24 dev cvlan
            link set dev cvlan up
            ",
        ),
        ip(PODS, POD_ROUTES),
        ip(NODES, GATEWAY_V6).v6(),
        ip(PODS, "addr add fd00:10:244:{n}::2/64 dev cvlan nodad").v6(),
        ip(PODS, POD_ROUTES_V6).v6(),
    ],
};
