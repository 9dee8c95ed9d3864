//! A packet's addresses as text.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use overlay_trace_common::record::Flow;
use overlay_trace_format::protocol_name;

/// `udp 10.0.1.2:5000 > 10.0.2.2:7700`; "unknown addresses" where the headers were not read.
pub(super) fn flow(flow: &Flow) -> String {
    if flow.version == 0 {
        return "unknown addresses".into();
    }
    let protocol = protocol(flow.protocol);
    let (source, destination) =
        (address(flow.version, &flow.source), address(flow.version, &flow.destination));
    match flow.protocol {
        6 | 17 | 132 => format!(
            "{protocol} {} > {}",
            SocketAddr::new(source, flow.source_port),
            SocketAddr::new(destination, flow.destination_port)
        ),
        _ => format!("{protocol} {source} > {destination}"),
    }
}

/// A protocol's name, or its number.
pub(super) fn protocol(number: u8) -> String {
    protocol_name(number).map_or_else(|| format!("protocol {number}"), str::to_owned)
}

/// An address of a flow of this IP version.
pub(super) fn address(version: u8, bytes: &[u8; 16]) -> IpAddr {
    if version == 4 {
        return IpAddr::V4(Ipv4Addr::new(bytes[0], bytes[1], bytes[2], bytes[3]));
    }
    IpAddr::V6(Ipv6Addr::from(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flows() {
        let mut bytes = [0; 16];
        bytes[..4].copy_from_slice(&[10, 0, 1, 2]);
        let udp = Flow {
            source: bytes,
            destination: bytes,
            source_port: 7,
            destination_port: 9,
            protocol: 17,
            version: 4,
            ..Flow::default()
        };
        assert_eq!(flow(&udp), "udp 10.0.1.2:7 > 10.0.1.2:9");
        assert_eq!(flow(&Flow { version: 6, protocol: 58, ..udp }), "icmpv6 a00:102:: > a00:102::");
        assert_eq!(flow(&Flow::default()), "unknown addresses");
    }
}
