//! A cloud whose router has a route to each node's pods. flannel's backend aws-vpc writes only IPv4 routes into its
//! route table.

use super::NODES;
use crate::dataplanes::lab::{Need, Part};
use crate::dataplanes::step::{ip, sysctl, tc};

/// Each node has a point-to-point link to the router, since the subnet of a cloud is not an Ethernet segment.
pub const VPC: Part = Part {
    about: "the cloud: a router between the nodes; flanneld, backend aws-vpc, fills its route table",
    needs: &[Need::Link("veth")],
    steps: &[
        sysctl(&["vpc"], "net.ipv4.ip_forward = 1"),
        ip(
            NODES,
            "
            link add name eth0 mtu {mtu} type veth peer name eth{n} mtu {mtu} netns {vpc}
            addr add 192.0.2.{n}/32 dev eth0
            link set dev eth0 up
            route add 192.0.2.254/32 dev eth0
            route add default via 192.0.2.254 dev eth0 onlink
            ",
        ),
        tc(NODES, "qdisc replace dev eth0 root {qdisc}"),
        ip(
            &["vpc"],
            "
            addr add 192.0.2.254/32 dev eth1
            addr add 192.0.2.254/32 dev eth2
            link set dev eth1 up
            link set dev eth2 up
            route add 192.0.2.1/32 dev eth1
            route add 192.0.2.2/32 dev eth2
            route add 10.244.1.0/24 via 192.0.2.1 dev eth1
            route add 10.244.2.0/24 via 192.0.2.2 dev eth2
            ",
        ),
    ],
};
