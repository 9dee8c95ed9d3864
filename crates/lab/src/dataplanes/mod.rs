//! The dataplanes of well-known container networks, built on this machine out of network namespaces.
//!
//! A [`Lab`] is data: which namespaces there are, and per namespace the lines that the real system's
//! agents amount to, in the syntax of the real tools, so that a reader sees exactly what flannel or
//! Calico set up (`lab show NAME` prints them with all variables filled in). [`Running::up`] carries
//! them out, [`drive`] sends traffic from the lab's client to its server, and dropping a [`Running`] takes
//! everything down again.
//!
//! Nothing of a lab touches the machine's own network: every device is created inside a namespace of the
//! lab, no device leads out, and no namespace has a route to the outside.

mod beside;
mod cgroup;
mod classifier;
mod cni;
mod daemon;
mod definitions;
mod drive;
mod expand;
mod netns;
mod part;
mod process;
mod ready;
mod relay;
mod running;
mod services;
mod step;
mod system;
mod tap;
mod tools;
mod wire;

use std::net::IpAddr;

pub use beside::beside;
pub use drive::{command, default_plan, drive};
pub use expand::{Action, script};
pub use netns::Netns;
pub use running::{End, Running, remove_leftovers};
pub use step::{EVERYWHERE, Family, Step, Tool};
use step::{
    bird, bridge, classifier, cni, firewall, ip, ipset, iptables, ipvs, ovs, relay, socket_programs, sysctl,
    tc, wireguard,
};
pub use system::System;

/// A container network, as data.
#[derive(Debug)]
pub struct Lab {
    pub name: &'static str,
    /// One sentence for people.
    pub about: &'static str,
    /// Short names, as `node1`; the lab's network namespaces are called `ot-LAB-node1`. The digit in a
    /// name is the number of its node.
    pub namespaces: &'static [&'static str],
    /// What is set up, in this order.
    pub parts: &'static [&'static Part],
    /// Where traffic comes from.
    pub client: Place,
    /// Where it goes to.
    pub server: Place,
    /// What the encapsulation adds to a packet, over IPv4 and over IPv6, bytes: so much less is the pods'
    /// MTU.
    pub overhead: (u32, u32),
    /// Where traffic goes when nothing else is said.
    pub towards: Towards,
}

/// Where a lab's traffic goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Towards {
    /// To the server's own address.
    Server,
    /// To its Service address, which a node translates.
    Service,
    /// To its Service address, which the server has itself (direct server return).
    ServiceItself,
    /// To a port of the server's node, which translates it.
    HostPort,
}

impl Lab {
    /// Pods on two nodes, over IPv4, without an encapsulation.
    const fn of_pods(name: &'static str, about: &'static str, parts: &'static [&'static Part]) -> Lab {
        Lab {
            name,
            about,
            namespaces: definitions::PODS_ON_NODES,
            parts,
            client: Place { v6: None, ..definitions::POD1 },
            server: Place { v6: None, ..definitions::POD2 },
            overhead: (0, 0),
            towards: Towards::Server,
        }
    }

    /// Its pods have IPv6 too.
    const fn dual_stack(self) -> Lab {
        Lab { client: definitions::POD1, server: definitions::POD2, ..self }
    }

    const fn in_namespaces(self, namespaces: &'static [&'static str]) -> Lab {
        Lab { namespaces, ..self }
    }

    const fn between(self, client: Place, server: Place) -> Lab {
        Lab { client, server, ..self }
    }

    const fn with_overhead(self, bytes: u32) -> Lab {
        Lab { overhead: (bytes, bytes), ..self }
    }

    const fn with_overheads(self, v4: u32, v6: u32) -> Lab {
        Lab { overhead: (v4, v6), ..self }
    }

    const fn by_service(self) -> Lab {
        Lab { towards: Towards::Service, ..self }
    }

    const fn by_host_port(self) -> Lab {
        Lab { towards: Towards::HostPort, ..self }
    }

    const fn by_service_itself(self) -> Lab {
        Lab { towards: Towards::ServiceItself, ..self }
    }

    /// Whether its pods have IPv6 on this system.
    pub fn has_ipv6(&self, system: &System) -> bool {
        self.server.v6.is_some() && system.ipv6
    }

    /// Whether two nodes are joined by an underlay.
    pub fn has_underlay(&self) -> bool {
        self.namespaces.contains(&"node2")
    }

    /// Whether the lab has a firewall.
    pub fn has_firewall(&self) -> bool {
        self.steps().any(|step| step.tool == Tool::Iptables)
    }

    /// The namespaces that a program can join, [`Knobs::wire`].
    pub fn wire_ends(&self) -> Option<(&'static str, &'static str)> {
        match self.steps().find(|step| step.wire == Some(true))?.on {
            [one, other] => Some((one, other)),
            _ => None,
        }
    }

    /// Whether a node translates the Service address.
    pub fn has_service(&self) -> bool {
        matches!(self.towards, Towards::Service | Towards::ServiceItself)
            || self.steps().any(|step| step.lines.contains("{service}"))
    }

    /// Whether it sees to the sockets of this process wherever they are, so that no other lab can be measured beside
    /// it.
    pub fn wants_all_sockets(&self) -> bool {
        self.steps().any(|step| step.tool == Tool::SocketPrograms)
    }

    /// Whether programs of this process are part of the lab, so that it ends with it.
    pub fn has_daemons(&self) -> bool {
        self.steps().any(|step| {
            matches!(
                step.tool,
                Tool::Bird | Tool::Relay | Tool::Classifier | Tool::SocketPrograms | Tool::Cni
            )
        })
    }

    fn steps(&self) -> impl Iterator<Item = &'static Step> {
        self.parts.iter().flat_map(|part| part.steps)
    }
}

