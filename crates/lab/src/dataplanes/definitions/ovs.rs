//! Neutron's networks with Open vSwitch: the one kernel datapath that implements all of the agent's bridges, with
//! the flows that `ovs-vswitchd` installs on the upcall of a connection's first packet.

use super::hypervisors::{self, HYPERVISORS};
use crate::dataplanes::lab::{Need, Part};
use crate::dataplanes::step::{Step, ip, ovs};

pub const DIRECT: Part = Part {
    about: "nova and the agent: the machine's tap as a port of br-int's datapath",
    needs: &[Need::OpenVswitch, Need::Link("veth")],
    steps: &[
        ip(
            HYPERVISORS,
            "
            link add name tap{n} mtu {mtu} type veth peer name eth0 mtu {mtu} netns {node}
            link set dev tap{n} up
            ",
        ),
        hypervisors::MACHINE_ADDRESSES,
        hypervisors::MACHINE_ADDRESSES_V6,
        hypervisors::MACHINE_QDISCS,
        ovs(
            HYPERVISORS,
            "
            add-dp ovs-system
            add-if ovs-system tap{n},port_no=1
            ",
        ),
    ],
};

/// The conntrack zone is the network's number. `ct` sends a packet through conntrack and recirculates it with the
/// result. Packets that conntrack does not track, such as neighbour discovery, pass too.
pub const CONNTRACK_FLOWS: Part = Part {
    about: "br-int's firewall tables: conntrack, a commit of new connections, then the tunnel or the tap",
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
        .for_both_families(),
    ],
};

pub const HYBRID: Part = Part {
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
        hypervisors::MACHINE_ADDRESSES,
        hypervisors::MACHINE_ADDRESSES_V6,
        hypervisors::MACHINE_QDISCS,
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

pub const FLAT_FLOWS: Part = Part {
    about: "br-int, br-ex: output to eth0 and input from it",
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
        .for_both_families(),
    ],
};

pub const VLAN_FLOWS: Part = Part {
    about: "br-int, br-vlan: output to eth0 with VLAN tag 101, input without it",
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
        .for_both_families(),
    ],
};

pub const VXLAN_PORT: Part = Part {
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

pub const VXLAN_FLOWS: Part = Part {
    about: "br-int, br-tun: output to vxlan_sys_4789 with the network's VNI, and input from it",
    needs: &[],
    steps: &[TUNNEL_FLOWS, TUNNEL_FLOWS_OF_IP],
};

pub const GRE_FLOWS: Part = Part {
    about: "br-int, br-tun: output to gre_sys with the network's key, and input from it",
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
.for_both_families();
