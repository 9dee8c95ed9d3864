//! What the faults are brought about on: a sender, a router and a receiver, each in a namespace.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use overlay_trace_lab::dataplanes::Netns;
use socket2::{Domain, SockRef, Socket, Type};

use super::frames::{IPV4, Ip, Mac, UDP};
use super::wire::{End, Wire};
use crate::machine;
use crate::own::Network;

pub const SENDER: Ipv4Addr = Ipv4Addr::new(10, 95, 1, 2);
/// Lives behind the sender's device, but in no namespace.
pub const NOBODY: Ipv4Addr = Ipv4Addr::new(10, 95, 1, 77);
pub const ROUTER: Ipv4Addr = Ipv4Addr::new(10, 95, 1, 1);
pub const RECEIVER: Ipv4Addr = Ipv4Addr::new(10, 95, 2, 2);
pub const SENDER_V6: Ipv6Addr = Ipv6Addr::new(0xfd95, 1, 0, 0, 0, 0, 0, 2);
pub const ROUTER_V6: Ipv6Addr = Ipv6Addr::new(0xfd95, 1, 0, 0, 0, 0, 0, 1);
pub const SENDER_MAC: Mac = [2, 0, 0, 0x55, 1, 2];
pub const ROUTER_MAC: Mac = [2, 0, 0, 0x55, 1, 1];
/// Of the router's VXLAN device.
pub const TUNNEL_MAC: Mac = [2, 0, 0, 0x55, 9, 1];
/// An inner address that the router has a permanent forwarding entry of, by another node.
pub const ELSEWHERE_MAC: Mac = [2, 0, 0, 0x55, 9, 0x77];
pub const VNI: u32 = 9;

/// Packets of each fault.
pub const COUNT: usize = 5;
/// Between two of them.
const PACE: Duration = Duration::from_millis(3);

const LINKS: &str = "\
link add eth0 address 02:00:00:55:01:02 netns @a type veth peer name left address 02:00:00:55:01:01 netns @r
link add right address 02:00:00:55:02:01 netns @r type veth peer name eth0 address 02:00:00:55:02:02 netns @c
link add port address 02:00:00:55:03:01 netns @r type veth peer name eth1 address 02:00:00:55:03:02 netns @c
";
const ADDRESSES: &[(&str, &str)] = &[
    (
        "a",
        "addr add 10.95.1.2/24 dev eth0\naddr add fd95:1::2/64 dev eth0 nodad\nlink set lo up\nlink set eth0 up\n\
         route add default via 10.95.1.1\nneigh add 10.95.1.1 lladdr 02:00:00:55:01:01 dev eth0",
    ),
    (
        "r",
        "link add bridge type bridge\nlink set port master bridge\naddr add 10.95.1.1/24 dev left\n\
         addr add fd95:1::1/64 dev left nodad\naddr add 10.95.2.1/24 dev right\naddr add 10.95.3.1/24 dev bridge\n\
         link set lo up\nlink set left up\nlink set right up\nlink set port up\nlink set bridge up\n\
         neigh add 10.95.1.2 lladdr 02:00:00:55:01:02 dev left\nneigh add 10.95.1.77 lladdr 02:00:00:55:01:02 dev left\n\
         neigh add 10.95.2.2 lladdr 02:00:00:55:02:02 dev right\nroute add 10.95.9.0/24 via 10.95.2.2\n\
         link add vx address 02:00:00:55:09:01 type vxlan id 9 dstport 4789 local 10.95.1.1 dev left\n\
         addr add 10.95.6.1/24 dev vx\nlink set vx up\nneigh add 10.95.6.2 lladdr 02:00:00:55:09:02 dev vx\n\
         tuntap add dev tap0 mode tap\nlink set tap0 txqueuelen 2\naddr add 10.95.7.1/24 dev tap0\nlink set tap0 up\n\
         neigh add 10.95.7.2 lladdr 02:00:00:55:07:02 dev tap0",
    ),
    (
        "c",
        "addr add 10.95.2.2/24 dev eth0\naddr add 10.95.3.2/24 dev eth1\nlink set lo up\nlink set eth0 up\n\
         link set eth1 up\nroute add default via 10.95.2.1\nneigh add 10.95.2.1 lladdr 02:00:00:55:02:01 dev eth0\n\
         neigh add 10.95.3.1 lladdr 02:00:00:55:03:ff dev eth1",
    ),
];

/// The namespaces, and what sends from the first one.
pub struct Bench {
    pub network: Network,
    pub a: Netns,
    pub r: Netns,
    pub c: Netns,
    pub wire: Wire,
}

impl Bench {
    pub fn up() -> Result<Bench> {
        // Kernels that have all built in have no modules.
        let _ = machine::run("modprobe -a veth bridge vxlan tun");
        let network = Network::up("ot-reason-", &["a", "r", "c"], LINKS)?;
        for (name, lines) in ADDRESSES {
            network.ip_in(name, lines)?;
        }
        let (a, r, c) = (network.netns("a")?, network.netns("r")?, network.netns("c")?);
        r.run(|| fs::write("/proc/sys/net/ipv4/ip_forward", "1"))??;
        c.run(|| fs::write("/proc/sys/net/ipv4/ip_forward", "0"))??;
        machine::do_in(&r, "bridge fdb append 02:00:00:55:09:77 dev vx dst 10.95.1.9")?;
        let wire = Wire::open(&a, "eth0", SENDER_MAC, ROUTER_MAC)?;
        Ok(Bench { network, a, r, c, wire })
    }