/// A namespace and its addresses.
#[derive(Debug)]
pub struct Place {
    pub namespace: &'static str,
    pub v4: &'static str,
    /// `None`: the lab has no IPv6.
    pub v6: Option<&'static str>,
}

impl Place {
    /// The address of the family; `None` when the place has none.
    pub fn address(&self, v6: bool) -> Option<IpAddr> {
        let text = if v6 { self.v6? } else { self.v4 };
        text.parse().ok()
    }
}

/// A part of a lab: what one agent sets up. Parts are shared between labs.
#[derive(Debug)]
pub struct Part {
    /// Who sets this up, and what it is, for people.
    pub about: &'static str,
    /// What the machine must have for it.
    pub needs: &'static [Need],
    pub steps: &'static [Step],
}

/// Something that a machine may lack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Need {
    /// Devices of this kind (`ip link add … type KIND`).
    Link(&'static str),
    /// The same, where the system has IPv6.
    LinkV6(&'static str),
    /// Bridged packets pass iptables: the module br_netfilter.
    BridgeNetfilter,
    /// iptables with the matches and targets that the labs use.
    Iptables,
    /// The qdisc netem.
    Netem,
    /// IPv6.
    Ipv6,
    /// Taps, with a program behind them.
    Tap,
    /// Sets of addresses, and the command `ipset`.
    Ipset,
    /// IPVS, and the command `ipvsadm`.
    Ipvs,
    /// Open vSwitch's datapath, and the command `ovs-dpctl`.
    OpenVswitch,
    /// The command `wg`.
    Wireguard,
    /// BIRD.
    Bird,
    /// Kernel programs at tc that can redirect a packet into another namespace.
    Classifier,
    /// Kernel programs at a cgroup.
    Cgroup,
    /// The CNI project's plugins.
    Cni,
    /// IPsec's ESP with AES-GCM.
    Esp,
}

/// What can be changed about a lab, for experiments and for tests that need a known truth.
#[derive(Clone, Debug)]
pub struct Knobs {
    /// Delay of netem on node1's end of the underlay.
    pub delay: Option<std::time::Duration>,
    /// So many iptables rules that match nothing, at the head of FORWARD on every node.
    pub rules: u32,
    /// The underlay's MTU, bytes.
    pub mtu: u32,
    /// Traffic goes over IPv6.
    pub ipv6: bool,
    /// Traffic goes to the server's Service address, also in labs that are not about Services.
    pub service: bool,
    /// So many more Services, none of which is used.
    pub services: u32,
    /// So many endpoints more of the server's Service. Kubernetes has them in turn; here the others are not
    /// ready for new connections, so that all of them are looked at and the server gets all of the traffic.
    pub endpoints: u32,
    /// The NICs at the two ends of the lowest network are taps, and a program carries the frames from one to the
    /// other: to the kernel two machines, each of which meets a packet when it arrives.
    pub wire: bool,
    /// The namespaces stay when the [`Running`] is dropped.
    pub keep: bool,
}

impl Default for Knobs {
    fn default() -> Knobs {
        Knobs {
            delay: None,
            rules: 0,
            mtu: 1500,
            ipv6: false,
            service: false,
            services: 0,
            endpoints: 0,
            wire: false,
            keep: false,
        }
    }
}

/// All labs.
pub fn all() -> &'static [Lab] {
    definitions::LABS
}

/// The lab of this name.
pub fn find(name: &str) -> Option<&'static Lab> {
    all().iter().find(|lab| lab.name == name)
}

#[cfg(test)]
mod tests;
