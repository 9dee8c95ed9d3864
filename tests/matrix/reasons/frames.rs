//! Packets as bytes, right or wrong on purpose.

use std::net::{Ipv4Addr, Ipv6Addr};

/// Ether types.
pub const IPV4: u16 = 0x0800;
pub const IPV6: u16 = 0x86dd;
/// Protocols of IP.
pub const ICMP: u8 = 1;
pub const TCP: u8 = 6;
pub const UDP: u8 = 17;
const ICMPV6: u8 = 58;

pub type Mac = [u8; 6];

/// A frame: destination, source, type, payload.
pub fn ethernet(to: Mac, from: Mac, kind: u16, payload: &[u8]) -> Vec<u8> {
    [&to[..], &from, &kind.to_be_bytes(), payload].concat()
}

/// An IPv4 header.
#[derive(Clone, Copy)]
pub struct Ip {
    pub from: Ipv4Addr,
    pub to: Ipv4Addr,
    pub protocol: u8,
    pub ttl: u8,
    pub tos: u8,
    pub id: u16,
    /// Flags, and the offset in units of 8 bytes.
    pub fragment: u16,
}

/// "Do not fragment" and "more fragments".
pub const DF: u16 = 0x4000;
pub const MF: u16 = 0x2000;

impl Ip {
    pub fn new(from: Ipv4Addr, to: Ipv4Addr, protocol: u8) -> Ip {
        Ip { from, to, protocol, ttl: 64, tos: 0, id: 0, fragment: DF }
    }

    /// The packet, with the right checksum.
    pub fn packet(&self, payload: &[u8]) -> Vec<u8> {
        let mut header = [0; 20];
        header[..2].copy_from_slice(&[0x45, self.tos]);
        header[2..4].copy_from_slice(&((20 + payload.len()) as u16).to_be_bytes());
        header[4..6].copy_from_slice(&self.id.to_be_bytes());
        header[6..8].copy_from_slice(&self.fragment.to_be_bytes());
        header[8..10].copy_from_slice(&[self.ttl, self.protocol]);
        header[12..16].copy_from_slice(&self.from.octets());
        header[16..20].copy_from_slice(&self.to.octets());
        let sum = checksum(&header);
        header[10..12].copy_from_slice(&sum);
        [&header, payload].concat()
    }

    /// What TCP's and UDP's checksums include of this header.
    fn pseudo(&self, length: usize) -> Vec<u8> {
        let length = (length as u16).to_be_bytes();
        [&self.from.octets()[..], &self.to.octets(), &[0, self.protocol], &length].concat()
    }

    /// A datagram with the right checksum.
    pub fn udp(&self, ports: (u16, u16), payload: &[u8]) -> Vec<u8> {
        let length = (8 + payload.len()) as u16;
        let mut datagram =
            [&ports.0.to_be_bytes()[..], &ports.1.to_be_bytes(), &length.to_be_bytes(), &[0, 0], payload]
                .concat();
        let sum = checksum(&[self.pseudo(datagram.len()), datagram.clone()].concat());
        datagram[6..8].copy_from_slice(&sum);
        datagram
    }

    /// A segment with the right checksum.
    pub fn tcp(&self, segment: &Segment<'_>) -> Vec<u8> {
        let Segment { ports, sequence, acknowledged, flags, window, options, data } = *segment;
        let words = ((20 + options.len()) / 4) as u8;
        let mut bytes = [
            &ports.0.to_be_bytes()[..],
            &ports.1.to_be_bytes(),
            &sequence.to_be_bytes(),
            &acknowledged.to_be_bytes(),
            &[words << 4, flags],
            &window.to_be_bytes(),
            &[0; 4],
            options,
            data,
        ]
        .concat();
        let sum = checksum(&[self.pseudo(bytes.len()), bytes.clone()].concat());
        bytes[16..18].copy_from_slice(&sum);
        bytes
    }
}

/// A TCP segment; the options fill whole words.
#[derive(Clone, Copy, Default)]
pub struct Segment<'a> {
    pub ports: (u16, u16),
    pub sequence: u32,
    pub acknowledged: u32,
    pub flags: u8,
    pub window: u16,
    pub options: &'a [u8],
    pub data: &'a [u8],
}

/// TCP's flags.
pub const FIN: u8 = 1;
pub const SYN: u8 = 2;
pub const ACK: u8 = 0x10;

/// An ICMP message with the right checksum.
pub fn icmp(kind: u8, code: u8, rest: &[u8]) -> Vec<u8> {
    let mut message = [&[kind, code, 0, 0], rest].concat();
    let sum = checksum(&message);
    message[2..4].copy_from_slice(&sum);
    message
}

/// An IPv6 packet.
pub fn ipv6(ends: (Ipv6Addr, Ipv6Addr), next: u8, hop_limit: u8, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u16).to_be_bytes();
    let header = [0x60, 0, 0, 0, length[0], length[1], next, hop_limit];
    [&header[..], &ends.0.octets(), &ends.1.octets(), payload].concat()
}

/// An ICMPv6 packet with the right checksum.
pub fn icmpv6(ends: (Ipv6Addr, Ipv6Addr), hop_limit: u8, (kind, code): (u8, u8), rest: &[u8]) -> Vec<u8> {
    let mut message = [&[kind, code, 0, 0], rest].concat();
    let length = (message.len() as u32).to_be_bytes();
    let pseudo = [&ends.0.octets()[..], &ends.1.octets(), &length, &[0, 0, 0, ICMPV6], &message].concat();
    let sum = checksum(&pseudo);
    message[2..4].copy_from_slice(&sum);
    ipv6(ends, ICMPV6, hop_limit, &message)
}

/// The checksum of the internet's protocols.
pub fn checksum(bytes: &[u8]) -> [u8; 2] {
    let word = |pair: &[u8]| u32::from(pair[0]) << 8 | pair.get(1).copied().map_or(0, u32::from);
    let mut sum: u32 = bytes.chunks(2).map(word).sum();
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    (!(sum as u16)).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_its_checksum_in_it_adds_up_to_nothing() {
        let (from, to) = (Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2));
        let ip = Ip::new(from, to, UDP);
        assert_eq!(checksum(&ip.packet(&[1, 2, 3])[..20]), [0, 0]);
        let datagram = ip.udp((7, 8), &[1, 2, 3]);
        assert_eq!(checksum(&[ip.pseudo(datagram.len()), datagram].concat()), [0, 0]);
        assert_eq!(checksum(&icmp(8, 0, &[9; 7])), [0, 0]);
    }
}
