//! Networks without encapsulation and without a Kubernetes network agent: the baseline, pods on one node, and
//! devices of CNI plugins and Docker.

use crate::dataplanes::definitions::{
    NODES, bridge, cni_plugins, docker, flannel, ipvlan_macvlan, kube_proxy, underlay,
};
use crate::dataplanes::lab::{EndpointSpec, Lab, TrafficTarget};

pub const HOST: Lab = Lab::new(
    "host",
    "No container network: two nodes joined by the underlay. The baseline of every comparison.",
    &[&underlay::NAMESPACES, &underlay::UNDERLAY],
)
.namespaces(NODES)
.between(EndpointSpec::NODE1, EndpointSpec::NODE2);

pub const SAME_POD: Lab = Lab::new(
    "same-pod",
    "Two containers of one pod communicate over the pod's loopback device.",
    &[&underlay::NAMESPACES, &bridge::CNI_BRIDGE],
)
.namespaces(&["node1", "pod1"])
.between(EndpointSpec::new("pod1", "127.0.0.1", "::1"), EndpointSpec::new("pod1", "127.0.0.1", "::1"));

pub const SAME_HOST: Lab = Lab::new(
    "same-host",
    "Two pods of one node communicate over its bridge cni0.",
    &[
        &underlay::NAMESPACES,
        &bridge::CNI_BRIDGE,
        &bridge::SECOND_POD,
        &kube_proxy::KUBE_PROXY,
        &flannel::FIREWALL,
    ],
)
.namespaces(&["node1", "pod1", "pod1b"])
.between(EndpointSpec::POD1, EndpointSpec::new("pod1b", "10.244.1.3", "fd00:10:244:1::3"));

pub const IPVLAN_L2: Lab = Lab::new(
    "ipvlan-l2",
    "IPvlan, mode L2: pods on the nodes' Ethernet segment, with the node's MAC address and their own IP address.",
    &[&underlay::NAMESPACES, &underlay::UNDERLAY, &ipvlan_macvlan::IPVLAN_L2, &ipvlan_macvlan::ON_LINK],
)
.dual_stack();

pub const IPVLAN_L3: Lab = Lab::new(
    "ipvlan-l3",
    "IPvlan, mode L3: the node routes its pods' packets by its routing table, without ARP.",
    &[&underlay::NAMESPACES, &underlay::UNDERLAY, &ipvlan_macvlan::IPVLAN_L3],
)
.dual_stack();

pub const MACVLAN: Lab = Lab::new(
    "macvlan",
    "macvlan, mode bridge: pods on the nodes' Ethernet segment, each with its own MAC address.",
    &[&underlay::NAMESPACES, &underlay::UNDERLAY, &ipvlan_macvlan::MACVLAN, &ipvlan_macvlan::ON_LINK],
)
.dual_stack();

pub const CNI_BRIDGE: Lab = Lab::new(
    "cni-bridge",
    "CNI plugins bridge, host-local and portmap: traffic to a host port of the server's node, which DNAT maps to the pod.",
    &[&underlay::NAMESPACES, &underlay::UNDERLAY, &cni_plugins::BRIDGE_PLUGIN, &flannel::HOST_GW],
)
.dual_stack()
.target(TrafficTarget::HostPort);

pub const CNI_IPVLAN: Lab = Lab::new(
    "cni-ipvlan",
    "CNI plugins ipvlan (mode l2) and host-local: each pod's device is an ipvlan device of the node's NIC.",
    &[&underlay::NAMESPACES, &underlay::UNDERLAY, &cni_plugins::IPVLAN_PLUGIN],
)
.dual_stack();

pub const CNI_MACVLAN: Lab = Lab::new(
    "cni-macvlan",
    "CNI plugins macvlan (mode bridge) and host-local: each pod's device is a macvlan device of the node's NIC.",
    &[&underlay::NAMESPACES, &underlay::UNDERLAY, &cni_plugins::MACVLAN_PLUGIN],
)
.dual_stack();

pub const DOCKER_BRIDGE: Lab = Lab::new(
    "docker-bridge",
    "Docker, driver bridge: two containers of one host communicate over docker0, with Docker's iptables chains.",
    &[&underlay::NAMESPACES, &docker::DOCKER0, &docker::CHAINS],
)
.namespaces(&["node1", "pod1", "pod1b"])
.between(
    EndpointSpec::new("pod1", "172.17.0.2", "fd00:172:17::2"),
    EndpointSpec::new("pod1b", "172.17.0.3", "fd00:172:17::3"),
);
