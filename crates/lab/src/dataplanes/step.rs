//! What is done to set a lab up: lines for real tools, and how they are written down.

/// Lines for one tool, in some of the lab's namespaces (those of `on` that the lab has).
///
/// Variables in the lines: `{n}` the number of this node or of this pod's node, `{p}` the other one;
/// `{node1}`, `{pod2}`… the full name of a namespace; `{pod}` and `{node}` that of this node's first pod and of
/// this node; `{mtu}` of the underlay, `{pod_mtu}` and `{pod_mtu_v6}`, less by the encapsulation, `{fabric_mtu}`,
/// more by a cloud's, `{tunnelled_mss}`, the data of TCP that fit with two IP headers; `{qdisc}` what a NIC has on this system; and what differs by the step's family, in
/// `definitions::FAMILIES`, or with the families that there are, in `definitions::STACKS`.
#[derive(Debug)]
pub struct Step {
    /// Names of namespaces; [`EVERYWHERE`] stands for all.
    pub on: &'static [&'static str],
    pub tool: Tool,
    pub lines: &'static str,
    pub family: Family,
    /// Only with, or only without [`Knobs::wire`](super::Knobs::wire).
    pub wire: Option<bool>,
}

/// All namespaces of a lab.
pub const EVERYWHERE: &[&str] = &["*"];

/// Of which family of addresses a step is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// Of none, of IPv4, or of both at once.
    Any,
    /// Of IPv6: only where the lab and the system have it.
    V6,
    /// First of IPv4, and then of IPv6 where the lab and the system have it.
    Each,
}

/// The real tool that understands a step's lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tool {
    /// `NAME = VALUE`, as in sysctl.conf.
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
    /// `ovs-dpctl`, a command a line
    Ovs,
    /// `wg setconf` of this device
    Wireguard(&'static str),
    /// A kernel program of our own at a device's ingress, `DEVICE PROGRAM NAME=VALUE…` a line
    Classifier,
    /// Kernel programs of our own at a cgroup that this process joins, `service=ADDRESS:PORT server=ADDRESS:PORT` a line
    SocketPrograms,
    /// The configuration of a BIRD
    Bird,
    /// A configuration list of CNI, for the node's first pod
    Cni,
    /// A daemon of our own between a TUN or TAP and a UDP socket, `KIND DEVICE OWN-ADDRESS OTHER-ADDRESS` a line
    Relay,
}

impl Step {
    pub(super) const fn new(on: &'static [&'static str], tool: Tool, lines: &'static str) -> Step {
        Step { on, tool, lines, family: Family::Any, wire: None }
    }

    pub(super) const fn v6(self) -> Step {
        Step { family: Family::V6, ..self }
    }

    pub(super) const fn of_each_family(self) -> Step {
        Step { family: Family::Each, ..self }
    }

    pub(super) const fn wire(self, wire: bool) -> Step {
        Step { wire: Some(wire), ..self }
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
/// Rules of both families.
pub(super) const fn firewall(on: &'static [&'static str], lines: &'static str) -> Step {
    iptables(on, lines).of_each_family()
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
pub(super) const fn relay(on: &'static [&'static str], lines: &'static str) -> Step {
    Step::new(on, Tool::Relay, lines)
}
pub(super) const fn classifier(on: &'static [&'static str], lines: &'static str) -> Step {
    Step::new(on, Tool::Classifier, lines)
}
pub(super) const fn socket_programs(on: &'static [&'static str], lines: &'static str) -> Step {
    Step::new(on, Tool::SocketPrograms, lines)
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
