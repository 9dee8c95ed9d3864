//! OpenStack: networks and security groups of Neutron's Linux bridge agent, and the trunk ports of Kuryr.

use super::NODES;
use super::hypervisors::HYPERVISORS;
use crate::dataplanes::lab::{Need, Part};
use crate::dataplanes::step::{bridge, firewall, ip, iptables, sysctl};

/// Lines that create the bridge brq101 with a port.
macro_rules! bridge_with {
    ($port:literal) => {
        concat!("link add name brq101 mtu {mtu} type bridge\nlink set dev brq101 up\n", $port)
    };
}

pub const FLAT_NETWORK: Part = Part {
    about: "the agent: brq101 with the physical NIC eth0",
    needs: &[Need::Link("bridge")],
    steps: &[ip(HYPERVISORS, bridge_with!("link set dev eth0 master brq101"))],
};

pub const VLAN_NETWORK: Part = Part {
    about: "the agent: brq101 with eth0.101",
    needs: &[Need::Link("bridge"), Need::Link("vlan")],
    steps: &[ip(
        HYPERVISORS,
        bridge_with!(
            "
        link add link eth0 name eth0.101 type vlan id 101
        link set dev eth0.101 master brq101 up
        "
        ),
    )],
};

pub const GRE_NETWORK: Part = Part {
    about: "brq101 with gre-101, a gretap device",
    needs: &[Need::Link("bridge"), Need::Link("gretap")],
    steps: &[ip(
        HYPERVISORS,
        bridge_with!(
            "
        link add name gre-101 mtu {mtu} type gretap local 198.18.0.{n} remote 198.18.0.{p} key 101
        link set dev gre-101 master brq101 up
        "
        ),
    )],
};

/// Bridged packets pass iptables, which matches bridge ports by physdev.
pub const SECURITY_GROUPS: Part = Part {
    about: "the agent's firewall: chains per port, conntrack, anti-spoofing",
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
        // Neighbour discovery uses link-local and unspecified source addresses.
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

pub const SUBPORTS: Part = Part {
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
