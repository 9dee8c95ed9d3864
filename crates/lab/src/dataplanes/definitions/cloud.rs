//! A cloud around the nodes: they are machines on hypervisors, and what is their network is an overlay.

use super::NODES;
use crate::dataplanes::{Need, Part, Step, bridge, ip, tc};

pub const HYPERVISORS: &[&str] = &["hv1", "hv2"];

/// OpenStack Neutron with the Linux bridge agent: per network a bridge brq*, in it the machines' taps and a
/// VXLAN device. The taps are veths here, since the machines are namespaces.
pub const NEUTRON: Part = Part {
    about: "Neutron's Linux bridge agent: brq101 with the machine's tap and vxlan-101; the machine's eth0",
    needs: &[Need::Link("veth"), Need::Link("bridge"), Need::Link("vxlan")],
    steps: &[
        BETWEEN,
        TAPS_BETWEEN,
        ADDRESSES,
        ip(
            HYPERVISORS,
            "
            link add name brq101 mtu {mtu} type bridge
            link set dev brq101 up
            link add name vxlan-101 mtu {mtu} type vxlan id 101 dev eth0 local 198.18.0.{n} dstport 4789
            link set dev vxlan-101 master brq101 up
            ",
        ),
        // What the agent's l2population driver says: where unknown and broadcast addresses are asked for.
        bridge(HYPERVISORS, "fdb append 00:00:00:00:00:00 dev vxlan-101 dst 198.18.0.{p} self permanent"),
        QUEUES,
        PORTS,
        MACHINE_ADDRESSES,
        MACHINE_ADDRESSES_V6,
        MACHINE_QUEUES,
    ],
};

/// The network between the hypervisors.
pub const FABRIC: Part = Part {
    about: "the fabric: a NIC eth0 on each hypervisor, with a queue as a real NIC has",
    needs: &[Need::Link("veth")],
    steps: &[BETWEEN, TAPS_BETWEEN, ADDRESSES, QUEUES],
};

/// Machines with a tap each in the bridge brq101.
pub const MACHINES: Part = Part {
    about: "the machine's tap in brq101, and its eth0",
    needs: &[Need::Link("veth")],
    steps: &[PORTS, MACHINE_ADDRESSES, MACHINE_ADDRESSES_V6, MACHINE_QUEUES],
};

const BETWEEN: Step =
    ip(&["hv1"], "link add name eth0 mtu {fabric_mtu} type veth peer name eth0 mtu {fabric_mtu} netns {hv2}")
        .wire(false);
const TAPS_BETWEEN: Step = ip(
    HYPERVISORS,
    "
    tuntap add dev eth0 mode tap
    link set dev eth0 mtu {fabric_mtu}
    ",
)
.wire(true);
const ADDRESSES: Step = ip(
    HYPERVISORS,
    "
    addr add 198.18.0.{n}/24 dev eth0
    link set dev eth0 up
    ",
);
const QUEUES: Step = tc(HYPERVISORS, "qdisc replace dev eth0 root {qdisc}");
const PORTS: Step = ip(
    HYPERVISORS,
    "
    link add name tap{n} mtu {mtu} type veth peer name eth0 mtu {mtu} netns {node}
    link set dev tap{n} master brq101 up
    ",
);
/// The machines' addresses.
pub const MACHINE_ADDRESSES: Step = ip(
    NODES,
    "
    addr add 192.0.2.{n}/24 dev eth0
    link set dev eth0 up
    ",
);
/// The same of IPv6.
pub const MACHINE_ADDRESSES_V6: Step = ip(NODES, "addr add 2001:db8::{n}/64 dev eth0 nodad").v6();
/// The machines' queues.
pub const MACHINE_QUEUES: Step = tc(NODES, "qdisc replace dev eth0 root {qdisc}");
