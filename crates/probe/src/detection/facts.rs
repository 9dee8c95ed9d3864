//! What a network namespace has, as far as networks are told by it.

use std::collections::{BTreeMap, BTreeSet};

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
    /// Of devices with a network of their own its prefix length.
    pub networks: BTreeMap<String, u8>,
    /// The prefix lengths of networks that a route leads to by way of another machine; and whether a default route
    /// does.
    pub by_gateway: BTreeSet<u8>,
    pub has_default: bool,
    /// Virtual servers of IPVS, and of the servers behind them those that are reached through a tunnel.
    pub virtual_servers: usize,
    pub tunnelled_servers: usize,
    /// IPsec's policies.
    pub policies: usize,
    /// Programs at sockets' connect and sendmsg, of the whole machine.
    pub socket_programs: usize,
}
