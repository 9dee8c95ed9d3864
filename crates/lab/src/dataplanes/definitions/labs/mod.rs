//! All labs.

mod basic;
mod encapsulation;
mod kubernetes;
mod openstack;
mod services;

use crate::dataplanes::lab::Lab;

/// All labs, the simple ones first. `lab list` and comparisons keep this order.
pub const LABS: &[Lab] = &[
    basic::HOST,
    basic::SAME_POD,
    basic::SAME_HOST,
    kubernetes::FLANNEL_HOST_GW,
    kubernetes::FLANNEL_VXLAN,
    kubernetes::CALICO_IPIP,
    openstack::FLANNEL_IN_NEUTRON,
    openstack::CALICO_IN_NEUTRON,
    encapsulation::GRE,
    encapsulation::GRETAP,
    encapsulation::GENEVE,
    encapsulation::VXLAN6,
    encapsulation::VLAN,
    encapsulation::QINQ,
    kubernetes::FLANNEL_UDP,
    kubernetes::FLANNEL_IPIP,
    kubernetes::FLANNEL_AWS_VPC,
    kubernetes::CALICO_BGP,
    kubernetes::CANAL,
    kubernetes::ROMANA,
    basic::IPVLAN_L2,
    basic::IPVLAN_L3,
    basic::MACVLAN,
    basic::CNI_BRIDGE,
    basic::CNI_IPVLAN,
    basic::CNI_MACVLAN,
    kubernetes::KUBE_ROUTER,
    kubernetes::KUBE_ROUTER_IPIP,
    services::KUBE_ROUTER_IPVS,
    services::KUBE_ROUTER_DSR,
    services::KUBE_PROXY_IPTABLES,
    services::KUBE_PROXY_IPVS,
    basic::DOCKER_BRIDGE,
    encapsulation::DOCKER_OVERLAY,
    openstack::LINUXBRIDGE_FLAT,
    openstack::LINUXBRIDGE_VLAN,
    openstack::LINUXBRIDGE_VXLAN,
    openstack::LINUXBRIDGE_GRE,
    openstack::OVS_FLAT,
    openstack::OVS_VLAN,
    openstack::OVS_VXLAN,
    openstack::OVS_GRE,
    openstack::OVS_FIREWALL,
    openstack::KURYR_MACVLAN,
    openstack::KURYR_IPVLAN,
    openstack::KURYR_VLAN,
    kubernetes::WEAVE_FASTDP,
    kubernetes::WEAVE_SLEEVE,
    kubernetes::CILIUM_NATIVE,
    kubernetes::CILIUM_VXLAN,
    kubernetes::CILIUM_GENEVE,
    services::CILIUM_SERVICE,
    encapsulation::WIREGUARD,
    encapsulation::IPSEC,
];
