//! What Weave Net sets up: its bridge, the fast datapath, and the fallback "sleeve" in user space. Weave Net has no
//! IPv6.

use super::NODES;
use crate::dataplanes::lab::{Need, Part};
use crate::dataplanes::step::{ip, ovs, udp_tunnel};

pub const BRIDGE: Part = Part {
    about: "the CNI plugin weave-net: the bridge weave with a veth pair per pod",
    needs: &[Need::Link("veth"), Need::Link("bridge")],
    steps: &[ip(
        NODES,
        "
        link add name weave mtu {pod_mtu} type bridge
        link set dev weave up
        link add name vethwepl{n} mtu {pod_mtu} type veth peer name eth0 mtu {pod_mtu} netns {pod}
        link set dev vethwepl{n} master weave up
        ",
    )],
};

/// Weave's router itself installs flows in the kernel datapath, without `ovs-vswitchd`.
pub const DATAPATH: Part = Part {
    about: "weave-net: vethwe-bridge and vethwe-datapath connect the bridge to the OVS datapath, whose other port is vxlan-6784",
    needs: &[Need::OpenVswitch, Need::Link("vxlan")],
    steps: &[
        ip(
            NODES,
            "
            link add name vethwe-bridge mtu {pod_mtu} type veth peer name vethwe-datapath mtu {pod_mtu}
            link set dev vethwe-bridge master weave up
            link set dev vethwe-datapath up
            link add name vxlan-6784 mtu 65000 type vxlan external dstport 6784 udp6zerocsumrx
            link set dev vxlan-6784 up
            ",
        ),
        ovs(
            NODES,
            "
            add-dp datapath
            add-if datapath vethwe-datapath,port_no=1
            add-if datapath vxlan-6784,port_no=2
            add-flow datapath in_port(1),eth(),eth_type(0x0800),ipv4() set(tunnel(tun_id=0x1,src=192.0.2.{n},dst=192.0.2.{p},ttl=64,flags(df|key))),2
            add-flow datapath in_port(1),eth(),eth_type(0x0806),arp() set(tunnel(tun_id=0x1,src=192.0.2.{n},dst=192.0.2.{p},ttl=64,flags(df|key))),2
            add-flow datapath in_port(2),eth(),eth_type(0x0800),ipv4() 1
            add-flow datapath in_port(2),eth(),eth_type(0x0806),arp() 1
            ",
        ),
    ],
};

/// Weave captures frames from a veth device with pcap, and injects them; a TAP device is equivalent.
pub const USER_SPACE: Part = Part {
    about: "weave-net's router: the TAP device vethwe-user in the bridge; its frames are tunnelled over UDP to the other node",
    needs: &[Need::Tap],
    steps: &[
        ip(
            NODES,
            "
            tuntap add dev vethwe-user mode tap
            link set dev vethwe-user mtu {pod_mtu} master weave up
            ",
        ),
        udp_tunnel(NODES, "tap vethwe-user 192.0.2.{n}:6783 192.0.2.{p}:6783"),
    ],
};
