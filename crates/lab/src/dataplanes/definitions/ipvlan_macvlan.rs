//! Pods whose device is an ipvlan or macvlan device of the node's NIC, as the CNI plugins of these names set it up.
//! The pods' packets bypass the node's own IP stack.

use super::{NODES, PODS};
use crate::dataplanes::lab::{Need, Part};
use crate::dataplanes::step::ip;

/// ipvlan in mode L2.
pub const IPVLAN_L2: Part = Part {
    about: "the CNI plugin ipvlan, mode l2: the pod's eth0 is on top of the node's eth0",
    needs: &[Need::Link("ipvlan")],
    steps: &[ip(
        NODES,
        "
        link add link eth0 name slave{n} mtu {pod_mtu} type ipvlan mode l2
        link set dev slave{n} netns {pod} name eth0
        ",
    )],
};

pub const IPVLAN_L3: Part = Part {
    about: "the CNI plugin ipvlan, mode l3: the pod's eth0 is on top of the node's eth0; routes on the nodes",
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
pub const MACVLAN: Part = Part {
    about: "the CNI plugin macvlan, mode bridge: the pod's eth0 is on top of the node's eth0",
    needs: &[Need::Link("macvlan")],
    steps: &[ip(
        NODES,
        "
        link add link eth0 name slave{n} mtu {pod_mtu} type macvlan mode bridge
        link set dev slave{n} netns {pod} name eth0
        ",
    )],
};

/// All pods are on one link.
pub const ON_LINK: Part = Part {
    about: "all pods' addresses are in one subnet",
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
