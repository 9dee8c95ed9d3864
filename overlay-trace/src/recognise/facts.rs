//! What a network namespace has, as far as networks are told by it.

use std::collections::BTreeSet;

/// A device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Device {
    pub name: String,
    /// Link kind (`vxlan`, `veth`…); empty for a NIC.
    pub kind: String,
    pub is_up: bool,
    /// What tells it from others of its kind: `VNI 1, port 8472`, `mode l2`; may be empty.
    pub details: String,
}

/// What a namespace has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// The namespace's name.
    pub netns: String,
    pub devices: Vec<Device>,
    /// Chains of iptables and of nftables.
    pub chains: BTreeSet<String>,
    /// Sets of addresses (ipset).
    pub sets: BTreeSet<String>,
    /// The protocols of its routes, as numbers (`rtnetlink(7)`).
    pub route_protocols: BTreeSet<u8>,
    /// Whether a route leads to a network by way of another machine, and whether a default route does.
    pub has_gateway: bool,
    pub has_default: bool,
    /// Virtual servers of IPVS.
    pub virtual_servers: usize,
    /// IPsec's policies.
    pub policies: usize,
    /// Programs at sockets' connect and sendmsg, of the whole machine.
    pub socket_programs: usize,
}
