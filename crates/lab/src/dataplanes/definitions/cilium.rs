//! Networks of Cilium's shape: kernel programs of our own at the pods' devices and at the tunnel carry packets
//! past the node's stack, as Cilium's do with its host routing, and at a cgroup choose a Service's server where a
//! socket connects or sends. Cilium's policies and connection tracking are not in them, nor is
//! socket load balancing over IPv6, which would be the same programs with longer addresses.

use super::{NODES, PODS, base};
use crate::dataplanes::{Lab, Need, Part, classifier, ip, socket_programs};

/// VXLAN between the nodes.
pub const VXLAN: Lab = Lab::of_pods(
    "cilium-vxlan",
    "Cilium's shape, vxlan: tc programs redirect from the pod to cilium_vxlan, and from there into the pod.",
    &[&base::NAMESPACES, &base::UNDERLAY, &ENDPOINTS, &VXLAN_DEVICE, &TUNNEL_PROGRAMS],
)
.dual_stack()
.with_overhead(50);

/// Geneve between the nodes.
pub const GENEVE: Lab = Lab::of_pods(
    "cilium-geneve",
    "Cilium's shape, geneve: as cilium-vxlan, with cilium_geneve.",
    &[&base::NAMESPACES, &base::UNDERLAY, &ENDPOINTS, &GENEVE_DEVICE, &GENEVE_PROGRAMS],
)
.dual_stack()
.with_overhead(50);

/// Routes between the nodes.
pub const NATIVE: Lab = Lab::of_pods(
    "cilium-native",
    "Cilium's shape, native routing: tc programs redirect from the pod to the NIC, and from there into the pod.",
    &[&base::NAMESPACES, &base::UNDERLAY, &ENDPOINTS, &NATIVE_PROGRAMS],
)
.dual_stack();

/// Routes between the nodes, and traffic to a Service.
pub const SERVICE: Lab = Lab::of_pods(
    "cilium-service",
    "Cilium's shape, socket load balancing: a Service's address becomes the server's where a socket connects or sends; IPv4 alone.",
    &[&base::NAMESPACES, &base::UNDERLAY, &ENDPOINTS, &NATIVE_PROGRAMS, &SOCKET_PROGRAMS],
)
.by_service();

const SOCKET_PROGRAMS: Part = Part {
    about: "the agent: programs at connect, sendmsg, recvmsg and getpeername, for the cgroup that the pods are in",
    needs: &[Need::Cgroup],
    steps: &[socket_programs(&["node1"], "service={service}:7700 server={server}:7700 packets=seen")],
};

const ENDPOINTS: Part = Part {
    about: "the CNI plugin cilium: lxc* with the pod, whose gateway is an address of cilium_host",
    needs: &[Need::Link("veth")],
    steps: &[
        ip(
            NODES,
            "
            link add name cilium_host type veth peer name cilium_net
            addr add 10.244.{n}.1/32 dev cilium_host
            link set dev cilium_host up
            link set dev cilium_net up
            link add name lxc{n} address 0a:00:00:00:0a:0{n} mtu {pod_mtu} type veth peer name eth0 address 0a:00:00:00:0b:0{n} mtu {pod_mtu} netns {pod}
            link set dev lxc{n} up
            route add 10.244.{n}.2/32 dev lxc{n}
            ",
        ),
        ip(
            PODS,
            "
            addr add 10.244.{n}.2/32 dev eth0
            link set dev eth0 up
            neigh add 10.244.{n}.1 lladdr 0a:00:00:00:0a:0{n} dev eth0 nud permanent
            route add 10.244.{n}.1 dev eth0 scope link
            route add default via 10.244.{n}.1 dev eth0
            ",
        ),
        ip(
            NODES,
            "
            addr add fd00:10:244:{n}::1/128 dev cilium_host nodad
            route add fd00:10:244:{n}::2/128 dev lxc{n}
            ",
        )
        .v6(),
        ip(
            PODS,
            "
            addr add fd00:10:244:{n}::2/128 dev eth0 nodad
            neigh add fd00:10:244:{n}::1 lladdr 0a:00:00:00:0a:0{n} dev eth0 nud permanent
            route add fd00:10:244:{n}::1/128 dev eth0
            route add ::/0 via fd00:10:244:{n}::1 dev eth0
            ",
        )
        .v6(),
    ],
};

const VXLAN_DEVICE: Part = Part {
    about: "the agent: cilium_vxlan, whose other end each packet is given by a program",
    needs: &[Need::Link("vxlan")],
    steps: &[ip(
        NODES,
        "
        link add name cilium_vxlan mtu {pod_mtu} type vxlan external dstport 8472
        link set dev cilium_vxlan up
        ",
    )],
};

const GENEVE_DEVICE: Part = Part {
    about: "the agent: cilium_geneve, whose other end each packet is given by a program",
    needs: &[Need::Link("geneve")],
    steps: &[ip(
        NODES,
        "
        link add name cilium_geneve mtu {pod_mtu} type geneve external dstport 6081
        link set dev cilium_geneve up
        ",
    )],
};

const TUNNEL_PROGRAMS: Part = Part {
    about: "the agent: programs at the pod's device and at the tunnel",
    needs: &[Need::Classifier],
    steps: &[classifier(
        NODES,
        "
        lxc{n} from_container {other_networks} out=cilium_vxlan remote=192.0.2.{p} vni=7
        cilium_vxlan to_endpoint {pod_networks} pod-device=lxc{n} pod-mac=0a:00:00:00:0b:0{n} node-mac=0a:00:00:00:0a:0{n}
        ",
    )],
};

const GENEVE_PROGRAMS: Part = Part {
    about: "the agent: programs at the pod's device and at the tunnel",
    needs: &[Need::Classifier],
    steps: &[classifier(
        NODES,
        "
        lxc{n} from_container {other_networks} out=cilium_geneve remote=192.0.2.{p} vni=7
        cilium_geneve to_endpoint {pod_networks} pod-device=lxc{n} pod-mac=0a:00:00:00:0b:0{n} node-mac=0a:00:00:00:0a:0{n}
        ",
    )],
};

const NATIVE_PROGRAMS: Part = Part {
    about: "the agent: a route to the other node's pods, programs at the pod's device and at the NIC",
    needs: &[Need::Classifier],
    steps: &[
        ip(NODES, "route add {other_pods} via {other} dev eth0").of_each_family(),
        classifier(
            NODES,
            "
            lxc{n} from_container {other_networks} out=eth0
            eth0 to_endpoint {pod_networks} pod-device=lxc{n} pod-mac=0a:00:00:00:0b:0{n} node-mac=0a:00:00:00:0a:0{n}
            ",
        ),
    ],
};
