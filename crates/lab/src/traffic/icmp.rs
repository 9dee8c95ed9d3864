//! ICMP echo on a raw socket, for IPv4 and IPv6.

use std::io::{self, Read};
use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, Result};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::channel::DatagramChannel;
use super::protocol::random_session;
use super::round_robin::POLL_INTERVAL;

/// The ICMP header of an echo, bytes.
const HEADER: usize = 8;
const ECHO_V4: u8 = 8;
const ECHO_REPLY_V4: u8 = 0;
const ECHO_V6: u8 = 128;
const ECHO_REPLY_V6: u8 = 129;

/// A raw socket that sends echo requests to one address.
pub struct Icmp {
    socket: Socket,
    v4: bool,
    id: u16,
}

impl Icmp {
    pub fn open(to: IpAddr) -> Result<Icmp> {
        let (domain, protocol) = match to {
            IpAddr::V4(_) => (Domain::IPV4, Protocol::ICMPV4),
            IpAddr::V6(_) => (Domain::IPV6, Protocol::ICMPV6),
        };
        let socket = Socket::new(domain, Type::RAW, Some(protocol))
            .context("ICMP needs a raw socket: run as root or with CAP_NET_RAW")?;
        socket
            .connect(&SockAddr::from(SocketAddr::new(to, 0)))
            .with_context(|| format!("{to} is unreachable from this network namespace"))?;
        socket.set_read_timeout(Some(POLL_INTERVAL))?;
        Ok(Icmp { socket, v4: to.is_ipv4(), id: random_session() as u16 })
    }
}

impl DatagramChannel for Icmp {
    fn send(&self, payload: &[u8], number: u64) -> io::Result<()> {
        let mut packet = Vec::with_capacity(HEADER + payload.len());
        packet.extend_from_slice(&[if self.v4 { ECHO_V4 } else { ECHO_V6 }, 0, 0, 0]);
        packet.extend_from_slice(&self.id.to_be_bytes());
        packet.extend_from_slice(&(number as u16).to_be_bytes());
        packet.extend_from_slice(payload);
        if self.v4 {
            // The kernel computes the checksum only for ICMPv6.
            let sum = checksum(&packet);
            packet[2..4].copy_from_slice(&sum.to_be_bytes());
        }
        self.socket.send(&packet).map(drop)
    }

    fn receive<'a>(&self, buffer: &'a mut [u8]) -> io::Result<&'a [u8]> {
        let length = (&self.socket).read(buffer)?;
        let packet = &buffer[..length];
        // A raw IPv4 socket receives the IP header too; its first byte holds its length in 32-bit words.
        let skip = if self.v4 { packet.first().map_or(0, |first| usize::from(first & 15) * 4) } else { 0 };
        let reply = if self.v4 { ECHO_REPLY_V4 } else { ECHO_REPLY_V6 };
        match packet.get(skip..) {
            Some(icmp) if icmp.len() >= HEADER && icmp[0] == reply && icmp[4..6] == self.id.to_be_bytes() => {
                Ok(&icmp[HEADER..])
            }
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }

    fn local_address(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()?.as_socket().ok_or_else(|| io::ErrorKind::Unsupported.into())
    }
}

/// The Internet checksum (RFC 1071) of a packet whose checksum field is zero.
pub fn checksum(packet: &[u8]) -> u16 {
    let sum: u64 = packet
        .chunks(2)
        .map(|pair| u64::from(pair[0]) << 8 | u64::from(pair.get(1).copied().unwrap_or(0)))
        .sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    !(((folded & 0xffff) + (folded >> 16)) as u16)
}
