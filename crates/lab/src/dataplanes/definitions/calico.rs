//! What Calico sets up (calico-node 3.x): the CNI plugin's veth pairs and BIRD's routes.

use super::{NODES, PODS};
use crate::dataplanes::lab::{Need, Part};
use crate::dataplanes::step::{bird, ip, sysctl};

/// One pod per node, routed without a bridge. The pod's gateway is an address that no device owns; the node answers
/// for it by proxy ARP.
pub const WORKLOADS: Part = Part {
    about: "the CNI plugin calico: a veth cali* per pod, proxy ARP, a /32 route to the pod",
    needs: &[Need::Link("veth")],
    steps: &[
        ip(
            NODES,
            "
            link add name cali-pod{n} address ee:ee:ee:ee:ee:ee mtu {pod_mtu} type veth peer name eth0 mtu {pod_mtu} netns {pod}
            link set dev cali-pod{n} up
            ",
        ),
        sysctl(
            NODES,
            "
            net.ipv4.conf.cali-pod{n}.route_localnet = 1
            net.ipv4.conf.cali-pod{n}.proxy_arp = 1
            net.ipv4.conf.cali-pod{n}.forwarding = 1
            net.ipv4.conf.cali-pod{n}.rp_filter = 1
            net.ipv4.neigh.cali-pod{n}.proxy_delay = 0
            ",
        ),
        // The node's default gateway, here an unused address of the underlay: a node answers by proxy ARP only for
        // addresses that it has a route to.
        ip(NODES, "route add default via 192.0.2.254 dev eth0"),
        ip(NODES, "route add 10.244.{n}.2/32 dev cali-pod{n} scope link"),
        ip(
            PODS,
            "
            addr add 10.244.{n}.2/32 dev eth0
            link set dev eth0 up
            route add 169.254.1.1 dev eth0 scope link
            route add default via 169.254.1.1 dev eth0
            ",
        ),
        sysctl(NODES, "net.ipv6.conf.cali-pod{n}.proxy_ndp = 1").v6(),
        ip(NODES, "route add fd00:10:244:{n}::2/128 dev cali-pod{n}").v6(),
        // The gateway is the link-local address that follows from the veth's MAC address.
        ip(
            PODS,
            "
            addr add fd00:10:244:{n}::2/128 dev eth0 nodad
            route add fe80::ecee:eeff:feee:eeee/128 dev eth0
            route add ::/0 via fe80::ecee:eeff:feee:eeee dev eth0 mtu {pod_mtu_v6}
            ",
        )
        .v6(),
    ],
};

/// IPIP between the nodes. IPv6, which IPIP does not carry, is routed without encapsulation.
pub const IPIP: Part = Part {
    about: "calico-node, IPIP: tunl0, BIRD's route to the other node's block, a blackhole route for the node's own block",
    needs: &[Need::Link("ipip")],
    steps: &[
        ip(
            NODES,
            "
            link set dev tunl0 mtu {pod_mtu} up
            addr add 10.244.{n}.1/32 dev tunl0
            route add blackhole 10.244.{n}.0/26 proto 12
            route add 10.244.{p}.0/26 via 192.0.2.{p} dev tunl0 proto 12 onlink
            ",
        ),
        ip(
            NODES,
            "
            route add blackhole fd00:10:244:{n}::/64 proto 12
            route add fd00:10:244:{p}::/64 via 2001:db8::{p} dev eth0 proto 12
            ",
        )
        .v6(),
    ],
};

/// BIRD with the configuration that calico-node's confd generates for a full mesh.
pub const BGP: Part = Part {
    about: "calico-node, BIRD: announces the node's block and its pods' routes, installs the other node's",
    needs: &[Need::Bird],
    steps: &[
        bird(
            NODES,
            "
            router id 192.0.2.{n};
            protocol device { scan time 2; }
            protocol static { ipv4; route 10.244.{n}.0/26 blackhole; }
            protocol kernel {
            learn;
            persist;
            scan time 2;
            ipv4 { import all; export filter { if net ~ [ 10.244.0.0/16+ ] then accept; reject; }; };
            }
            protocol bgp Mesh_{p} {
            description \"Connection to BGP peer\";
            local 192.0.2.{n} as 64512;
            neighbor 192.0.2.{p} as 64512;
            direct;
            connect delay time 1;
            connect retry time 1;
            error wait time 1, 2;
            ipv4 { import all; next hop self; export filter { if net ~ [ 10.244.{n}.0/26{26,32} ] then accept; reject; }; };
            }
            ",
        ),
        bird(
            NODES,
            "
            router id 192.0.2.{n};
            protocol device { scan time 2; }
            protocol static { ipv6; route fd00:10:244:{n}::/64 blackhole; }
            protocol kernel {
            learn;
            persist;
            scan time 2;
            ipv6 { import all; export filter { if net ~ [ fd00:10:244::/48+ ] then accept; reject; }; };
            }
            protocol bgp Mesh_{p} {
            description \"Connection to BGP peer\";
            local 2001:db8::{n} as 64512;
            neighbor 2001:db8::{p} as 64512;
            direct;
            connect delay time 1;
            connect retry time 1;
            error wait time 1, 2;
            ipv6 { import all; next hop self; export filter { if net ~ [ fd00:10:244:{n}::/64{64,128} ] then accept; reject; }; };
            }
            ",
        )
        .v6(),
    ],
};
