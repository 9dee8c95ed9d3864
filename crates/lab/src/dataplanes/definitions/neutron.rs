//! OpenStack: machines on hypervisors (Neutron's Linux bridge agent), and pods on such machines (Kuryr).

use super::cloud::{self, HYPERVISORS};
use super::{MACHINES, NODES, PODS_ON_MACHINES, base, slaves};
use crate::dataplanes::{Lab, Need, Part, Place, bridge, firewall, ip, iptables, sysctl};

const MACHINE1: Place = Place { namespace: "node1", v4: "192.0.2.1", v6: Some("2001:db8::1") };
const MACHINE2: Place = Place { namespace: "node2", v4: "192.0.2.2", v6: Some("2001:db8::2") };

/// Machines on two hypervisors, which talk to each other.
pub const fn machines(name: &'static str, about: &'static str, parts: &'static [&'static Part]) -> Lab {
    Lab::of_pods(name, about, parts).in_namespaces(MACHINES).between(MACHINE1, MACHINE2)
}

/// A flat provider network.
pub const FLAT: Lab = machines(
    "neutron-linuxbridge-flat",
    "Neutron, Linux bridge agent, a flat network: the physical port is in the machines' bridge.",
    &[&base::NAMESPACES, &cloud::FABRIC, &FLAT_NETWORK, &cloud::MACHINES, &SECURITY_GROUPS],
);
/// A VLAN network.
pub const VLAN: Lab = machines(
    "neutron-linuxbridge-vlan",
    "Neutron, Linux bridge agent, a VLAN network: a VLAN device of the physical port is in the bridge.",
    &[&base::NAMESPACES, &cloud::FABRIC, &VLAN_NETWORK, &cloud::MACHINES, &SECURITY_GROUPS],
);
/// A VXLAN network.
pub const VXLAN: Lab = machines(
    "neutron-linuxbridge-vxlan",
    "Neutron, Linux bridge agent, a VXLAN network: vxlan-101 is in the machines' bridge.",
    &[&base::NAMESPACES, &cloud::NEUTRON, &SECURITY_GROUPS],
);
/// A GRE network, which the agent itself does not offer.
pub const GRE: Lab = machines(
    "neutron-linuxbridge-gre",
    "As neutron-linuxbridge-vxlan, but with GRE between the bridges (with Neutron only Open vSwitch has it).",
    &[&base::NAMESPACES, &cloud::FABRIC, &GRE_NETWORK, &cloud::MACHINES, &SECURITY_GROUPS],
);

const FLAT_NETWORK: Part = Part {
    about: "the agent: brq101 with the physical port eth0",
    needs: &[Need::Link("bridge")],
    steps: &[ip(
        HYPERVISORS,
        "
        link add name brq101 mtu {mtu} type bridge
        link set dev brq101 up
        link set dev eth0 master brq101
        ",
    )],
};

const VLAN_NETWORK: Part = Part {
    about: "the agent: brq101 with eth0.101",
    needs: &[Need::Link("bridge"), Need::Link("vlan")],
    steps: &[ip(
        HYPERVISORS,
        "
        link add name brq101 mtu {mtu} type bridge
        link set dev brq101 up
        link add link eth0 name eth0.101 type vlan id 101
        link set dev eth0.101 master brq101 up
        ",
    )],
};

const GRE_NETWORK: Part = Part {
    about: "brq101 with gre-101, which carries Ethernet",
    needs: &[Need::Link("bridge"), Need::Link("gretap")],
    steps: &[ip(
        HYPERVISORS,
        "
        link add name brq101 mtu {mtu} type bridge
        link set dev brq101 up
        link add name gre-101 mtu {mtu} type gretap local 198.18.0.{n} remote 198.18.0.{p} key 101
        link set dev gre-101 master brq101 up
        ",
    )],
};

