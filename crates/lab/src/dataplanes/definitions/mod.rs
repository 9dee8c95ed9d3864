//! The labs, as data.
//!
//! The files of this folder define parts: what one agent (a CNI plugin, kube-proxy, a routing daemon…) sets up.
//! The folder `labs` combines parts to labs. To add a lab: a file with its parts where none fits, a constant in
//! `labs`, and a row in `labs::LABS`.

mod bridge;
mod calico;
mod cilium;
mod cni_plugins;
mod docker;
mod encrypted;
mod felix;
mod flannel;
mod hypervisors;
mod ipvlan_macvlan;
mod ipvs;
mod kube_proxy;
mod kube_router;
mod labs;
mod neutron;
mod ovs;
mod romana;
mod tunnels;
mod underlay;
mod vlan;
mod vpc;
mod weave;

pub use labs::LABS;

const NODES: &[&str] = &["node1", "node2"];
const PODS: &[&str] = &["pod1", "pod2"];
