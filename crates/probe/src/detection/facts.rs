//! What a network namespace has, as far as container networks are detected by it.

use std::collections::{BTreeMap, BTreeSet};

/// A device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Device {
    pub name: String,
    /// Link kind (`vxlan`, `veth`…); empty for a NIC.
    pub kind: String,
    pub is_up: bool,
    /// What distinguishes it from others of its kind: `VNI 1, port 8472`, `mode l2`; may be empty.
    pub details: String,
}

/// What a network namespace has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// The namespace's name.
    pub netns: String,
    pub devices: Vec<Device>,
    /// Chains of iptables and of nftables.
    pub chains: BTreeSet<String>,
    /// Sets of addresses (ipset).
    pub sets: BTreeSet<String>,
    /// The protocol numbers of its routes (`rtnetlink(7)`).
    pub route_protocols: BTreeSet<u8>,
    /// The prefix lengths of the devices' own networks.
    pub networks: BTreeMap<String, u8>,
    /// The prefix lengths of networks with a route by a gateway.
    pub by_gateway: BTreeSet<u8>,
    /// There is a default route by a gateway.
    pub has_default: bool,
    /// Virtual servers of IPVS.
    pub virtual_servers: usize,
    /// Real servers of IPVS that are reached through a tunnel.
    pub tunnelled_servers: usize,
    /// IPsec policies.
    pub policies: usize,
    /// BPF programs at the connect and sendmsg calls of sockets, of the whole machine.
    pub socket_programs: usize,
}