    /// Sends datagrams from a socket of the sender.
    pub fn datagrams(&self, to: impl Into<Ipv4Addr>, port: u16, bytes: usize) -> Result<()> {
        self.datagrams_of(&self.a, to.into(), port, bytes)
    }

    pub fn datagrams_of(&self, netns: &Netns, to: Ipv4Addr, port: u16, bytes: usize) -> Result<()> {
        netns.run(|| -> Result<()> {
            let socket = UdpSocket::bind("0.0.0.0:0")?;
            for _ in 0..COUNT {
                // The socket may be told what became of the one before; that is no failure of sending.
                let _ = socket.send_to(&vec![7; bytes], (to, port));
                thread::sleep(PACE);
            }
            Ok(())
        })?
    }

    /// Sends packets as they are.
    pub fn packets(&self, kind: u16, packet: impl Fn(usize) -> Vec<u8>) -> Result<()> {
        several(|number| self.wire.send(kind, &packet(number)))
    }

    /// Sends UDP datagrams whose IP header is changed.
    pub fn changed(&self, to: Ipv4Addr, port: u16, bytes: usize, change: fn(&mut Ip)) -> Result<()> {
        let mut ip = Ip::new(SENDER, to, UDP);
        change(&mut ip);
        let datagram = ip.udp((4000, port), &vec![7; bytes]);
        self.packets(IPV4, |_| ip.packet(&datagram))
    }

    /// A listener of the receiver's.
    pub fn listener(&self, port: u16) -> Result<TcpListener> {
        Ok(self.c.run(|| TcpListener::bind((RECEIVER, port)))??)
    }

    /// A connection of the sender's to the receiver's listener, and the other end of it.
    pub fn connection(&self, listener: &TcpListener) -> Result<(TcpStream, TcpStream)> {
        let to = listener.local_addr()?;
        let stream = self.a.run(|| TcpStream::connect_timeout(&to, Duration::from_secs(2)))??;
        stream.set_nodelay(true)?;
        Ok((stream, listener.accept()?.0))
    }

    /// Opens connections and does not wait for them.
    pub fn knock(&self, port: u16, prepare: fn(&Socket) -> io::Result<()>) -> Result<()> {
        several(|_| knock(&self.a, SocketAddr::from((RECEIVER, port)), PACE, prepare))
    }

    /// A connection to the receiver's listener whose other end the sender's kernel does not know, and the accepted socket.
    pub fn end(&self, listener: &TcpListener, time: Option<u32>) -> Result<(End<'_>, TcpStream)> {
        let port = listener.local_addr()?.port();
        let end = End::connect(&self.wire, (NOBODY, RECEIVER), (41_000 + port % 1000, port), time)?;
        Ok((end, listener.accept()?.0))
    }

    /// Writes a setting of the machine, does something, and puts it back.
    pub fn with_setting(&self, name: &str, value: &str, work: impl FnOnce() -> Result<()>) -> Result<()> {
        let path = format!("/proc/sys/{}", name.replace('.', "/"));
        let before = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
        fs::write(&path, value).with_context(|| format!("cannot write {path}"))?;
        let done = work();
        fs::write(&path, before.trim())?;
        done
    }
}

/// Does something several times.
pub fn several(mut work: impl FnMut(usize) -> Result<()>) -> Result<()> {
    for number in 0..COUNT {
        work(number)?;
        thread::sleep(PACE);
    }
    Ok(())
}

/// Begins to open a connection, and gives it up after a while.
pub fn knock(
    netns: &Netns,
    to: SocketAddr,
    after: Duration,
    prepare: fn(&Socket) -> io::Result<()>,
) -> Result<()> {
    netns.run(|| -> Result<()> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        prepare(&socket)?;
        socket.set_nonblocking(true)?;
        // It is in progress, which counts as an error.
        let _ = socket.connect(&to.into());
        thread::sleep(after);
        Ok(())
    })?
}

/// Demands TCP-MD5 signatures with a key of the peer at an address.
pub fn sign(socket: SockRef<'_>, peer: Ipv4Addr, key: &[u8]) -> io::Result<()> {
    const TCP_MD5SIG: libc::c_int = 14;
    // `struct tcp_md5sig`: an address of 128 bytes, flags, a prefix, the key's length, a device, the key.
    let mut request = [0u8; 216];
    request[..2].copy_from_slice(&(libc::AF_INET as u16).to_ne_bytes());
    request[4..8].copy_from_slice(&peer.octets());
    request[130..132].copy_from_slice(&(key.len() as u16).to_ne_bytes());
    request[136..136 + key.len()].copy_from_slice(key);
    set_option(&socket, libc::IPPROTO_TCP, TCP_MD5SIG, &request)
}

/// Takes only packets whose TTL is at least this.
pub fn least_ttl(socket: SockRef<'_>, ttl: libc::c_int) -> io::Result<()> {
    set_option(&socket, libc::IPPROTO_IP, libc::IP_MINTTL, &ttl.to_ne_bytes())
}

fn set_option(socket: &SockRef<'_>, level: libc::c_int, name: libc::c_int, value: &[u8]) -> io::Result<()> {
    // SAFETY: the value is as long as is said and outlives the call; the descriptor is open.
    let outcome = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            value.as_ptr().cast(),
            value.len() as libc::socklen_t,
        )
    };
    if outcome == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
