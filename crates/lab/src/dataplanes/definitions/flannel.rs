//! What flanneld sets up (flannel 0.2x): devices and routes per backend, and its iptables chains. Only the
//! backends vxlan, host-gw and wireguard support IPv6.

use super::NODES;
use crate::dataplanes::lab::{Need, Part};
use crate::dataplanes::step::{bridge, firewall, ip, udp_tunnel};

/// The backend host-gw.
pub const HOST_GW: Part = Part {
    about: "flanneld, backend host-gw: a route to the other node's pods via that node",
    needs: &[],
    steps: &[
        ip(NODES, "route add 10.244.{p}.0/24 via 192.0.2.{p} dev eth0"),
        ip(NODES, "route add fd00:10:244:{p}::/64 via 2001:db8::{p} dev eth0").v6(),
    ],
};

/// The backend vxlan. IPv6 has its own device, as in flannel's dual stack.
pub const VXLAN: Part = Part {
    about: "flanneld, backend vxlan: flannel.1 without learning; route, ARP and FDB entry per other node",
    needs: &[Need::Link("vxlan")],
    steps: &[
        ip(
            NODES,
            "
            link add name flannel.1 address 0a:00:00:00:04:0{n} mtu {pod_mtu} type vxlan id 1 dev eth0 local 192.0.2.{n} dstport 8472 nolearning{udp_checksum}
            addr add 10.244.{n}.0/32 dev flannel.1
            link set dev flannel.1 up
            route add 10.244.{p}.0/24 via 10.244.{p}.0 dev flannel.1 onlink
            neigh add 10.244.{p}.0 lladdr 0a:00:00:00:04:0{p} dev flannel.1 nud permanent
            ",
        ),
        bridge(NODES, "fdb add 0a:00:00:00:04:0{p} dev flannel.1 dst 192.0.2.{p} self permanent"),
        ip(
            NODES,
            "
            link add name flannel-v6.1 address 0a:00:00:00:06:0{n} mtu {pod_mtu_v6} type vxlan id 1 dev eth0 local 2001:db8::{n} dstport 8472 nolearning
            addr add fd00:10:244:{n}::/128 dev flannel-v6.1 nodad
            link set dev flannel-v6.1 up
            route add fd00:10:244:{p}::/64 via fd00:10:244:{p}:: dev flannel-v6.1 onlink
            neigh add fd00:10:244:{p}:: lladdr 0a:00:00:00:06:0{p} dev flannel-v6.1 nud permanent
            ",
        )
        .v6(),
        bridge(NODES, "fdb add 0a:00:00:00:06:0{p} dev flannel-v6.1 dst 2001:db8::{p} self permanent").v6(),
    ],
};

/// The backend udp. flanneld assigns the address with prefix length 16. Kernels before 5.14 derive no route from
/// that while cni0 has the same address as its broadcast address, so the route is explicit here.
pub const UDP: Part = Part {
    about: "flanneld, backend udp: the TUN device flannel0 for all pods of other nodes, and the daemon behind it",
    needs: &[Need::Tap],
    steps: &[
        ip(
            NODES,
            "
            tuntap add dev flannel0 mode tun
            link set dev flannel0 mtu {pod_mtu} up
            addr add 10.244.{n}.0/32 dev flannel0
            route add 10.244.0.0/16 dev flannel0
            ",
        ),
        udp_tunnel(NODES, "tun flannel0 192.0.2.{n}:8285 192.0.2.{p}:8285"),
    ],
};

/// The backend ipip.
pub const IPIP: Part = Part {
    about: "flanneld, backend ipip: flannel.ipip without a fixed remote address; one route per node names it",
    needs: &[Need::Link("ipip")],
    steps: &[ip(
        NODES,
        "
        link add name flannel.ipip mtu {pod_mtu} type ipip local 192.0.2.{n}
        addr add 10.244.{n}.0/32 dev flannel.ipip
        link set dev flannel.ipip up
        route add 10.244.{p}.0/24 via 192.0.2.{p} dev flannel.ipip onlink
        ",
    )],
};

/// flannel's chains, which follow kube-proxy's.
pub const FIREWALL: Part = Part {
    about: "flanneld, iptables: FLANNEL-FWD accepts pods' packets, FLANNEL-POSTRTG masquerades other traffic",
    needs: &[Need::Iptables],
    steps: &[firewall(
        NODES,
        r#"
        *filter
        :FLANNEL-FWD - [0:0]
        -A FORWARD -m comment --comment "flanneld forward" -j FLANNEL-FWD
        -A FLANNEL-FWD -s {pods} -m comment --comment "flanneld forward" -j ACCEPT
        -A FLANNEL-FWD -d {pods} -m comment --comment "flanneld forward" -j ACCEPT
        COMMIT
        *nat
        :FLANNEL-POSTRTG - [0:0]
        -A POSTROUTING -m comment --comment "flanneld masq" -j FLANNEL-POSTRTG
        -A FLANNEL-POSTRTG -m mark --mark 0x4000/0x4000 -m comment --comment "flanneld masq" -j RETURN
        -A FLANNEL-POSTRTG -s {own_pods} -d {pods} -m comment --comment "flanneld masq" -j RETURN
        -A FLANNEL-POSTRTG -s {pods} -d {own_pods} -m comment --comment "flanneld masq" -j RETURN
        -A FLANNEL-POSTRTG ! -s {pods} -d {own_pods} -m comment --comment "flanneld masq" -j RETURN
        -A FLANNEL-POSTRTG -s {pods} ! -d {multicast} -m comment --comment "flanneld masq" -j MASQUERADE --random-fully
        -A FLANNEL-POSTRTG ! -s {pods} -d {pods} -m comment --comment "flanneld masq" -j MASQUERADE --random-fully
        COMMIT
        "#,
    )],
};
