//! What Romana sets up: routed pods, routes between the nodes, and policy by iptables. Romana has no IPv6.

use super::{NODES, PODS};
use crate::dataplanes::lab::{Need, Part};
use crate::dataplanes::step::{ip, ipset, iptables, sysctl};

pub const WORKLOADS: Part = Part {
    about: "the CNI plugin romana: a veth pair per pod, a /32 route to it, and the gateway on romana-lo",
    needs: &[Need::Link("veth"), Need::Link("dummy")],
    steps: &[
        ip(
            NODES,
            "
            link add name romana-lo type dummy
            addr add 10.244.{n}.1/32 dev romana-lo
            link set dev romana-lo up
            link add name romana-pod{n} mtu {pod_mtu} type veth peer name eth0 mtu {pod_mtu} netns {pod}
            link set dev romana-pod{n} up
            ",
        ),
        sysctl(
            NODES,
            "net.ipv4.conf.romana-pod{n}.proxy_arp = 1\nnet.ipv4.neigh.romana-pod{n}.proxy_delay = 0",
        ),
        ip(NODES, "route add 10.244.{n}.2/32 dev romana-pod{n} scope link"),
        ip(
            PODS,
            "
            addr add 10.244.{n}.2/32 dev eth0
            link set dev eth0 up
            route add 10.244.{n}.1 dev eth0 scope link
            route add default via 10.244.{n}.1 dev eth0
            ",
        ),
    ],
};

/// The agent's chains, with a policy that admits the tenant's own pods.
pub const POLICY: Part = Part {
    about: "romana's agent: chains per direction, an ipset of the node's blocks, and a policy with its own ipset",
    needs: &[Need::Iptables, Need::Ipset],
    steps: &[
        ipset(
            NODES,
            "
            create localBlocks hash:net
            add localBlocks 10.244.{n}.0/24
            create ROMANA-admit_s hash:net
            add ROMANA-admit_s 10.244.0.0/16
            ",
        ),
        iptables(
        NODES,
        "
        *filter
        :ROMANA-INPUT - [0:0]
        :ROMANA-FORWARD-IN - [0:0]
        :ROMANA-FORWARD-OUT - [0:0]
        :ROMANA-OP - [0:0]
        :ROMANA-P-ADMIT - [0:0]
        -A INPUT -i romana-pod{n} -j ROMANA-INPUT
        -A FORWARD -m set --match-set localBlocks dst -j ROMANA-FORWARD-IN
        -A FORWARD -m set --match-set localBlocks src -j ROMANA-FORWARD-OUT
        -A ROMANA-INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
        -A ROMANA-FORWARD-OUT -m comment --comment Outgoing -j RETURN
        -A ROMANA-FORWARD-IN -m comment --comment DefaultDrop -j ROMANA-OP
        -A ROMANA-FORWARD-IN -j DROP
        -A ROMANA-OP -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
        -A ROMANA-OP -m set --match-set ROMANA-admit_s src -m comment --comment PolicyId=admit -j ROMANA-P-ADMIT
        -A ROMANA-P-ADMIT -j ACCEPT
        COMMIT
        *nat
        :ROMANA-POSTROUTING - [0:0]
        -A POSTROUTING -j ROMANA-POSTROUTING
        -A ROMANA-POSTROUTING -s 10.244.0.0/16 ! -d 10.244.0.0/16 -j MASQUERADE
        COMMIT
        ",
    )],
};
