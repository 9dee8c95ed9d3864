//! A device that frames are sent by as they are, and a TCP end of the test's own behind it.

use std::io::Read;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::net::if_::if_nametoindex;
use overlay_trace_lab::dataplanes::Netns;
use socket2::{Domain, Protocol, SockAddr, SockAddrStorage, Socket, Type};

use super::frames::{ACK, IPV4, Ip, Mac, SYN, Segment, TCP, ethernet};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// A device of a namespace.
pub struct Wire {
    sender: Socket,
    /// Receives IPv4 packets.
    receiver: Socket,
    index: u32,
    pub own: Mac,
    pub peer: Mac,
}

impl Wire {
    pub fn open(netns: &Netns, device: &str, own: Mac, peer: Mac) -> Result<Wire> {
        netns.run(|| -> Result<Wire> {
            let index = if_nametoindex(device)?;
            let open = |protocol: u16| {
                Socket::new(Domain::PACKET, Type::RAW, Some(Protocol::from(i32::from(protocol.to_be()))))
            };
            let (sender, receiver) = (open(0)?, open(IPV4)?);
            receiver.bind(&address(index, IPV4))?;
            receiver.set_read_timeout(Some(PATIENCE))?;
            Ok(Wire { sender, receiver, index, own, peer })
        })?
    }

    /// Sends a frame to the device's peer.
    pub fn send(&self, kind: u16, payload: &[u8]) -> Result<()> {
        self.send_to(self.peer, kind, payload)
    }

    pub fn send_to(&self, to: Mac, kind: u16, payload: &[u8]) -> Result<()> {
        let frame = ethernet(to, self.own, kind, payload);
        self.sender.send_to(&frame, &address(self.index, kind)).context("a frame could not be sent")?;
        Ok(())
    }

    /// The next TCP segment for this address and port with this flag: its source port, sequence and acknowledgement numbers, window.
    fn receive(&self, (to, port): (Ipv4Addr, u16), flag: u8) -> Result<(u16, u32, u32, u16)> {
        let begin = Instant::now();
        let mut frame = [0; 2048];
        while begin.elapsed() < PATIENCE {
            let bytes = (&self.receiver).read(&mut frame).context("no segment arrives")?;
            let Some(packet) = frame[..bytes].get(14..).filter(|packet| packet.len() >= 40) else { continue };
            let (ip, tcp) = packet.split_at(20);
            let number = |at: usize| u32::from_be_bytes([tcp[at], tcp[at + 1], tcp[at + 2], tcp[at + 3]]);
            let short = |at: usize| u16::from_be_bytes([tcp[at], tcp[at + 1]]);
            if ip[9] == TCP && ip[16..20] == to.octets() && short(2) == port && tcp[13] & flag != 0 {
                return Ok((short(0), number(4), number(8), short(14)));
            }
        }
        bail!("no segment arrives for {to}:{port}")
    }
}

/// The address of a device for packets of a type.
fn address(index: u32, protocol: u16) -> SockAddr {
    let mut storage = SockAddrStorage::zeroed();
    // SAFETY: sockaddr_ll is a C struct of integers that fits into the storage; all-zero bytes are a valid value of it.
    let link: &mut libc::sockaddr_ll = unsafe { storage.view_as() };
    link.sll_family = libc::AF_PACKET as libc::c_ushort;
    link.sll_protocol = protocol.to_be();
    link.sll_ifindex = index as libc::c_int;
    let length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
    // SAFETY: the storage holds a sockaddr_ll, and this is its length.
    unsafe { SockAddr::new(storage, length) }
}

/// An end of a TCP connection: its kernel knows nothing of it.
pub struct End<'a> {
    wire: &'a Wire,
    ip: Ip,
    ports: (u16, u16),
    /// The next sequence number of its own, and of the other side.
    pub next: u32,
    pub expected: u32,
    /// What the other side takes beyond what it has.
    pub window: u16,
    /// The value of its time stamps, if it sends any.
    pub time: Option<u32>,
}

impl<'a> End<'a> {
    /// Opens a connection from an address that nobody has.
    pub fn connect(
        wire: &'a Wire,
        ends: (Ipv4Addr, Ipv4Addr),
        ports: (u16, u16),
        time: Option<u32>,
    ) -> Result<End<'a>> {
        let ip = Ip::new(ends.0, ends.1, TCP);
        let mut end = End { wire, ip, ports, next: 1_000_000, expected: 0, window: 0, time };
        end.send_as(SYN, end.next, 0, &[])?;
        end.next += 1;
        let (_, sequence, _, window) = wire.receive((ends.0, ports.0), SYN)?;
        (end.expected, end.window) = (sequence.wrapping_add(1), window);
        end.send(end.next, &[])?;
        Ok(end)
    }

    /// Sends data with this sequence number.
    pub fn send(&self, sequence: u32, data: &[u8]) -> Result<()> {
        self.send_as(ACK, sequence, self.expected, data)
    }

    pub fn send_as(&self, flags: u8, sequence: u32, acknowledged: u32, data: &[u8]) -> Result<()> {
        let mut options = Vec::new();
        if let Some(time) = self.time {
            // Two of padding, then the option: its kind, its length, the value, and an echo of nothing.
            options.extend([1, 1, 8, 10]);
            options.extend(time.to_be_bytes());
            options.extend([0; 4]);
        }
        let segment = Segment {
            ports: self.ports,
            sequence,
            acknowledged,
            flags,
            window: 20_000,
            options: &options,
            data,
        };
        self.wire.send(IPV4, &self.ip.packet(&self.ip.tcp(&segment)))
    }

    /// Sends data that follows what has been sent, and takes note of how far the other side acknowledges it.
    pub fn fill(&mut self, data: &[u8]) -> Result<()> {
        self.send(self.next, data)?;
        self.next = self.next.wrapping_add(data.len() as u32);
        loop {
            let (_, _, acknowledged, window) = self.wire.receive((self.ip.from, self.ports.0), ACK)?;
            self.window = window;
            if acknowledged == self.next {
                return Ok(());
            }
        }
    }
}
