//! Tunnels between the nodes, one of each kind, each with a route to the other node's pods and nothing else.

use super::NODES;
use crate::dataplanes::lab::{Need, Part};
use crate::dataplanes::step::{bridge, ip};

/// GRE over IPv4 with a key, carrying IP.
pub const GRE: Part = Part {
    about: "gre1: GRE with a key to the other node, and the route to its pods",
    needs: &[Need::Link("gre")],
    steps: &[
        ip(
            NODES,
            "
        link add name gre1 mtu {pod_mtu} type gre local 192.0.2.{n} remote 192.0.2.{p} key 77
        link set dev gre1 up
        route add 10.244.{p}.0/24 dev gre1
        ",
        ),
        ip(NODES, "route add fd00:10:244:{p}::/64 dev gre1").v6(),
    ],
};

/// GRE over IPv4 with a key, carrying Ethernet.
pub const GRETAP: Part = Part {
    about: "gretap1: GRE that carries Ethernet, and the route to the other node's pods",
    needs: &[Need::Link("gretap")],
    steps: &[ip(
        NODES,
        "
        link add name gretap1 address 0a:00:00:00:07:0{n} mtu {pod_mtu} type gretap local 192.0.2.{n} remote 192.0.2.{p} key 77
        link set dev gretap1 up
        route add 10.244.{p}.0/24 via 10.244.{p}.0 dev gretap1 onlink
        neigh add 10.244.{p}.0 lladdr 0a:00:00:00:07:0{p} dev gretap1 nud permanent
        ",
    ),
    ip(
        NODES,
        "
        route add fd00:10:244:{p}::/64 via fd00:10:244:{p}:: dev gretap1 onlink
        neigh add fd00:10:244:{p}:: lladdr 0a:00:00:00:07:0{p} dev gretap1 nud permanent
        ",
    )
    .v6()],
};

/// Geneve in external mode: VNI, remote address and option come from the route, as they come from a flow in OVN.
pub const GENEVE: Part = Part {
    about: "genev_sys: Geneve with a 4-byte option, set by the route to the other node's pods",
    needs: &[Need::Link("geneve")],
    steps: &[ip(
        NODES,
        "
        link add name genev_sys address 0a:00:00:00:08:0{n} mtu {pod_mtu} type geneve external dstport 6081
        link set dev genev_sys up
        route add 10.244.{p}.0/24 encap ip id 77 dst 192.0.2.{p} geneve_opts 258:128:00010002 via 10.244.{p}.0 dev genev_sys onlink
        neigh add 10.244.{p}.0 lladdr 0a:00:00:00:08:0{p} dev genev_sys nud permanent
        ",
    ),
    ip(
        NODES,
        "
        route add fd00:10:244:{p}::/64 encap ip id 77 dst 192.0.2.{p} geneve_opts 258:128:00010002 via fd00:10:244:{p}:: dev genev_sys onlink
        neigh add fd00:10:244:{p}:: lladdr 0a:00:00:00:08:0{p} dev genev_sys nud permanent
        ",
    )
    .v6()],
};

/// VXLAN over IPv6, on a UDP port that no standard assigns to VXLAN.
pub const VXLAN6: Part = Part {
    about: "vxlan6: VXLAN with an IPv6 remote address, on UDP port 18472",
    needs: &[Need::Link("vxlan"), Need::Ipv6],
    steps: &[
        ip(
            NODES,
            "
            link add name vxlan6 address 0a:00:00:00:09:0{n} mtu {pod_mtu} type vxlan id 6 dev eth0 local 2001:db8::{n} dstport 18472 nolearning
            link set dev vxlan6 up
            route add fd00:10:244:{p}::/64 via fd00:10:244:{p}:: dev vxlan6 onlink
            neigh add fd00:10:244:{p}:: lladdr 0a:00:00:00:09:0{p} dev vxlan6 nud permanent
            ",
        )
        .v6(),
        ip(
            NODES,
            "
            route add 10.244.{p}.0/24 via 10.244.{p}.0 dev vxlan6 onlink
            neigh add 10.244.{p}.0 lladdr 0a:00:00:00:09:0{p} dev vxlan6 nud permanent
            ",
        ),
        bridge(NODES, "fdb add 0a:00:00:00:09:0{p} dev vxlan6 dst 2001:db8::{p} self permanent").v6(),
    ],
};
