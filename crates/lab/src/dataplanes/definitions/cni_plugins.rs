//! The reference plugins of the CNI project, called as a container runtime calls them.

use super::NODES;
use crate::dataplanes::lab::{Need, Part};
use crate::dataplanes::step::{cni, sysctl};

/// A configuration list with one plugin that creates a device on top of the node's NIC.
macro_rules! on_nic {
    ($plugin:literal, $mode:literal) => {
        concat!(
            r#"{ "cniVersion": "1.0.0", "name": "on-nic", "plugins": [ { "type": ""#,
            $plugin,
            r#"", "master": "eth0", "mode": ""#,
            $mode,
            r#"", "mtu": {pod_mtu},
            "ipam": { "type": "host-local", "ranges": {shared_ranges} } } ] }"#
        )
    };
}

pub const BRIDGE_PLUGIN: Part = Part {
    about: "the runtime: calls the plugin bridge, which calls host-local, then portmap",
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

pub const IPVLAN_PLUGIN: Part = Part {
    about: "the runtime: calls the plugin ipvlan, which calls host-local",
    needs: &[Need::Cni, Need::Link("ipvlan")],
    steps: &[cni(NODES, on_nic!("ipvlan", "l2"))],
};

pub const MACVLAN_PLUGIN: Part = Part {
    about: "the runtime: calls the plugin macvlan, which calls host-local",
    needs: &[Need::Cni, Need::Link("macvlan")],
    steps: &[cni(NODES, on_nic!("macvlan", "bridge"))],
};
