//! What Weave Net sets up: its bridge, the fast datapath, and the sleeve where that does not work. It has
//! no IPv6.

use super::{NODES, base, slaves};
use crate::dataplanes::{Lab, Need, Part, ip, ovs, relay};

/// The fast datapath.
pub const FASTDP: Lab = Lab::of_pods(
    "weave-fastdp",
    "Weave, fast datapath: the bridge weave, beside it an Open vSwitch datapath with a VXLAN at port 6784; IPv4 alone.",
    &[&base::NAMESPACES, &base::UNDERLAY, &BRIDGE, &DATAPATH, &slaves::ON_LINK],
)
.with_overhead(50);

/// The fallback in user space.
pub const SLEEVE: Lab = Lab::of_pods(
    "weave-sleeve",
    "Weave, sleeve: a daemon on each node carries the bridge's frames over UDP, port 6783; IPv4 alone.",
    &[&base::NAMESPACES, &base::UNDERLAY, &BRIDGE, &USER_SPACE, &slaves::ON_LINK],
)
.with_overhead(42);

const BRIDGE: Part = Part {
    about: "the CNI plugin weave-net: the bridge weave with a veth per pod",
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

/// Weave's router itself enters flows into the kernel's datapath, without `ovs-vswitchd`.
const DATAPATH: Part = Part {
    about: "weave-net: vethwe-bridge and vethwe-datapath join the bridge to the datapath, which has vxlan-6784",
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

/// Weave reads by pcap what comes to a veth, and injects; a TAP is the same with one device.
const USER_SPACE: Part = Part {
    about: "weave-net's router: the TAP vethwe-user in the bridge, its frames in UDP packets to the other node",
    needs: &[Need::Tap],
    steps: &[
        ip(
            NODES,
            "
            tuntap add dev vethwe-user mode tap
            link set dev vethwe-user mtu {pod_mtu} master weave up
            ",
        ),
        relay(NODES, "tap vethwe-user 192.0.2.{n}:6783 192.0.2.{p}:6783"),
    ],
};
