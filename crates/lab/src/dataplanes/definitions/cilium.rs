//! Networks in the shape of Cilium's datapath. BPF programs of this project at the pods' devices and at the tunnel
//! redirect packets past the node's stack, as Cilium's eBPF host routing does; programs at a cgroup translate a
//! Service address when a socket connects or sends. Cilium's policies, its connection tracking, and socket load
//! balancing over IPv6 are not part of them.

use super::{NODES, PODS};
use crate::dataplanes::lab::{Need, Part};
use crate::dataplanes::step::{cgroup_programs, ip, tc_programs};

/// Programs that redirect from the pod to a device, and from the device into the pod.
macro_rules! redirect_through {
    ($device:literal, $tunnel:literal) => {
        concat!(
            "lxc{n} from_container {other_networks} out=",
            $device,
            $tunnel,
            "\n",
            $device,
            " to_endpoint {pod_networks} pod-device=lxc{n} pod-mac=0a:00:00:00:0b:0{n} node-mac=0a:00:00:00:0a:0{n}"
        )
    };
}

pub const SERVICE_PROGRAMS: Part = Part {
    about: "the agent: BPF programs for connect, sendmsg, recvmsg and getpeername, at the pods' cgroup",
    needs: &[Need::Cgroup],
    steps: &[cgroup_programs(&["node1"], "service={service}:7700 server={server}:7700 packets=seen")],
};

pub const ENDPOINTS: Part = Part {
    about: "the CNI plugin cilium: the veth pair lxc* of the pod, whose gateway is the address of cilium_host",
    needs: &[Need::Link("veth")],
    steps: &[
        ip(
            NODES,
            "
            link add name cilium_host type veth peer name cilium_net
            addr add 10.244.{n}.1/32 dev cilium_host
            link set dev cilium_host up
            link set dev cilium_net up
            link add name lxc{n} address 0a:00:00:00:0a:0{n} mtu {pod_mtu} type veth peer name eth0 address 0a:00:00:00:0b:0{n} mtu {pod_mtu} netns {pod}
            link set dev lxc{n} up
            route add 10.244.{n}.2/32 dev lxc{n}
            ",
        ),
        ip(
            PODS,
            "
            addr add 10.244.{n}.2/32 dev eth0
            link set dev eth0 up
            neigh add 10.244.{n}.1 lladdr 0a:00:00:00:0a:0{n} dev eth0 nud permanent
            route add 10.244.{n}.1 dev eth0 scope link
            route add default via 10.244.{n}.1 dev eth0
            ",
        ),
        ip(
            NODES,
            "
            addr add fd00:10:244:{n}::1/128 dev cilium_host nodad
            route add fd00:10:244:{n}::2/128 dev lxc{n}
            ",
        )
        .v6(),
        ip(
            PODS,
            "
            addr add fd00:10:244:{n}::2/128 dev eth0 nodad
            neigh add fd00:10:244:{n}::1 lladdr 0a:00:00:00:0a:0{n} dev eth0 nud permanent
            route add fd00:10:244:{n}::1/128 dev eth0
            route add ::/0 via fd00:10:244:{n}::1 dev eth0
            ",
        )
        .v6(),
    ],
};

pub const VXLAN_DEVICE: Part = Part {
    about: "the agent: cilium_vxlan in external mode; a program sets each packet's remote address",
    needs: &[Need::Link("vxlan")],
    steps: &[ip(
        NODES,
        "
        link add name cilium_vxlan mtu {pod_mtu} type vxlan external dstport 8472
        link set dev cilium_vxlan up
        ",
    )],
};

pub const GENEVE_DEVICE: Part = Part {
    about: "the agent: cilium_geneve in external mode; a program sets each packet's remote address",
    needs: &[Need::Link("geneve")],
    steps: &[ip(
        NODES,
        "
        link add name cilium_geneve mtu {pod_mtu} type geneve external dstport 6081
        link set dev cilium_geneve up
        ",
    )],
};

pub const VXLAN_PROGRAMS: Part = Part {
    about: "the agent: tc programs at the pod's device and at the tunnel",
    needs: &[Need::TcPrograms],
    steps: &[tc_programs(NODES, redirect_through!("cilium_vxlan", " remote=192.0.2.{p} vni=7"))],
};

pub const GENEVE_PROGRAMS: Part = Part {
    about: "the agent: tc programs at the pod's device and at the tunnel",
    needs: &[Need::TcPrograms],
    steps: &[tc_programs(NODES, redirect_through!("cilium_geneve", " remote=192.0.2.{p} vni=7"))],
};

pub const NATIVE_PROGRAMS: Part = Part {
    about: "the agent: a route to the other node's pods, tc programs at the pod's device and at the NIC",
    needs: &[Need::TcPrograms],
    steps: &[
        ip(NODES, "route add {other_pods} via {other} dev eth0").for_both_families(),
        tc_programs(NODES, redirect_through!("eth0", "")),
    ],
};
