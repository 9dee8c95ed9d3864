//! A cloud that knows the pods' networks: its own router sends packets to the node that has the pod.
//! flannel writes no routes of IPv6 into it.

use super::NODES;
use super::{base, bridge, flannel, kube_proxy};
use crate::dataplanes::{Lab, Need, Part, ip, sysctl, tc};

/// flannel's aws-vpc, which writes into the cloud's route table and nothing else.
pub const FLANNEL: Lab = Lab::of_pods(
    "flannel-aws-vpc",
    "flannel's aws-vpc: the cloud's router has a route to each node's pods, nothing is encapsulated; IPv4 alone.",
    &[&base::NAMESPACES, &VPC, &bridge::CNI_BRIDGE, &kube_proxy::KUBE_PROXY, &flannel::FIREWALL],
)
.in_namespaces(&["vpc", "node1", "node2", "pod1", "pod2"]);

/// Each node has a line of its own to the router, as in a cloud, whose subnets are no Ethernet.
const VPC: Part = Part {
    about: "the cloud: a router between the nodes; flanneld, backend aws-vpc, fills its table",
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
