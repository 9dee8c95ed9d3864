//! What Docker's libnetwork sets up: the drivers bridge and overlay. The overlay driver adds only IPv4 neighbour
//! entries, so its networks carry only IPv4 between hosts.

use super::{NODES, PODS};
use crate::dataplanes::lab::{Need, Part};
use crate::dataplanes::step::{bridge, firewall, ip, sysctl};

pub const DOCKER0: Part = Part {
    about: "dockerd: docker0 with a veth pair per container",
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

pub const CHAINS: Part = Part {
    about: "dockerd: network isolation, masquerading of outgoing traffic, and a published port",
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

/// The VXLAN device is created on the node, whose underlay carries it, and moved to the network's namespace.
pub const NETWORK: Part = Part {
    about: "dockerd: the network's namespace with br0, vx-001001 and veth pairs; neighbour and FDB entries from serf",
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
