//! OpenStack: machines on hypervisors (Neutron), and pods on such machines (Kuryr, or a Kubernetes network on
//! top).

use crate::dataplanes::definitions::{
    bridge, calico, felix, flannel, hypervisors, ipvlan_macvlan, kube_proxy, neutron, ovs, underlay,
};
use crate::dataplanes::lab::{EndpointSpec, Lab, Part};

const PODS_ON_MACHINES: &[&str] = &["hv1", "hv2", "node1", "node2", "pod1", "pod2"];

/// Two machines, each on its own hypervisor, that communicate with each other.
const fn machines(name: &'static str, about: &'static str, parts: &'static [&'static Part]) -> Lab {
    Lab::new(name, about, parts)
        .namespaces(&["hv1", "hv2", "node1", "node2"])
        .between(EndpointSpec::NODE1, EndpointSpec::NODE2)
}

/// Pods on two machines, each machine on its own hypervisor.
const fn pods(name: &'static str, about: &'static str, parts: &'static [&'static Part]) -> Lab {
    Lab::new(name, about, parts).dual_stack().namespaces(PODS_ON_MACHINES)
}

pub const LINUXBRIDGE_FLAT: Lab = machines(
    "neutron-linuxbridge-flat",
    "Neutron, Linux bridge agent, flat network: the physical NIC is a port of the machines' bridge.",
    &[
        &underlay::NAMESPACES,
        &hypervisors::FABRIC,
        &neutron::FLAT_NETWORK,
        &hypervisors::MACHINES,
        &neutron::SECURITY_GROUPS,
    ],
);

pub const LINUXBRIDGE_VLAN: Lab = machines(
    "neutron-linuxbridge-vlan",
    "Neutron, Linux bridge agent, VLAN network: a VLAN device of the physical NIC is a port of the bridge.",
    &[
        &underlay::NAMESPACES,
        &hypervisors::FABRIC,
        &neutron::VLAN_NETWORK,
        &hypervisors::MACHINES,
        &neutron::SECURITY_GROUPS,
    ],
);

pub const LINUXBRIDGE_VXLAN: Lab = machines(
    "neutron-linuxbridge-vxlan",
    "Neutron, Linux bridge agent, VXLAN network: vxlan-101 is a port of the machines' bridge.",
    &[&underlay::NAMESPACES, &hypervisors::NEUTRON, &neutron::SECURITY_GROUPS],
);

/// The Linux bridge agent itself does not offer GRE.
pub const LINUXBRIDGE_GRE: Lab = machines(
    "neutron-linuxbridge-gre",
    "As neutron-linuxbridge-vxlan, with GRE between the bridges (in Neutron only Open vSwitch offers GRE).",
    &[
        &underlay::NAMESPACES,
        &hypervisors::FABRIC,
        &neutron::GRE_NETWORK,
        &hypervisors::MACHINES,
        &neutron::SECURITY_GROUPS,
    ],
);

/// Open vSwitch with the hybrid driver, with these ports and flows between the hypervisors.
macro_rules! ovs_hybrid {
    ($name:literal, $about:literal, $($network:expr),+) => {
        machines(
            $name,
            $about,
            &[
                &underlay::NAMESPACES,
                &hypervisors::FABRIC,
                &ovs::HYBRID,
                $($network,)+
                &neutron::SECURITY_GROUPS,
            ],
        )
    };
}

pub const OVS_FLAT: Lab = ovs_hybrid!(
    "neutron-ovs-flat",
    "Neutron, Open vSwitch hybrid, flat network: tap, qbr with iptables, qvb/qvo, the OVS datapath, the NIC.",
    &ovs::FLAT_FLOWS
);

pub const OVS_VLAN: Lab = ovs_hybrid!(
    "neutron-ovs-vlan",
    "Neutron, Open vSwitch hybrid, VLAN network: as flat; the OVS datapath pushes and pops the tag.",
    &ovs::VLAN_FLOWS
);

pub const OVS_VXLAN: Lab = ovs_hybrid!(
    "neutron-ovs-vxlan",
    "Neutron, Open vSwitch hybrid, VXLAN network: tap, qbr with iptables, qvb/qvo, the OVS datapath, vxlan_sys_4789.",
    &ovs::VXLAN_PORT,
    &ovs::VXLAN_FLOWS
);

pub const OVS_GRE: Lab = ovs_hybrid!(
    "neutron-ovs-gre",
    "Neutron, Open vSwitch hybrid, GRE network: as neutron-ovs-vxlan, with gre_sys instead.",
    &ovs::GRE_FLOWS
);

pub const OVS_FIREWALL: Lab = machines(
    "neutron-ovs-firewall",
    "Neutron, Open vSwitch firewall driver: the tap is a port of the OVS datapath, whose flows use conntrack; VXLAN.",
    &[&underlay::NAMESPACES, &hypervisors::FABRIC, &ovs::DIRECT, &ovs::VXLAN_PORT, &ovs::CONNTRACK_FLOWS],
);

pub const KURYR_MACVLAN: Lab = pods(
    "kuryr-macvlan",
    "Kuryr, nested macvlan: pods on machines of Neutron's VXLAN, each with a macvlan device of the machine's eth0.",
    &[&underlay::NAMESPACES, &hypervisors::NEUTRON, &ipvlan_macvlan::MACVLAN, &ipvlan_macvlan::ON_LINK],
);

pub const KURYR_IPVLAN: Lab = pods(
    "kuryr-ipvlan",
    "Kuryr, nested ipvlan: pods on machines of Neutron's VXLAN, each with an ipvlan device of the machine's eth0.",
    &[&underlay::NAMESPACES, &hypervisors::NEUTRON, &ipvlan_macvlan::IPVLAN_L2, &ipvlan_macvlan::ON_LINK],
);

pub const KURYR_VLAN: Lab = pods(
    "kuryr-vlan",
    "Kuryr, VLAN trunk: each pod is a subport of its machine, identified by a VLAN tag that only the hypervisor handles.",
    &[&underlay::NAMESPACES, &hypervisors::NEUTRON, &neutron::SUBPORTS, &ipvlan_macvlan::ON_LINK],
);

pub const FLANNEL_IN_NEUTRON: Lab = pods(
    "flannel-in-neutron",
    "flannel's vxlan on machines of a cloud whose Neutron network is VXLAN too: a double overlay.",
    &[
        &underlay::NAMESPACES,
        &hypervisors::NEUTRON,
        &bridge::CNI_BRIDGE,
        &flannel::VXLAN,
        &kube_proxy::KUBE_PROXY,
        &flannel::FIREWALL,
    ],
)
.overheads(50, 70);

pub const CALICO_IN_NEUTRON: Lab = pods(
    "calico-in-neutron",
    "Calico's IPIP on machines of a cloud whose Neutron network is VXLAN: a double overlay.",
    &[
        &underlay::NAMESPACES,
        &hypervisors::NEUTRON,
        &calico::WORKLOADS,
        &calico::IPIP,
        &kube_proxy::KUBE_PROXY,
        &felix::FIREWALL,
    ],
)
.overhead(20);
