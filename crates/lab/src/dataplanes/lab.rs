//! The data types that describe a lab.

use std::net::IpAddr;

use super::step::{ServiceTable, Step, Tool, WireKind};

/// The namespaces of most labs: one pod on each of two nodes.
const PODS_ON_NODES: &[&str] = &["node1", "node2", "pod1", "pod2"];

/// A container network, as data.
#[derive(Debug)]
pub struct Lab {
    pub name: &'static str,
    /// One sentence that describes the dataplane.
    pub about: &'static str,
    /// Short names, as `node1`; the network namespaces are called `ot-LAB-node1`. The digit in a name is
    /// the number of its node.
    pub namespaces: &'static [&'static str],
    /// The components, in the order in which they are set up.
    pub parts: &'static [&'static Part],
    /// The traffic client.
    pub client: EndpointSpec,
    /// The traffic server.
    pub server: EndpointSpec,
    /// Encapsulation overhead over IPv4 and over IPv6, bytes. The pods' MTU is smaller by this much.
    pub overhead: (u32, u32),
    /// The destination address of traffic when no option selects another.
    pub target: TrafficTarget,
}

/// The destination address of a lab's traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrafficTarget {
    /// The server's own address.
    Server,
    /// The server's Service address, which a node translates (DNAT).
    Service,
    /// The server's Service address, which the server itself owns (direct server return).
    DirectServerReturn,
    /// A port of the server's node, which the node translates to the server.
    HostPort,
}

impl Lab {
    /// One pod on each of two nodes, IPv4 only, without encapsulation, traffic to the server's own address.
    /// The other methods change one of these defaults.
    pub(super) const fn new(name: &'static str, about: &'static str, parts: &'static [&'static Part]) -> Lab {
        Lab {
            name,
            about,
            namespaces: PODS_ON_NODES,
            parts,
            client: EndpointSpec::POD1.v4_only(),
            server: EndpointSpec::POD2.v4_only(),
            overhead: (0, 0),
            target: TrafficTarget::Server,
        }
    }

    /// The two pods have IPv6 addresses too.
    pub(super) const fn dual_stack(self) -> Lab {
        self.between(EndpointSpec::POD1, EndpointSpec::POD2)
    }

    pub(super) const fn namespaces(self, namespaces: &'static [&'static str]) -> Lab {
        Lab { namespaces, ..self }
    }

    pub(super) const fn between(self, client: EndpointSpec, server: EndpointSpec) -> Lab {
        Lab { client, server, ..self }
    }

    /// The encapsulation overhead, the same over IPv4 and IPv6, bytes.
    pub(super) const fn overhead(self, bytes: u32) -> Lab {
        self.overheads(bytes, bytes)
    }

    /// The encapsulation overhead over IPv4 and over IPv6, bytes.
    pub(super) const fn overheads(self, v4: u32, v6: u32) -> Lab {
        Lab { overhead: (v4, v6), ..self }
    }

    pub(super) const fn target(self, target: TrafficTarget) -> Lab {
        Lab { target, ..self }
    }

    /// The prefix of the names of all the lab's network namespaces.
    pub(super) fn netns_prefix(&self) -> String {
        format!("ot-{}-", self.name)
    }

    /// Whether two nodes are joined by an underlay.
    pub fn has_underlay(&self) -> bool {
        self.namespaces.contains(&"node2")
    }

    /// Whether the lab has iptables rules.
    pub fn has_firewall(&self) -> bool {
        self.steps().any(|step| step.tool == Tool::Iptables)
    }

    /// The two namespaces whose NICs can be taps or NICs of the machine ([`Knobs::wire`]).
    ///
    /// [`Knobs::wire`]: super::Knobs::wire
    pub fn wire_ends(&self) -> Option<(&'static str, &'static str)> {
        match self.steps().find(|step| step.wire.contains(&WireKind::Nics))?.on {
            [one, other] => Some((one, other)),
            _ => None,
        }
    }

    /// Whether the Service address of the traffic server works in this lab.
    pub fn has_service(&self) -> bool {
        matches!(self.target, TrafficTarget::Service | TrafficTarget::DirectServerReturn)
            || self.steps().any(|step| step.service_table.is_some())
    }

    /// Whether a step writes this Service table.
    pub(super) fn has_service_table(&self, table: ServiceTable) -> bool {
        self.steps().any(|step| step.service_table == Some(table))
    }

    /// Whether its BPF programs see all sockets of this process, so that no other lab can be measured at the
    /// same time.
    pub fn affects_all_sockets(&self) -> bool {
        self.steps().any(|step| step.tool == Tool::CgroupPrograms)
    }

    /// Whether daemons or BPF programs that this process owns are part of the lab, so that the lab ends with
    /// the process.
    pub fn has_daemons(&self) -> bool {
        self.steps().any(|step| step.tool.is_daemon())
    }

    pub(super) fn steps(&self) -> impl Iterator<Item = &'static Step> {
        self.parts.iter().flat_map(|part| part.steps)
    }
}

