//! What kube-router sets up: routes or IP-in-IP tunnels between the nodes, and network policies.

use super::{NODES, PODS};
use crate::dataplanes::lab::{Need, Part};
use crate::dataplanes::step::{bridge, firewall, ip, sysctl};

pub const PODS_ON_BRIDGE: Part = Part {
    about: "the CNI plugin bridge, as kube-router configures it: kube-bridge with the node's pod",
    needs: &[Need::Link("veth"), Need::Link("bridge"), Need::BridgeNetfilter],
    steps: &[
        ip(
            NODES,
            "
            link add name kube-bridge mtu {pod_mtu} type bridge
            addr add 10.244.{n}.1/24 dev kube-bridge
            link set dev kube-bridge up
            link add name veth-pod{n} mtu {pod_mtu} type veth peer name eth0 mtu {pod_mtu} netns {pod}
            link set dev veth-pod{n} master kube-bridge up
            ",
        ),
        bridge(NODES, "link set dev veth-pod{n} hairpin on"),
        sysctl(NODES, "net.bridge.bridge-nf-call-iptables = 1"),
        ip(
            PODS,
            "
            addr add 10.244.{n}.2/24 dev eth0
            link set dev eth0 up
            route add default via 10.244.{n}.1
            ",
        ),
        ip(NODES, "addr add fd00:10:244:{n}::1/64 dev kube-bridge nodad").v6(),
        sysctl(NODES, "net.bridge.bridge-nf-call-ip6tables = 1").v6(),
        ip(
            PODS,
            "
            addr add fd00:10:244:{n}::2/64 dev eth0 nodad
            route add ::/0 via fd00:10:244:{n}::1 mtu {pod_mtu_v6}
            ",
        )
        .v6(),
    ],
};

pub const ROUTES: Part = Part {
    about: "kube-router's BGP, --enable-overlay=false: a route to the other node's pods",
    needs: &[],
    steps: &[ip(NODES, "route add {other_pods} via {other} dev eth0 proto 17").for_both_families()],
};

/// The IPv6-in-IPv6 tunnel carries the tunnel encapsulation limit option: the kernel adds it by default.
pub const TUNNELS: Part = Part {
    about: "kube-router's BGP, --overlay-type=full: a tunnel tun-* to the other node per IP family, and the route through it",
    needs: &[Need::Link("ipip"), Need::LinkV6("ip6tnl")],
    steps: &[
        ip(
            NODES,
            "
            link add name tun-19202{p} mtu {pod_mtu} type ipip local 192.0.2.{n} remote 192.0.2.{p}
            link set dev tun-19202{p} up
            route add 10.244.{p}.0/24 dev tun-19202{p} src 192.0.2.{n} proto 17
            rule add from 10.244.{n}.0/24 lookup 77
            route add 192.0.2.{p}/32 dev tun-19202{p} table 77
            ",
        ),
        ip(
            NODES,
            "
            link add name tun-2001db8{p} mtu {pod_mtu_v6} type ip6tnl mode ip6ip6 local 2001:db8::{n} remote 2001:db8::{p}
            link set dev tun-2001db8{p} up
            route add fd00:10:244:{p}::/64 dev tun-2001db8{p} src 2001:db8::{n} proto 17
            rule add from fd00:10:244:{n}::/64 lookup 77
            route add 2001:db8::{p}/128 dev tun-2001db8{p} table 77
            ",
        )
        .v6(),
    ],
};

pub const POLICY: Part = Part {
    about: "kube-router's network policies: chains per pod, default deny with marks; outgoing NAT",
    needs: &[Need::Iptables],
    steps: &[firewall(
        NODES,
        r#"
        *filter
        :KUBE-ROUTER-INPUT - [0:0]
        :KUBE-ROUTER-FORWARD - [0:0]
        :KUBE-ROUTER-OUTPUT - [0:0]
        :KUBE-POD-FW-POD{n} - [0:0]
        :KUBE-NWPLCY-DEFAULT - [0:0]
        -A INPUT -m comment --comment "kube-router netpol" -j KUBE-ROUTER-INPUT
        -A FORWARD -m comment --comment "kube-router netpol" -j KUBE-ROUTER-FORWARD
        -A OUTPUT -m comment --comment "kube-router netpol" -j KUBE-ROUTER-OUTPUT
        -A FORWARD -m comment --comment "allow outbound node port traffic on node interface" -o kube-bridge -j ACCEPT
        -A FORWARD -m comment --comment "allow outbound traffic from pods" -i kube-bridge -j ACCEPT
        -A KUBE-ROUTER-FORWARD -d {own_pod} -m comment --comment "rule to jump traffic destined to POD" -j KUBE-POD-FW-POD{n}
        -A KUBE-ROUTER-FORWARD -s {own_pod} -m comment --comment "rule to jump traffic from POD" -j KUBE-POD-FW-POD{n}
        -A KUBE-ROUTER-FORWARD -m mark --mark 0x20000/0x20000 -m comment --comment "rule to explicitly ACCEPT traffic" -j ACCEPT
        -A KUBE-POD-FW-POD{n} -m conntrack --ctstate INVALID -m comment --comment "rule to drop invalid state" -j DROP
        -A KUBE-POD-FW-POD{n} -m conntrack --ctstate RELATED,ESTABLISHED -m comment --comment "rule for stateful firewall" -j ACCEPT
        -A KUBE-POD-FW-POD{n} -m comment --comment "run through default network policy" -j KUBE-NWPLCY-DEFAULT
        -A KUBE-POD-FW-POD{n} -m mark ! --mark 0x10000/0x10000 -j REJECT --reject-with {port_unreachable}
        -A KUBE-POD-FW-POD{n} -j MARK --set-xmark 0x0/0x10000
        -A KUBE-POD-FW-POD{n} -m comment --comment "set mark to ACCEPT traffic that comply to network policies" -j MARK --set-xmark 0x20000/0x20000
        -A KUBE-NWPLCY-DEFAULT -m comment --comment "rule to mark traffic matching a network policy" -j MARK --set-xmark 0x10000/0x10000
        COMMIT
        *nat
        -A POSTROUTING -s {own_pods} ! -d {pods} -o eth0 -j MASQUERADE --random-fully
        COMMIT
        "#,
    )],
};
