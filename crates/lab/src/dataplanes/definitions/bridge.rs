//! The CNI plugin `bridge`, to which flannel delegates.

use super::{NODES, PODS};
use crate::dataplanes::lab::{Need, Part};
use crate::dataplanes::step::{bridge, ip, sysctl};

/// One pod per node, on the bridge cni0.
pub const CNI_BRIDGE: Part = Part {
    about: "the CNI plugin bridge: cni0 with the node's pod, and the pod's routes",
    needs: &[Need::Link("veth"), Need::Link("bridge"), Need::BridgeNetfilter],
    steps: &[
        ip(
            NODES,
            "
            link add name cni0 mtu {pod_mtu} type bridge
            addr add 10.244.{n}.1/24 dev cni0
            link set dev cni0 up
            link add name veth-pod{n} mtu {pod_mtu} type veth peer name eth0 mtu {pod_mtu} netns {pod}
            link set dev veth-pod{n} master cni0 up
            ",
        ),
        bridge(NODES, "link set dev veth-pod{n} hairpin on"),
        sysctl(NODES, "net.bridge.bridge-nf-call-iptables = 1"),
        ip(
            PODS,
            "
            addr add 10.244.{n}.2/24 dev eth0
            link set dev eth0 up
            route add default via 10.244.{n}.1
            route add 10.244.0.0/16 via 10.244.{n}.1
            ",
        ),
        ip(NODES, "addr add fd00:10:244:{n}::1/64 dev cni0 nodad").v6(),
        sysctl(NODES, "net.bridge.bridge-nf-call-ip6tables = 1").v6(),
        ip(
            PODS,
            "
            addr add fd00:10:244:{n}::2/64 dev eth0 nodad
            route add ::/0 via fd00:10:244:{n}::1
            route add fd00:10:244::/48 via fd00:10:244:{n}::1 mtu {pod_mtu_v6}
            ",
        )
        .v6(),
    ],
};

/// A second pod on node1's bridge.
pub const SECOND_POD: Part = Part {
    about: "the CNI plugin bridge, for node1's second pod",
    needs: &[],
    steps: &[
        ip(
            &["node1"],
            "
            link add name veth-pod1b mtu {pod_mtu} type veth peer name eth0 mtu {pod_mtu} netns {pod1b}
            link set dev veth-pod1b master cni0 up
            ",
        ),
        bridge(&["node1"], "link set dev veth-pod1b hairpin on"),
        ip(
            &["pod1b"],
            "
            addr add 10.244.1.3/24 dev eth0
            link set dev eth0 up
            route add default via 10.244.1.1
            route add 10.244.0.0/16 via 10.244.1.1
            ",
        ),
        ip(
            &["pod1b"],
            "
            addr add fd00:10:244:1::3/64 dev eth0 nodad
            route add ::/0 via fd00:10:244:1::1
            ",
        )
        .v6(),
    ],
};
