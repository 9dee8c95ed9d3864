//! The base of every lab: the namespaces, and the network between the nodes.

use super::NODES;
use crate::dataplanes::lab::{Need, Part};
use crate::dataplanes::step::{ALL_NAMESPACES, WireKind, ip, sysctl, tc};

/// Settings of every namespace.
pub const NAMESPACES: Part = Part {
    about: "loopback; addresses are usable immediately, without duplicate address detection",
    needs: &[],
    steps: &[
        ip(ALL_NAMESPACES, "link set lo up"),
        sysctl(
            ALL_NAMESPACES,
            "
            net.ipv6.conf.all.disable_ipv6 = 0
            net.ipv6.conf.default.disable_ipv6 = 0
            net.ipv6.conf.default.dad_transmits = 0
            net.ipv6.conf.default.accept_ra = 0
            ",
        )
        .v6(),
        sysctl(
            NODES,
            "
            net.ipv4.ip_forward = 1
            net.ipv4.conf.all.rp_filter = 0
            net.ipv4.conf.default.rp_filter = 0
            ",
        ),
        sysctl(NODES, "net.ipv6.conf.all.forwarding = 1").v6(),
    ],
};

/// The network between the nodes: a veth pair in place of two NICs and a switch. Real NICs keep their qdisc.
pub const UNDERLAY: Part = Part {
    about: "the underlay: a NIC eth0 on each node, with a qdisc as on a real NIC",
    needs: &[Need::Link("veth")],
    steps: &[
        ip(&["node1"], "link add name eth0 mtu {mtu} type veth peer name eth0 mtu {mtu} netns {node2}")
            .wire(&[WireKind::Veth]),
        ip(NODES, "tuntap add dev eth0 mode tap").wire(&[WireKind::Taps]),
        ip(NODES, "link set dev eth0 mtu {mtu}").wire(&[WireKind::Taps, WireKind::Nics]),
        ip(
            NODES,
            "
            addr add 192.0.2.{n}/24 dev eth0
            link set dev eth0 up
            ",
        ),
        ip(NODES, "addr add 2001:db8::{n}/64 dev eth0 nodad").v6(),
        tc(NODES, "qdisc replace dev eth0 root {qdisc}").wire(&[WireKind::Veth, WireKind::Taps]),
    ],
};
