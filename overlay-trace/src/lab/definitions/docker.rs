//! What Docker's libnetwork sets up: the drivers bridge and overlay.

use super::{NODES, PODS, base};
use crate::lab::{Lab, Need, Part, Place, bridge, ip, iptables, sysctl};

/// The driver bridge.
pub const BRIDGE: Lab = Lab::of_pods(
    "docker-bridge",
    "Docker's bridge: two containers of one machine talk over docker0, with Docker's chains.",
    &[&base::NAMESPACES, &DOCKER0, &CHAINS],
)
.in_namespaces(&["node1", "pod1", "pod1b"])
.between(container("pod1", "172.17.0.2"), container("pod1b", "172.17.0.3"));

/// The driver overlay.
pub const OVERLAY: Lab = Lab::of_pods(
    "docker-overlay",
    "Docker's overlay: a namespace per network with a bridge and a VXLAN, whose neighbours Docker enters.",
    &[&base::NAMESPACES, &base::UNDERLAY, &NETWORK],
)
.in_namespaces(&["node1", "node2", "net1", "net2", "pod1", "pod2"])
.between(container("pod1", "10.0.1.11"), container("pod2", "10.0.1.12"))
.with_overhead(50);

const fn container(namespace: &'static str, v4: &'static str) -> Place {
    Place { namespace, v4, v6: None }
}

const DOCKER0: Part = Part {
    about: "dockerd: docker0 with a veth per container",
    needs: &[Need::Link("veth"), Need::Link("bridge"), Need::BridgeNetfilter],
    steps: &[
        ip(
            &["node1"],
            "
            link add name docker0 mtu {pod_mtu} type bridge
            addr add 172.17.0.1/16 dev docker0
            link set dev docker0 up
            link add name veth1a mtu {pod_mtu} type veth peer name eth0 mtu {pod_mtu} netns {pod1}
            link add name veth1b mtu {pod_mtu} type veth peer name eth0 mtu {pod_mtu} netns {pod1b}
            link set dev veth1a master docker0 up
            link set dev veth1b master docker0 up
            ",
        ),
        sysctl(&["node1"], "net.bridge.bridge-nf-call-iptables = 1"),
        ip(&["pod1"], "addr add 172.17.0.2/16 dev eth0"),
        ip(&["pod1b"], "addr add 172.17.0.3/16 dev eth0"),
        ip(
            &["pod1", "pod1b"],
            "
            link set dev eth0 up
            route add default via 172.17.0.1
            ",
        ),
    ],
};

const CHAINS: Part = Part {
    about: "dockerd: isolation of networks, NAT of what leaves, and a published port",
    needs: &[Need::Iptables],
    steps: &[iptables(
        &["node1"],
        "
        *nat
        :DOCKER - [0:0]
        -A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
        -A OUTPUT ! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -j DOCKER
        -A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE
        -A POSTROUTING -s 172.17.0.3/32 -d 172.17.0.3/32 -p tcp -m tcp --dport 7700 -j MASQUERADE
        -A DOCKER -i docker0 -j RETURN
        -A DOCKER ! -i docker0 -p tcp -m tcp --dport 7700 -j DNAT --to-destination 172.17.0.3:7700
        COMMIT
        *filter
        :DOCKER - [0:0]
        :DOCKER-ISOLATION-STAGE-1 - [0:0]
        :DOCKER-ISOLATION-STAGE-2 - [0:0]
        :DOCKER-USER - [0:0]
        :FORWARD DROP [0:0]
        -A FORWARD -j DOCKER-USER
        -A FORWARD -j DOCKER-ISOLATION-STAGE-1
        -A FORWARD -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
        -A FORWARD -o docker0 -j DOCKER
        -A FORWARD -i docker0 ! -o docker0 -j ACCEPT
        -A FORWARD -i docker0 -o docker0 -j ACCEPT
        -A DOCKER -d 172.17.0.3/32 ! -i docker0 -o docker0 -p tcp -m tcp --dport 7700 -j ACCEPT
        -A DOCKER-ISOLATION-STAGE-1 -i docker0 ! -o docker0 -j DOCKER-ISOLATION-STAGE-2
        -A DOCKER-ISOLATION-STAGE-1 -j RETURN
        -A DOCKER-ISOLATION-STAGE-2 -o docker0 -j DROP
        -A DOCKER-ISOLATION-STAGE-2 -j RETURN
        -A DOCKER-USER -j RETURN
        COMMIT
        ",
    )],
};

/// The VXLAN is made on the node, whose network carries it, and moved to the network's namespace.
const NETWORK: Part = Part {
    about: "dockerd: the network's namespace with br0, vx-001001 and veths; neighbours and addresses from serf",
    needs: &[Need::Link("veth"), Need::Link("bridge"), Need::Link("vxlan")],
    steps: &[
        ip(
            NODES,
            "
            link add name vx-001001 type vxlan id 4097 dstport 4789 nolearning proxy l2miss l3miss
            link set dev vx-001001 netns {net{n}}
            ",
        ),
        ip(
            &["net1", "net2"],
            "
            link add name br0 mtu {pod_mtu} type bridge
            addr add 10.0.1.1/24 dev br0
            link set dev br0 up
            link set dev vx-001001 mtu {pod_mtu} master br0 up
            link add name veth0 mtu {pod_mtu} type veth peer name eth0 address 02:42:0a:00:01:1{n} mtu {pod_mtu} netns {pod}
            link set dev veth0 master br0 up
            neigh add 10.0.1.1{p} lladdr 02:42:0a:00:01:1{p} dev vx-001001 nud permanent
            ",
        ),
        bridge(&["net1", "net2"], "fdb add 02:42:0a:00:01:1{p} dev vx-001001 dst 192.0.2.{p} self permanent"),
        ip(
            PODS,
            "
            addr add 10.0.1.1{n}/24 dev eth0
            link set dev eth0 up
            ",
        ),
    ],
};
