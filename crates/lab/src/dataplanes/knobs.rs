//! Parameters of a lab.

use std::str::FromStr;
use std::time::Duration;

use anyhow::{Error, Result, bail};

use super::lab::{Lab, Need};
use super::step::WireKind;

/// Parameters of a lab, for experiments and for tests that inject a known cause.
#[derive(Clone, Debug)]
pub struct Knobs {
    /// Delay of netem on node1's end of the underlay.
    pub delay: Option<Duration>,
    /// Number of iptables rules that match nothing, at the head of FORWARD on every node.
    pub rules: u32,
    /// The underlay's MTU, bytes.
    pub mtu: u32,
    /// Traffic goes over IPv6.
    pub ipv6: bool,
    /// Traffic goes to the server's Service address, also in labs that are not about Services.
    pub service: bool,
    /// Number of additional Services that receive no traffic.
    pub services: u32,
    /// Number of additional endpoints of the server's Service. In Kubernetes they share the traffic; here they
    /// take no new connections, so that every endpoint is evaluated and the server receives all traffic.
    pub endpoints: u32,
    /// What the NICs at the two ends of the lowest network are.
    pub wire: Wire,
    /// With [`Wire::Nics`]: what each end of the lowest network makes its eth0 of.
    pub uplink: Uplink,
    /// Whether VXLAN's outer UDP headers have a checksum over IPv4; `None`: what the system makes by default.
    pub udp_checksum: Option<bool>,
    /// The namespaces stay when the [`Running`](super::Running) lab is dropped.
    pub keep: bool,
    /// A lab that was kept is removed first, with everything that runs in it.
    pub replace: bool,
}

/// What the NICs at the two ends of the lowest network are. With all but `Veth` the kernel sees two machines: a packet
/// is new when it arrives at the second one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wire {
    /// The two ends of a veth pair.
    Veth,
    /// Taps; a program copies frames between them.
    Taps,
    /// NICs of this machine that are connected outside of it, by name; if there are no names, those that are not in
    /// use. They are moved into the nodes' namespaces, and back in the end.
    Nics(Vec<String>),
}

/// How a node's eth0 is made of several NICs, or of something on top of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Uplink {
    /// The number of NICs, which are called nic0, nic1, ….
    pub nics: usize,
    /// Lines of `ip -batch` that make eth0.
    pub lines: &'static str,
}

impl Uplink {
    /// One NIC, which is eth0.
    pub const PLAIN: Uplink = Uplink { nics: 1, lines: "link set dev nic0 name eth0" };
}

impl Wire {
    /// The kind.
    pub fn kind(&self) -> WireKind {
        match self {
            Wire::Veth => WireKind::Veth,
            Wire::Taps => WireKind::Taps,
            Wire::Nics(_) => WireKind::Nics,
        }
    }
}

impl FromStr for Wire {
    type Err = Error;

    fn from_str(text: &str) -> Result<Wire> {
        let (kind, names) = text.split_once('=').map_or((text, None), |(kind, names)| (kind, Some(names)));
        match (kind, names) {
            ("veth", None) => Ok(Wire::Veth),
            ("tap", None) => Ok(Wire::Taps),
            ("nic", None) => Ok(Wire::Nics(Vec::new())),
            ("nic", Some(names)) => Ok(Wire::Nics(names.split(',').map(str::to_string).collect())),
            _ => bail!("the nodes are joined by veth, tap, nic, or nic=NAME,NAME"),
        }
    }
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
            wire: Wire::Veth,
            uplink: Uplink::PLAIN,
            udp_checksum: None,
            keep: false,
            replace: false,
        }
    }
}

/// Everything that the lab needs with these parameters, without repetition.
pub fn needs(lab: &Lab, knobs: &Knobs) -> Vec<Need> {
    let mut needs = Vec::new();
    let netem = knobs.delay.map(|_| Need::Netem);
    let tap = (knobs.wire == Wire::Taps).then_some(Need::Tap);
    for need in lab.parts.iter().flat_map(|part| part.needs).copied().chain(netem).chain(tap) {
        if !needs.contains(&need) {
            needs.push(need);
        }
    }
    needs
}
