//! What Docker's libnetwork sets up: the drivers bridge and overlay. The overlay driver enters neighbours of IPv4 alone,
//! so that between machines its networks carry nothing else.

use super::{NODES, PODS, base};
use crate::dataplanes::{Lab, Need, Part, Place, bridge, firewall, ip, sysctl};

/// The driver bridge.
pub const BRIDGE: Lab = Lab::of_pods(
    "docker-bridge",
    "Docker's bridge: two containers of one machine talk over docker0, with Docker's chains.",
    &[&base::NAMESPACES, &DOCKER0, &CHAINS],
)
.in_namespaces(&["node1", "pod1", "pod1b"])
.between(
    Place { namespace: "pod1", v4: "172.17.0.2", v6: Some("fd00:172:17::2") },
    Place { namespace: "pod1b", v4: "172.17.0.3", v6: Some("fd00:172:17::3") },
);

/// The driver overlay.
pub const OVERLAY: Lab = Lab::of_pods(
    "docker-overlay",
    "Docker's overlay: a namespace per network with a bridge and a VXLAN, whose neighbours Docker enters; IPv4 alone.",
    &[&base::NAMESPACES, &base::UNDERLAY, &NETWORK],
)
.in_namespaces(&["node1", "node2", "net1", "net2", "pod1", "pod2"])
.between(
    Place { namespace: "pod1", v4: "10.0.1.11", v6: None },
    Place { namespace: "pod2", v4: "10.0.1.12", v6: None },
)
.with_overhead(50);

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
        ip(&["node1"], "addr add fd00:172:17::1/64 dev docker0 nodad").v6(),
        sysctl(&["node1"], "net.bridge.bridge-nf-call-ip6tables = 1").v6(),
        ip(&["pod1"], "addr add fd00:172:17::2/64 dev eth0 nodad").v6(),
        ip(&["pod1b"], "addr add fd00:172:17::3/64 dev eth0 nodad").v6(),
        ip(&["pod1", "pod1b"], "route add ::/0 via fd00:172:17::1").v6(),
    ],
};

const CHAINS: Part = Part {
    about: "dockerd: isolation of networks, NAT of what leaves, and a published port",
    needs: &[Need::Iptables],
    steps: &[firewall(
        &["node1"],
        "
        *nat
        :DOCKER - [0:0]
        -A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
        -A OUTPUT ! -d {localhost} -m addrtype --dst-type LOCAL -j DOCKER
        -A POSTROUTING -s {docker} ! -o docker0 -j MASQUERADE
        -A POSTROUTING -s {server} -d {server} -p tcp -m tcp --dport 7700 -j MASQUERADE
        -A DOCKER -i docker0 -j RETURN
        -A DOCKER ! -i docker0 -p tcp -m tcp --dport 7700 -j DNAT --to-destination {server_at}:7700
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
        -A DOCKER -d {server} ! -i docker0 -o docker0 -p tcp -m tcp --dport 7700 -j ACCEPT
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
