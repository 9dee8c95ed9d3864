//! The CNI project's own plugins, each called as a container runtime calls it.

use super::{NODES, base, flannel};
use crate::dataplanes::{Lab, Need, Part, cni, sysctl};

/// A list whose one plugin makes slaves of the nodes' NICs.
macro_rules! slaves {
    ($plugin:literal, $mode:literal) => {
        concat!(
            r#"{ "cniVersion": "1.0.0", "name": "slaves", "plugins": [ { "type": ""#,
            $plugin,
            r#"", "master": "eth0", "mode": ""#,
            $mode,
            r#"", "mtu": {pod_mtu},
            "ipam": { "type": "host-local", "ranges": {shared_ranges} } } ] }"#
        )
    };
}

/// bridge and portmap.
pub const BRIDGE: Lab = Lab::of_pods(
    "cni-bridge",
    "CNI's bridge with host-local and portmap: traffic goes to a port of the server's node, which is the pod's.",
    &[&base::NAMESPACES, &base::UNDERLAY, &BRIDGE_PLUGIN, &flannel::HOST_GW],
)
.dual_stack()
.by_host_port();

/// ipvlan.
pub const IPVLAN: Lab = Lab::of_pods(
    "cni-ipvlan",
    "CNI's ipvlan, mode l2, with host-local: the pods' devices are slaves of the nodes' NICs.",
    &[&base::NAMESPACES, &base::UNDERLAY, &IPVLAN_PLUGIN],
)
.dual_stack();

/// macvlan.
pub const MACVLAN: Lab = Lab::of_pods(
    "cni-macvlan",
    "CNI's macvlan, mode bridge, with host-local: the pods' devices are slaves of the nodes' NICs.",
    &[&base::NAMESPACES, &base::UNDERLAY, &MACVLAN_PLUGIN],
)
.dual_stack();

const BRIDGE_PLUGIN: Part = Part {
    about: "the runtime: calls bridge, which calls host-local, and then portmap",
    needs: &[Need::Cni, Need::Link("veth"), Need::Link("bridge"), Need::Iptables, Need::BridgeNetfilter],
    steps: &[
        cni(
            NODES,
            r#"
            {
            "cniVersion": "1.0.0", "name": "bridged", "plugins": [
            { "type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": true, "hairpinMode": true, "mtu": {pod_mtu},
            "ipam": { "type": "host-local", "routes": {default_routes}, "ranges": {node_ranges} } },
            { "type": "portmap", "capabilities": { "portMappings": true }, "snat": true,
            "runtimeConfig": { "portMappings": [
            { "hostPort": 7700, "containerPort": 7700, "protocol": "tcp" },
            { "hostPort": 7700, "containerPort": 7700, "protocol": "udp" } ] } } ]
            }
            "#,
        ),
        sysctl(NODES, "net.bridge.bridge-nf-call-iptables = 1"),
        sysctl(NODES, "net.bridge.bridge-nf-call-ip6tables = 1").v6(),
    ],
};

const IPVLAN_PLUGIN: Part = Part {
    about: "the runtime: calls ipvlan, which calls host-local",
    needs: &[Need::Cni, Need::Link("ipvlan")],
    steps: &[cni(NODES, slaves!("ipvlan", "l2"))],
};

const MACVLAN_PLUGIN: Part = Part {
    about: "the runtime: calls macvlan, which calls host-local",
    needs: &[Need::Cni, Need::Link("macvlan")],
    steps: &[cni(NODES, slaves!("macvlan", "bridge"))],
};
