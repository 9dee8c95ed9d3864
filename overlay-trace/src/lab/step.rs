//! What is done to set a lab up: lines for real tools, and how they are written down.

/// Lines for one tool, in some of the lab's namespaces (those of `on` that the lab has).
///
/// Variables in the lines: `{n}` the number of this node or of this pod's node, `{p}` the other one;
/// `{node1}`, `{pod2}`… the full name of a namespace; `{pod}` and `{node}` that of this node's first pod and of
/// this node; `{mtu}` of the underlay, `{pod_mtu}` and `{pod_mtu_v6}`, less by the encapsulation, `{fabric_mtu}`,
/// more by a cloud's; `{qdisc}` what a NIC has on this system. In [`Tool::Firewall`] also addresses of the family at hand: see `definitions::FAMILIES`.
#[derive(Debug)]
pub struct Step {
    /// Names of namespaces; [`EVERYWHERE`] stands for all.
    pub on: &'static [&'static str],
    pub tool: Tool,
    pub lines: &'static str,
    /// Only where the system has IPv6.
    pub v6: bool,
    /// Only with, or only without [`Knobs::wire`].
    pub wire: Option<bool>,
}

/// All namespaces of a lab.
pub const EVERYWHERE: &[&str] = &["*"];

/// The real tool that understands a step's lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tool {
    /// `NAME = VALUE`, as in sysctl.conf.
    Sysctl,
    /// `ip -batch`
    Ip,
    /// `bridge -batch`
    Bridge,
    /// `tc -batch`
    Tc,
    /// `iptables-restore --noflush`
    Iptables,
    /// `iptables-restore --noflush` and, where the system has IPv6, `ip6tables-restore --noflush`
    Firewall,
    /// `ipset restore`
    Ipset,
    /// `ipvsadm --restore`
    Ipvs,
    /// `ovs-dpctl`, a command a line
    Ovs,
    /// `wg setconf` of the namespace's one WireGuard device
    Wireguard,
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
        Step { on, tool, lines, v6: false, wire: None }
    }

    pub(super) const fn v6(self) -> Step {
        Step { v6: true, ..self }
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
pub(super) const fn firewall(on: &'static [&'static str], lines: &'static str) -> Step {
    Step::new(on, Tool::Firewall, lines)
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
pub(super) const fn wireguard(on: &'static [&'static str], lines: &'static str) -> Step {
    Step::new(on, Tool::Wireguard, lines)
}
