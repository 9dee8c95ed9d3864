//! A flow's addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use overlay_trace_common::record::Flow;

/// The innermost source and destination; `None` where the headers could not be read.
pub fn flow_addresses(flow: &Flow) -> Option<[IpAddr; 2]> {
    let ends = [&flow.source, &flow.destination];
    match flow.version {
        4 => Some(ends.map(|end| IpAddr::V4(Ipv4Addr::new(end[0], end[1], end[2], end[3])))),
        6 => Some(ends.map(|end| IpAddr::V6(Ipv6Addr::from(*end)))),
        _ => None,
    }
}

/// An address as a flow holds it: an IPv4 address is in the first 4 bytes.
pub(crate) fn flow_bytes(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V6(address) => address.octets(),
        IpAddr::V4(address) => {
            let mut bytes = [0; 16];
            bytes[..4].copy_from_slice(&address.octets());
            bytes
        }
    }
}
