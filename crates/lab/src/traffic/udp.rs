//! UDP sockets: their options, and receiving with UDP_GRO.

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4, SocketAddrV6, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::cmsg_space;
use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, setsockopt, sockopt};
use socket2::SockRef;

/// The receive buffer of sockets, bytes: large enough that a receiver that is scheduled late loses no datagram.
const RECEIVE_BUFFER: usize = 4 << 20;
/// The size of a buffer for one receive call, bytes.
pub const MAX_RECEIVE: usize = 1 << 16;

/// A UDP socket connected to the address, with this receive timeout.
pub fn connected(to: SocketAddr, timeout: Duration) -> Result<UdpSocket> {
    let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(any).context("cannot open a UDP socket")?;
    socket.connect(to).with_context(|| format!("{to} is unreachable from this network namespace"))?;
    socket.set_read_timeout(Some(timeout))?;
    enlarge_receive_buffer(&socket);
    Ok(socket)
}

/// A UDP socket that sends to a multicast group or broadcast address on the device of this local address.
pub fn group_sender(group: Ipv4Addr, port: u16, local: IpAddr) -> Result<UdpSocket> {
    let IpAddr::V4(local) = local else { anyhow::bail!("a group needs an IPv4 server address") };
    let socket = UdpSocket::bind((local, 0)).context("cannot open a UDP socket")?;
    socket.set_broadcast(true)?;
    SockRef::from(&socket).set_multicast_if_v4(&local)?;
    socket
        .connect((group, port))
        .with_context(|| format!("{group} is unreachable from this network namespace"))?;
    Ok(socket)
}

/// A UDP socket that receives from a multicast group or broadcast address, on the device of this local address.
pub fn group_receiver(group: Ipv4Addr, local: SocketAddr, timeout: Duration) -> Result<UdpSocket> {
    let SocketAddr::V4(local) = local else { anyhow::bail!("a group needs an IPv4 server address") };
    let socket = UdpSocket::bind((group, local.port()))
        .with_context(|| format!("cannot listen on {group}:{}", local.port()))?;
    if group.is_multicast() {
        socket.join_multicast_v4(&group, local.ip())?;
    }
    socket.set_read_timeout(Some(timeout))?;
    enlarge_receive_buffer(&socket);
    Ok(socket)
}

/// Enlarges a socket's receive buffer as far as the process may.
pub fn enlarge_receive_buffer(socket: &UdpSocket) {
    if setsockopt(socket, sockopt::RcvBufForce, &RECEIVE_BUFFER).is_err() {
        // Without CAP_NET_ADMIN the limit is net.core.rmem_max; lost datagrams are counted.
        let _ = SockRef::from(socket).set_recv_buffer_size(RECEIVE_BUFFER);
    }
}

/// Makes the kernel segment each send into datagrams of this many bytes (UDP_SEGMENT).
pub fn set_gso_size(socket: &UdpSocket, bytes: i32) -> Result<()> {
    setsockopt(socket, sockopt::UdpGsoSegment, &bytes).context("this kernel has no UDP_SEGMENT")
}

/// Switches UDP_GRO: one receive call may return several datagrams.
pub fn set_gro(socket: &UdpSocket, enabled: bool) -> Result<()> {
    setsockopt(socket, sockopt::UdpGroSegment, &enabled).context("this kernel has no UDP_GRO")
}

/// The result of one receive call: datagrams of `segment` bytes each, the last one possibly shorter.
pub struct Received {
    pub bytes: usize,
    pub segment: usize,
    pub from: SocketAddr,
}

/// Receives the next datagrams.
pub fn receive(socket: &UdpSocket, buffer: &mut [u8]) -> io::Result<Received> {
    let mut vector = [IoSliceMut::new(buffer)];
    let mut control = cmsg_space!(i32);
    let message =
        recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut vector, Some(&mut control), MsgFlags::empty())?;
    let from = message.address.and_then(address).ok_or(io::ErrorKind::InvalidData)?;
    let segment = message.cmsgs()?.find_map(|control| match control {
        ControlMessageOwned::UdpGroSegments(bytes) => usize::try_from(bytes).ok(),
        _ => None,
    });
    let bytes = message.bytes;
    Ok(Received { bytes, segment: segment.filter(|bytes| *bytes > 0).unwrap_or(bytes.max(1)), from })
}

fn address(storage: SockaddrStorage) -> Option<SocketAddr> {
    if let Some(v4) = storage.as_sockaddr_in() {
        return Some(SocketAddrV4::from(*v4).into());
    }
    storage.as_sockaddr_in6().map(|v6| SocketAddrV6::from(*v6).into())
}

/// Waits until there is something to read or accept; false after the timeout.
pub fn is_readable(socket: impl std::os::fd::AsFd, timeout: Duration) -> bool {
    let mut fds = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
    // After an interruption the caller tries again.
    poll(&mut fds, timeout.as_millis() as u16).is_ok_and(|ready| ready > 0)
}
