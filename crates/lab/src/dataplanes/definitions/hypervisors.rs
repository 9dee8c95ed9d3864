//! A cloud below the nodes: the nodes are machines on hypervisors, and their network is an overlay.

use super::NODES;
use crate::dataplanes::lab::{Need, Part};
use crate::dataplanes::step::{Step, WireKind, bridge, ip, tc};

/// The namespaces of the two hypervisors.
pub const HYPERVISORS: &[&str] = &["hv1", "hv2"];

/// OpenStack Neutron with the Linux bridge agent: one bridge brq* per network, whose ports are the machines' taps
/// and a VXLAN device. The taps are veth pairs here, since the machines are namespaces.
pub const NEUTRON: Part = Part {
    about: "Neutron's Linux bridge agent: brq101 with the machine's tap and vxlan-101; the machine's eth0",
    needs: &[Need::Link("veth"), Need::Link("bridge"), Need::Link("vxlan")],
    steps: &[
        NICS_AS_VETH,
        NICS_AS_TAPS,
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
        // As the agent's l2population driver configures it: where unknown and broadcast frames are flooded to.
        bridge(HYPERVISORS, "fdb append 00:00:00:00:00:00 dev vxlan-101 dst 198.18.0.{p} self permanent"),
        QDISCS,
        PORTS,
        MACHINE_ADDRESSES,
        MACHINE_ADDRESSES_V6,
        MACHINE_QDISCS,
    ],
};

/// The physical network between the hypervisors.
pub const FABRIC: Part = Part {
    about: "the fabric: a NIC eth0 on each hypervisor, with a qdisc as on a real NIC",
    needs: &[Need::Link("veth")],
    steps: &[NICS_AS_VETH, NICS_AS_TAPS, NIC_MTU, ADDRESSES, QDISCS],
};

/// Machines, each with a tap in the bridge brq101.
pub const MACHINES: Part = Part {
    about: "the machine's tap in brq101, and its eth0",
    needs: &[Need::Link("veth")],
    steps: &[PORTS, MACHINE_ADDRESSES, MACHINE_ADDRESSES_V6, MACHINE_QDISCS],
};

const NICS_AS_VETH: Step =
    ip(&["hv1"], "link add name eth0 mtu {fabric_mtu} type veth peer name eth0 mtu {fabric_mtu} netns {hv2}")
        .wire(&[WireKind::Veth]);
const NICS_AS_TAPS: Step = ip(HYPERVISORS, "tuntap add dev eth0 mode tap").wire(&[WireKind::Taps]);
const NIC_MTU: Step =
    ip(HYPERVISORS, "link set dev eth0 mtu {fabric_mtu}").wire(&[WireKind::Taps, WireKind::Nics]);
const ADDRESSES: Step = ip(
    HYPERVISORS,
    "
    addr add 198.18.0.{n}/24 dev eth0
    link set dev eth0 up
    ",
);
const QDISCS: Step =
    tc(HYPERVISORS, "qdisc replace dev eth0 root {qdisc}").wire(&[WireKind::Veth, WireKind::Taps]);
const PORTS: Step = ip(
    HYPERVISORS,
    "
    link add name tap{n} mtu {mtu} type veth peer name eth0 mtu {mtu} netns {node}
    link set dev tap{n} master brq101 up
    ",
);
/// The machines' IPv4 addresses.
pub const MACHINE_ADDRESSES: Step = ip(
    NODES,
    "
    addr add 192.0.2.{n}/24 dev eth0
    link set dev eth0 up
    ",
);
/// The machines' IPv6 addresses.
pub const MACHINE_ADDRESSES_V6: Step = ip(NODES, "addr add 2001:db8::{n}/64 dev eth0 nodad").v6();
/// The machines' qdiscs.
pub const MACHINE_QDISCS: Step = tc(NODES, "qdisc replace dev eth0 root {qdisc}");