/// A namespace and the addresses of a traffic endpoint in it.
#[derive(Debug)]
pub struct EndpointSpec {
    pub namespace: &'static str,
    pub v4: &'static str,
    /// `None`: the lab has no IPv6.
    pub v6: Option<&'static str>,
}

impl EndpointSpec {
    /// The first node's own address in the underlay.
    pub(super) const NODE1: EndpointSpec = EndpointSpec::new("node1", "192.0.2.1", "2001:db8::1");
    /// The second node's own address in the underlay.
    pub(super) const NODE2: EndpointSpec = EndpointSpec::new("node2", "192.0.2.2", "2001:db8::2");
    /// The pod of the first node, in most labs the client.
    pub(super) const POD1: EndpointSpec = EndpointSpec::new("pod1", "10.244.1.2", "fd00:10:244:1::2");
    /// The pod of the second node, in most labs the server.
    pub(super) const POD2: EndpointSpec = EndpointSpec::new("pod2", "10.244.2.2", "fd00:10:244:2::2");

    pub(super) const fn new(namespace: &'static str, v4: &'static str, v6: &'static str) -> EndpointSpec {
        EndpointSpec { namespace, v4, v6: Some(v6) }
    }

    pub(super) const fn v4_only(self) -> EndpointSpec {
        EndpointSpec { v6: None, ..self }
    }

    /// The address of this IP family; `None` when the endpoint has none.
    pub fn address(&self, v6: bool) -> Option<IpAddr> {
        let text = if v6 { self.v6? } else { self.v4 };
        text.parse().ok()
    }
}

/// A component of a lab: what one agent (a CNI plugin, kube-proxy, BIRD…) sets up. Labs share parts.
#[derive(Debug)]
pub struct Part {
    /// The agent, and what it sets up.
    pub about: &'static str,
    /// What the machine must provide.
    pub needs: &'static [Need],
    pub steps: &'static [Step],
}

/// A kernel feature or program that a machine may lack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Need {
    /// The link type (`ip link add … type KIND`).
    Link(&'static str),
    /// The link type, only where the system has IPv6.
    LinkV6(&'static str),
    /// Bridged packets pass iptables: the module br_netfilter.
    BridgeNetfilter,
    /// iptables with the matches and targets that the labs use.
    Iptables,
    /// The qdisc netem.
    Netem,
    /// IPv6.
    Ipv6,
    /// TUN/TAP devices.
    Tap,
    /// IP sets in the kernel, and the command `ipset`.
    Ipset,
    /// IPVS, and the command `ipvsadm`.
    Ipvs,
    /// Open vSwitch's datapath, and the command `ovs-dpctl`.
    OpenVswitch,
    /// The command `wg`.
    Wireguard,
    /// The BIRD routing daemon.
    Bird,
    /// tc BPF programs with `bpf_redirect_peer` (Linux 5.10).
    TcPrograms,
    /// BPF programs attached to a cgroup.
    Cgroup,
    /// The reference plugins of the CNI project.
    Cni,
    /// IPsec ESP with AES-GCM.
    Esp,
}