/// Bridged packets pass iptables, which knows ports by physdev.
pub const SECURITY_GROUPS: Part = Part {
    about: "the agent's firewall: chains per port, connection tracking, protection from false addresses",
    needs: &[Need::BridgeNetfilter, Need::Iptables],
    steps: &[
        sysctl(HYPERVISORS, "net.bridge.bridge-nf-call-iptables = 1"),
        sysctl(HYPERVISORS, "net.bridge.bridge-nf-call-ip6tables = 1").v6(),
        firewall(
            HYPERVISORS,
            "
            *filter
            :neutron-filter-top - [0:0]
            :neutron-FORWARD - [0:0]
            :neutron-sg-chain - [0:0]
            :neutron-sg-fallback - [0:0]
            :neutron-i-tap{n} - [0:0]
            :neutron-o-tap{n} - [0:0]
            :neutron-s-tap{n} - [0:0]
            -A FORWARD -j neutron-filter-top
            -A FORWARD -j neutron-FORWARD
            -A neutron-FORWARD -m physdev --physdev-out tap{n} --physdev-is-bridged -j neutron-sg-chain
            -A neutron-FORWARD -m physdev --physdev-in tap{n} --physdev-is-bridged -j neutron-sg-chain
            -A neutron-sg-chain -m physdev --physdev-out tap{n} --physdev-is-bridged -j neutron-i-tap{n}
            -A neutron-sg-chain -m physdev --physdev-in tap{n} --physdev-is-bridged -j neutron-o-tap{n}
            -A neutron-sg-chain -j ACCEPT
            -A neutron-i-tap{n} -m conntrack --ctstate RELATED,ESTABLISHED -j RETURN
            -A neutron-i-tap{n} -p tcp -m tcp -m multiport --dports 1:65535 -j RETURN
            -A neutron-i-tap{n} -p udp -m udp -m multiport --dports 1:65535 -j RETURN
            -A neutron-i-tap{n} -p {icmp} -j RETURN
            -A neutron-i-tap{n} -m conntrack --ctstate INVALID -j DROP
            -A neutron-i-tap{n} -j neutron-sg-fallback
            -A neutron-o-tap{n} -j neutron-s-tap{n}
            -A neutron-o-tap{n} -p udp -m udp {dhcp_server} -j DROP
            -A neutron-o-tap{n} -m conntrack --ctstate RELATED,ESTABLISHED -j RETURN
            -A neutron-o-tap{n} -j RETURN
            -A neutron-s-tap{n} -s {own} -j RETURN
            -A neutron-s-tap{n} -s {own_pods} -j RETURN
            -A neutron-s-tap{n} -j DROP
            -A neutron-sg-fallback -j DROP
            COMMIT
            ",
        ),
        // Who looks for neighbours does it by other addresses too.
        iptables(
            HYPERVISORS,
            "
            *filter
            -I neutron-s-tap{n} -s fe80::/64 -j RETURN
            -I neutron-s-tap{n} -s ::/128 -p ipv6-icmp -j RETURN
            COMMIT
            ",
        )
        .v6(),
    ],
};

/// Pods with a macvlan slave of the machine's NIC.
pub const KURYR_MACVLAN: Lab = Lab::of_pods(
    "kuryr-macvlan",
    "Kuryr, nested macvlan: pods on machines of Neutron's VXLAN, each a macvlan slave of the machine's eth0.",
    &[&base::NAMESPACES, &cloud::NEUTRON, &slaves::MAC, &slaves::ON_LINK],
)
.dual_stack()
.in_namespaces(PODS_ON_MACHINES);

/// Pods with an ipvlan slave of the machine's NIC.
pub const KURYR_IPVLAN: Lab = Lab::of_pods(
    "kuryr-ipvlan",
    "Kuryr, nested ipvlan: pods on machines of Neutron's VXLAN, each an ipvlan slave of the machine's eth0.",
    &[&base::NAMESPACES, &cloud::NEUTRON, &slaves::L2, &slaves::ON_LINK],
)
.dual_stack()
.in_namespaces(PODS_ON_MACHINES);

/// Pods with a subport of the machine's trunk.
pub const KURYR_VLAN: Lab = Lab::of_pods(
    "kuryr-vlan",
    "Kuryr, VLAN trunk: a pod is a subport of its machine, told by a tag that only the hypervisor sees.",
    &[&base::NAMESPACES, &cloud::NEUTRON, &SUBPORTS, &slaves::ON_LINK],
)
.dual_stack()
.in_namespaces(PODS_ON_MACHINES);

const SUBPORTS: Part = Part {
    about: "the trunk: tap*.102 in brq102 with vxlan-102; in the machine eth0.102, moved to the pod",
    needs: &[Need::Link("vlan")],
    steps: &[
        ip(
            HYPERVISORS,
            "
            link add name brq102 mtu {mtu} type bridge
            link set dev brq102 up
            link add name vxlan-102 mtu {mtu} type vxlan id 102 dev eth0 local 198.18.0.{n} dstport 4789
            link set dev vxlan-102 master brq102 up
            link add link tap{n} name tap{n}.102 type vlan id 102
            link set dev tap{n}.102 master brq102 up
            ",
        ),
        bridge(HYPERVISORS, "fdb append 00:00:00:00:00:00 dev vxlan-102 dst 198.18.0.{p} self permanent"),
        ip(
            NODES,
            "
            link add link eth0 name eth0.102 mtu {pod_mtu} type vlan id 102
            link set dev eth0.102 netns {pod} name eth0
            ",
        ),
    ],
};
