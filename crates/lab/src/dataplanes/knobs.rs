//! Parameters of a lab.

use std::time::Duration;

use super::lab::{Lab, Need};

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
    /// The NICs at the two ends of the lowest network are taps, and a program copies frames between them. The
    /// kernel then sees two machines: a packet is new when it arrives at the second one.
    pub wire: bool,
    /// The namespaces stay when the [`Running`](super::Running) lab is dropped.
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

/// Everything that the lab needs with these parameters, without repetition.
pub fn needs(lab: &Lab, knobs: &Knobs) -> Vec<Need> {
    let mut needs = Vec::new();
    let netem = knobs.delay.map(|_| Need::Netem);
    let tap = knobs.wire.then_some(Need::Tap);
    for need in lab.parts.iter().flat_map(|part| part.needs).copied().chain(netem).chain(tap) {
        if !needs.contains(&need) {
            needs.push(need);
        }
    }
    needs
}
