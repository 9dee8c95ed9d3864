//! The steps that set a lab up, as commands of real tools.

/// Lines for one tool, in some of the lab's namespaces (those of `on` that the lab has).
///
/// The lines contain variables:
///
/// - `{n}`: the number of this node, or of this pod's node; `{p}`: the number of the other node
/// - `{node1}`, `{pod2}`…: the full name of a namespace; `{node}`, `{pod}`: that of this node and of its first
///   pod
/// - `{mtu}`: the underlay's MTU; `{pod_mtu}`, `{pod_mtu_v6}`: the same minus the encapsulation overhead;
///   `{fabric_mtu}`: the MTU below a cloud's VXLAN; `{tunnelled_mss}`: the TCP MSS below two IP headers
/// - `{qdisc}`: the root qdisc of NICs on this system
/// - `{udp_checksum}`: the option of VXLAN devices for [`Knobs::udp_checksum`](super::Knobs::udp_checksum), or nothing
/// - `{server}`, `{server_at}`: the traffic server's address, and the same as written before a port
/// - those of the module `variables`, which depend on the IP family
#[derive(Debug)]
pub struct Step {
    /// Names of namespaces; [`ALL_NAMESPACES`] stands for all.
    pub on: &'static [&'static str],
    pub tool: Tool,
    pub lines: &'static str,
    pub family: Family,
    /// The step applies only with these kinds of [`Knobs::wire`](super::Knobs::wire); empty: with all.
    pub wire: &'static [WireKind],
    /// The Service table that this step writes.
    pub service_table: Option<ServiceTable>,
}

/// All namespaces of a lab.
pub const ALL_NAMESPACES: &[&str] = &["*"];

/// The IP family of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// Independent of the family, IPv4, or lines that handle both.
    Any,
    /// IPv6: applies only where the lab and the system have it.
    V6,
    /// Executed for IPv4, and then for IPv6 where the lab and the system have it.
    Both,
}

/// What is between the NICs of the lowest network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WireKind {
    /// A veth pair is the NICs and the wire.
    Veth,
    /// The NICs are taps, and a program of this process copies frames between them.
    Taps,
    /// The NICs are the machine's own.
    Nics,
}

/// Where a node keeps its Services, so that [`Knobs::services`](super::Knobs::services) can add more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServiceTable {
    /// kube-proxy's iptables chains.
    Iptables,
    /// IPVS virtual servers.
    Ipvs,
    /// kube-proxy's ipset of cluster IP addresses.
    ClusterIpSet,
}

/// The tool that executes a step's lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tool {
    /// `NAME = VALUE`, as in sysctl.conf
    Sysctl,
    /// `ip -batch`, for IPv6 `ip -6 -batch`
    Ip,
    /// `bridge -batch`
    Bridge,
    /// `tc -batch`
    Tc,
    /// `iptables-restore --noflush`, for IPv6 `ip6tables-restore --noflush`
    Iptables,
    /// `ipset restore`
    Ipset,
    /// `ipvsadm --restore`
    Ipvs,
    /// `ovs-dpctl`, one command per line
    Ovs,
    /// `wg setconf` of this device
    Wireguard(&'static str),
    /// A BPF program of this project at a device's tc ingress hook, one `DEVICE PROGRAM NAME=VALUE…` per line
    TcPrograms,
    /// BPF programs of this project at a cgroup that this process joins, one
    /// `service=ADDRESS:PORT server=ADDRESS:PORT` per line
    CgroupPrograms,
    /// The configuration file of a BIRD daemon
    Bird,
    /// A CNI configuration list, for the node's first pod
    Cni,
    /// A daemon of this project between a TUN or TAP and a UDP socket, one
    /// `KIND DEVICE LOCAL-ADDRESS REMOTE-ADDRESS` per line
    UdpTunnel,
}

impl Tool {
    /// Whether this process owns what the step starts, so that it ends with the process.
    pub fn is_daemon(self) -> bool {
        match self {
            Tool::TcPrograms | Tool::CgroupPrograms | Tool::Bird | Tool::Cni | Tool::UdpTunnel => true,
            Tool::Sysctl | Tool::Ip | Tool::Bridge | Tool::Tc | Tool::Iptables => false,
            Tool::Ipset | Tool::Ipvs | Tool::Ovs | Tool::Wireguard(_) => false,
        }
    }
}

/// The lines of a step for one namespace and one IP family, with all variables filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Action {
    /// Short name of the namespace.
    pub namespace: &'static str,
    pub tool: Tool,
    /// The lines are for IPv6.
    pub v6: bool,
    pub lines: String,
}

impl Step {
    pub(super) const fn new(on: &'static [&'static str], tool: Tool, lines: &'static str) -> Step {
        Step { on, tool, lines, family: Family::Any, wire: &[], service_table: None }
    }

    pub(super) const fn v6(self) -> Step {
        Step { family: Family::V6, ..self }
    }

    pub(super) const fn for_both_families(self) -> Step {
        Step { family: Family::Both, ..self }
    }

    pub(super) const fn wire(self, wire: &'static [WireKind]) -> Step {
        Step { wire, ..self }
    }

    pub(super) const fn service_table(self, table: ServiceTable) -> Step {
        Step { service_table: Some(table), ..self }
    }
}

pub(super) const fn sysctl(on: &'static [&'static str], lines: &'static str) -> Step {
    Step::new(on, Tool::Sysctl, lines)
}
pub(super) const fn ip(on: &'static [&'static str], lines: &'static str) -> Step {
    Step::new(on, Tool::Ip, lines)
}
pub(super) const fn bridge(on: &'static [&'static str], lines: &'static str) -> Step {
    Step::new(on, Tool::Bridge, lines)
}
pub(super) const fn tc(on: &'static [&'static str], lines: &'static str) -> Step {
    Step::new(on, Tool::Tc, lines)
}
pub(super) const fn iptables(on: &'static [&'static str], lines: &'static str) -> Step {
    Step::new(on, Tool::Iptables, lines)
}
/// The same rules for both IP families.
pub(super) const fn firewall(on: &'static [&'static str], lines: &'static str) -> Step {
    iptables(on, lines).for_both_families()
}
pub(super) const fn ipset(on: &'static [&'static str], lines: &'static str) -> Step {
    Step::new(on, Tool::Ipset, lines)
}
pub(super) const fn ipvs(on: &'static [&'static str], lines: &'static str) -> Step {
    Step::new(on, Tool::Ipvs, lines)
}
pub(super) const fn ovs(on: &'static [&'static str], lines: &'static str) -> Step {
    Step::new(on, Tool::Ovs, lines)
}
pub(super) const fn bird(on: &'static [&'static str], lines: &'static str) -> Step {
    Step::new(on, Tool::Bird, lines)
}
pub(super) const fn udp_tunnel(on: &'static [&'static str], lines: &'static str) -> Step {
    Step::new(on, Tool::UdpTunnel, lines)
}
pub(super) const fn tc_programs(on: &'static [&'static str], lines: &'static str) -> Step {
    Step::new(on, Tool::TcPrograms, lines)
}
pub(super) const fn cgroup_programs(on: &'static [&'static str], lines: &'static str) -> Step {
    Step::new(on, Tool::CgroupPrograms, lines)
}
pub(super) const fn cni(on: &'static [&'static str], list: &'static str) -> Step {
    Step::new(on, Tool::Cni, list)
}
pub(super) const fn wireguard(
    on: &'static [&'static str],
    device: &'static str,
    lines: &'static str,
) -> Step {
    Step::new(on, Tool::Wireguard(device), lines)
}
