//! Neutron's networks of Open vSwitch: the one datapath in the kernel that stands for all of the agent's bridges,
//! with the flows that `ovs-vswitchd` enters when a connection's first packet comes up to it.

use super::base;
use super::cloud::{self, HYPERVISORS};
use super::neutron::{SECURITY_GROUPS, machines};
use crate::dataplanes::{Lab, Need, Part, Step, ip, ovs};

/// A flat provider network.
pub const FLAT: Lab = machines(
    "neutron-ovs-flat",
    "Neutron, Open vSwitch hybrid, a flat network: tap, qbr with iptables, qvb/qvo, the datapath, the NIC.",
    &[&base::NAMESPACES, &cloud::FABRIC, &HYBRID, &FLAT_FLOWS, &SECURITY_GROUPS],
);
/// A VLAN network.
pub const VLAN: Lab = machines(
    "neutron-ovs-vlan",
    "Neutron, Open vSwitch hybrid, a VLAN network: as flat, and the datapath adds and removes the tag.",
    &[&base::NAMESPACES, &cloud::FABRIC, &HYBRID, &VLAN_FLOWS, &SECURITY_GROUPS],
);
/// A VXLAN network.
pub const VXLAN: Lab = machines(
    "neutron-ovs-vxlan",
    "Neutron, Open vSwitch hybrid, a VXLAN network: tap, qbr with iptables, qvb/qvo, the datapath, vxlan_sys_4789.",
    &[&base::NAMESPACES, &cloud::FABRIC, &HYBRID, &VXLAN_PORT, &VXLAN_FLOWS, &SECURITY_GROUPS],
);
/// A GRE network.
pub const GRE: Lab = machines(
    "neutron-ovs-gre",
    "Neutron, Open vSwitch hybrid, a GRE network: as neutron-ovs-vxlan, with gre_sys instead.",
    &[&base::NAMESPACES, &cloud::FABRIC, &HYBRID, &GRE_FLOWS, &SECURITY_GROUPS],
);

/// A VXLAN network without the hybrid's bridge.
pub const FIREWALL: Lab = machines(
    "neutron-ovs-firewall",
    "Neutron, Open vSwitch's own firewall: the tap is in the datapath, whose flows ask connection tracking; VXLAN.",
    &[&base::NAMESPACES, &cloud::FABRIC, &DIRECT, &VXLAN_PORT, &TRACKING_FLOWS],
);

const DIRECT: Part = Part {
    about: "nova and the agent: the machine's tap in br-int's datapath",
    needs: &[Need::OpenVswitch, Need::Link("veth")],
    steps: &[
        ip(
            HYPERVISORS,
            "
            link add name tap{n} mtu {mtu} type veth peer name eth0 mtu {mtu} netns {node}
            link set dev tap{n} up
            ",
        ),
        cloud::MACHINE_ADDRESSES,
        cloud::MACHINE_ADDRESSES_V6,
        cloud::MACHINE_QUEUES,
        ovs(
            HYPERVISORS,
            "
            add-dp ovs-system
            add-if ovs-system tap{n},port_no=1
            ",
        ),
    ],
};

/// The zone is the network's number; a packet passes tracking and comes back with what that has found. What tracking
/// leaves alone, as neighbour discovery, passes too.
const TRACKING_FLOWS: Part = Part {
    about: "br-int's firewall tables: connection tracking, a commit of what is new, then the tunnel or the tap",
    needs: &[],
    steps: &[
        flows(
            "
            add-flow ovs-system recirc_id(0),in_port(1),eth(),eth_type(0x0806),arp() set(tunnel(tun_id=0x65,src=198.18.0.{n},dst=198.18.0.{p},ttl=64,flags(df|key))),2
            add-flow ovs-system recirc_id(0),in_port(2),eth(),eth_type(0x0806),arp() 1
            ",
        ),
        flows(
            "
            add-flow ovs-system recirc_id(0),in_port(1),eth(),{ip} ct(zone=101),recirc(1)
            add-flow ovs-system recirc_id(0),in_port(2),eth(),{ip} ct(zone=101),recirc(1)
            add-flow ovs-system recirc_id(0x1),in_port(1),ct_state(+trk),eth(),{ip} ct(commit,zone=101),set(tunnel(tun_id=0x65,src=198.18.0.{n},dst=198.18.0.{p},ttl=64,flags(df|key))),2
            add-flow ovs-system recirc_id(0x1),in_port(2),ct_state(+trk),eth(),{ip} ct(commit,zone=101),1
            ",
        )
        .of_each_family(),
    ],
};

