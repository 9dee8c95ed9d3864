//! Sockets of datagram clients: UDP, and ICMP echo.

use std::io;
use std::net::{SocketAddr, UdpSocket};

/// A connected socket that carries datagrams of the protocol.
pub trait DatagramChannel: Send + Sync {
    /// Sends a payload that begins with the header.
    fn send(&self, payload: &[u8], number: u64) -> io::Result<()>;
    /// Waits for a datagram for at most [`POLL_INTERVAL`](super::round_robin::POLL_INTERVAL); returns the payload.
    fn receive<'a>(&self, buffer: &'a mut [u8]) -> io::Result<&'a [u8]>;
    fn local_address(&self) -> io::Result<SocketAddr>;
}

impl DatagramChannel for UdpSocket {
    fn send(&self, payload: &[u8], _number: u64) -> io::Result<()> {
        UdpSocket::send(self, payload).map(drop)
    }

    fn receive<'a>(&self, buffer: &'a mut [u8]) -> io::Result<&'a [u8]> {
        let length = self.recv(buffer)?;
        Ok(&buffer[..length])
    }

    fn local_address(&self) -> io::Result<SocketAddr> {
        self.local_addr()
    }
}
