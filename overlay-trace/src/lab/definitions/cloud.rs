//! A cloud around the nodes: they are machines on hypervisors, and what is their network is an overlay.

use super::NODES;
use crate::lab::{Need, Part, bridge, ip, tc};

const HYPERVISORS: &[&str] = &["hv1", "hv2"];

/// OpenStack Neutron with the Linux bridge agent: per network a bridge brq*, in it the machines' taps and a
/// VXLAN device. The taps are veths here, since the machines are namespaces.
pub const NEUTRON: Part = Part {
    about: "Neutron's Linux bridge agent: brq101 with the machine's tap and vxlan-101; the machine's eth0",
    needs: &[Need::Link("veth"), Need::Link("bridge"), Need::Link("vxlan")],
    steps: &[
        ip(
            &["hv1"],
            "link add name eth0 mtu {fabric_mtu} type veth peer name eth0 mtu {fabric_mtu} netns {hv2}",
        )
        .wire(false),
        ip(
            HYPERVISORS,
            "
            tuntap add dev eth0 mode tap
            link set dev eth0 mtu {fabric_mtu}
            ",
        )
        .wire(true),
        ip(
            HYPERVISORS,
            "
            addr add 198.18.0.{n}/24 dev eth0
            link set dev eth0 up
            link add name brq101 mtu {mtu} type bridge
            link set dev brq101 up
            link add name vxlan-101 mtu {mtu} type vxlan id 101 dev eth0 local 198.18.0.{n} dstport 4789
            link set dev vxlan-101 master brq101 up
            link add name tap{n} mtu {mtu} type veth peer name eth0 mtu {mtu} netns {node}
            link set dev tap{n} master brq101 up
            ",
        ),
        // What the agent's l2population driver says: where unknown and broadcast addresses are asked for.
        bridge(HYPERVISORS, "fdb append 00:00:00:00:00:00 dev vxlan-101 dst 198.18.0.{p} self permanent"),
        tc(HYPERVISORS, "qdisc replace dev eth0 root {qdisc}"),
        ip(
            NODES,
            "
            addr add 192.0.2.{n}/24 dev eth0
            link set dev eth0 up
            ",
        ),
        ip(NODES, "addr add 2001:db8::{n}/64 dev eth0 nodad").v6(),
        tc(NODES, "qdisc replace dev eth0 root {qdisc}"),
    ],
};
