//! Pods whose device is a slave of the node's NIC: ipvlan and macvlan, as the CNI plugins of these names have
//! it. The node itself has no part in its pods' packets.

use super::{NODES, PODS, base};
use crate::dataplanes::{Lab, Need, Part, ip};

/// IPvlan, mode L2.
pub const IPVLAN_L2: Lab = Lab::of_pods(
    "ipvlan-l2",
    "IPvlan, mode L2: pods on the nodes' own Ethernet, by the node's MAC address and their own IP address.",
    &[&base::NAMESPACES, &base::UNDERLAY, &L2, &ON_LINK],
)
.dual_stack();

/// IPvlan, mode L3.
pub const IPVLAN_L3: Lab = Lab::of_pods(
    "ipvlan-l3",
    "IPvlan, mode L3: the node's route table decides for its pods, nothing is asked for by ARP.",
    &[&base::NAMESPACES, &base::UNDERLAY, &L3],
)
.dual_stack();

/// macvlan, mode bridge.
pub const MACVLAN: Lab = Lab::of_pods(
    "macvlan",
    "macvlan, mode bridge: pods on the nodes' own Ethernet, with a MAC address each.",
    &[&base::NAMESPACES, &base::UNDERLAY, &MAC, &ON_LINK],
)
.dual_stack();

/// ipvlan in mode L2.
pub const L2: Part = Part {
    about: "the CNI plugin ipvlan, mode l2: the pod's eth0 is a slave of the node's eth0",
    needs: &[Need::Link("ipvlan")],
    steps: &[ip(
        NODES,
        "
        link add link eth0 name slave{n} mtu {pod_mtu} type ipvlan mode l2
        link set dev slave{n} netns {pod} name eth0
        ",
    )],
};

const L3: Part = Part {
    about: "the CNI plugin ipvlan, mode l3: the pod's eth0 is a slave of the node's eth0; routes on the nodes",
    needs: &[Need::Link("ipvlan")],
    steps: &[
        ip(
            NODES,
            "
            link add link eth0 name slave{n} mtu {pod_mtu} type ipvlan mode l3
            link set dev slave{n} netns {pod} name eth0
            route add 10.244.{p}.0/24 via 192.0.2.{p} dev eth0
            ",
        ),
        ip(
            PODS,
            "
            addr add 10.244.{n}.2/24 dev eth0
            link set dev eth0 up
            route add default dev eth0
            ",
        ),
        ip(NODES, "route add fd00:10:244:{p}::/64 via 2001:db8::{p} dev eth0").v6(),
        ip(PODS, "addr add fd00:10:244:{n}::2/64 dev eth0 nodad\nroute add ::/0 dev eth0").v6(),
    ],
};

/// macvlan in bridge mode.
pub const MAC: Part = Part {
    about: "the CNI plugin macvlan, mode bridge: the pod's eth0 is a slave of the node's eth0",
    needs: &[Need::Link("macvlan")],
    steps: &[ip(
        NODES,
        "
        link add link eth0 name slave{n} mtu {pod_mtu} type macvlan mode bridge
        link set dev slave{n} netns {pod} name eth0
        ",
    )],
};

/// All pods are neighbours of each other.
pub const ON_LINK: Part = Part {
    about: "all pods' addresses are of one network",
    needs: &[],
    steps: &[
        ip(
            PODS,
            "
            addr add 10.244.{n}.2/16 dev eth0
            link set dev eth0 up
            ",
        ),
        ip(PODS, "addr add fd00:10:244:{n}::2/48 dev eth0 nodad").v6(),
    ],
};