const HYBRID: Part = Part {
    about: "nova and the agent: the machine's tap in the bridge qbr*, which qvb*/qvo* joins to br-int's datapath",
    needs: &[Need::OpenVswitch, Need::Link("veth"), Need::Link("bridge")],
    steps: &[
        ip(
            HYPERVISORS,
            "
            link add name qbr{n} mtu {mtu} type bridge
            link set dev qbr{n} up
            link add name qvb{n} mtu {mtu} type veth peer name qvo{n} mtu {mtu}
            link set dev qvb{n} master qbr{n} up
            link set dev qvo{n} up
            link add name tap{n} mtu {mtu} type veth peer name eth0 mtu {mtu} netns {node}
            link set dev tap{n} master qbr{n} up
            ",
        ),
        cloud::MACHINE_ADDRESSES,
        cloud::MACHINE_ADDRESSES_V6,
        cloud::MACHINE_QUEUES,
        ovs(
            HYPERVISORS,
            "
            add-dp ovs-system
            add-if ovs-system qvo{n},port_no=1
            ",
        ),
    ],
};

const fn flows(lines: &'static str) -> Step {
    ovs(HYPERVISORS, lines)
}

const FLAT_FLOWS: Part = Part {
    about: "br-int, br-ex: out by eth0 and in from it",
    needs: &[],
    steps: &[
        flows(
            "
            add-if ovs-system eth0,port_no=2
            add-flow ovs-system in_port(1),eth(),eth_type(0x0806),arp() 2
            add-flow ovs-system in_port(2),eth(),eth_type(0x0806),arp() 1
            ",
        ),
        flows(
            "
            add-flow ovs-system in_port(1),eth(),{ip} 2
            add-flow ovs-system in_port(2),eth(),{ip} 1
            ",
        )
        .of_each_family(),
    ],
};

const VLAN_FLOWS: Part = Part {
    about: "br-int, br-vlan: out by eth0 with the tag 101, and back without it",
    needs: &[],
    steps: &[
        flows(
            "
            add-if ovs-system eth0,port_no=2
            add-flow ovs-system in_port(1),eth(),eth_type(0x0806),arp() push_vlan(vid=101,pcp=0),2
            add-flow ovs-system in_port(2),eth(),eth_type(0x8100),vlan(vid=101,pcp=0),encap(eth_type(0x0806),arp()) pop_vlan,1
            ",
        ),
        flows(
            "
            add-flow ovs-system in_port(1),eth(),{ip} push_vlan(vid=101,pcp=0),2
            add-flow ovs-system in_port(2),eth(),eth_type(0x8100),vlan(vid=101,pcp=0),encap({ip}) pop_vlan,1
            ",
        )
        .of_each_family(),
    ],
};

const VXLAN_PORT: Part = Part {
    about: "br-tun: vxlan_sys_4789",
    needs: &[Need::Link("vxlan")],
    steps: &[
        ip(
            HYPERVISORS,
            "
            link add name vxlan_sys_4789 mtu 65000 type vxlan external dstport 4789 udp6zerocsumrx
            link set dev vxlan_sys_4789 up
            ",
        ),
        flows("add-if ovs-system vxlan_sys_4789,port_no=2"),
    ],
};

const VXLAN_FLOWS: Part = Part {
    about: "br-int, br-tun: out by vxlan_sys_4789 with the network's number, and back",
    needs: &[],
    steps: &[TUNNEL_FLOWS, TUNNEL_FLOWS_OF_IP],
};

const GRE_FLOWS: Part = Part {
    about: "br-int, br-tun: out by gre_sys with the network's number, and back",
    needs: &[Need::Link("gretap")],
    steps: &[
        ip(
            HYPERVISORS,
            "
            link add name gre_sys mtu 65000 type gretap external
            link set dev gre_sys up
            ",
        ),
        flows("add-if ovs-system gre_sys,port_no=2"),
        TUNNEL_FLOWS,
        TUNNEL_FLOWS_OF_IP,
    ],
};

const TUNNEL_FLOWS: Step = flows(
    "
    add-flow ovs-system in_port(1),eth(),eth_type(0x0806),arp() set(tunnel(tun_id=0x65,src=198.18.0.{n},dst=198.18.0.{p},ttl=64,flags(df|key))),2
    add-flow ovs-system in_port(2),eth(),eth_type(0x0806),arp() 1
    ",
);

const TUNNEL_FLOWS_OF_IP: Step = flows(
    "
    add-flow ovs-system in_port(1),eth(),{ip} set(tunnel(tun_id=0x65,src=198.18.0.{n},dst=198.18.0.{p},ttl=64,flags(df|key))),2
    add-flow ovs-system in_port(2),eth(),{ip} 1
    ",
)
.of_each_family();
