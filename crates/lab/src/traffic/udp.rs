//! UDP sockets: their options, and datagrams that come several at once.

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4, SocketAddrV6, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::cmsg_space;
use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, setsockopt, sockopt};
use socket2::SockRef;

/// Room for datagrams that wait in a socket, bytes: a receiver that is scheduled late shall not lose any.
const SOCKET_BUFFER: usize = 4 << 20;
/// What a UDP socket hands over at once, bytes, is less than this.
pub const LARGEST: usize = 1 << 16;

/// A UDP socket connected to the address; a receive waits at most `patience`.
pub fn connected(to: SocketAddr, patience: Duration) -> Result<UdpSocket> {
    let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(any).context("cannot open a UDP socket")?;
    socket.connect(to).with_context(|| format!("there is no way to {to} from here"))?;
    socket.set_read_timeout(Some(patience))?;
    widen(&socket);
    Ok(socket)
}

/// A UDP socket that sends to a multicast group or broadcast address by the device of this local address.
pub fn to_group(group: Ipv4Addr, port: u16, local: IpAddr) -> Result<UdpSocket> {
    let IpAddr::V4(local) = local else { anyhow::bail!("a group is of IPv4, and the server is not") };
    let socket = UdpSocket::bind((local, 0)).context("cannot open a UDP socket")?;
    socket.set_broadcast(true)?;
    SockRef::from(&socket).set_multicast_if_v4(&local)?;
    socket.connect((group, port)).with_context(|| format!("there is no way to {group} from here"))?;
    Ok(socket)
}

/// A UDP socket for what others send to a multicast group or broadcast address, at the device of this local
/// address.
pub fn of_group(group: Ipv4Addr, local: SocketAddr, patience: Duration) -> Result<UdpSocket> {
    let SocketAddr::V4(local) = local else { anyhow::bail!("a group is of IPv4, and the server is not") };
    let socket = UdpSocket::bind((group, local.port()))
        .with_context(|| format!("cannot listen on {group}:{}", local.port()))?;
    if group.is_multicast() {
        socket.join_multicast_v4(&group, local.ip())?;
    }
    socket.set_read_timeout(Some(patience))?;
    widen(&socket);
    Ok(socket)
}

/// Enlarges a socket's receive buffer as far as the process may.
pub fn widen(socket: &UdpSocket) {
    if setsockopt(socket, sockopt::RcvBufForce, &SOCKET_BUFFER).is_err() {
        // Without CAP_NET_ADMIN the kernel grants as much as its sysctl allows; what is lost is counted.
        let _ = SockRef::from(socket).set_recv_buffer_size(SOCKET_BUFFER);
    }
}

/// What is sent is cut into datagrams of so many bytes.
pub fn cut_into(socket: &UdpSocket, bytes: i32) -> Result<()> {
    setsockopt(socket, sockopt::UdpGsoSegment, &bytes).context("this kernel has no UDP_SEGMENT")
}

/// Whether datagrams may come several at once.
pub fn allow_many(socket: &UdpSocket, many: bool) -> Result<()> {
    setsockopt(socket, sockopt::UdpGroSegment, &many).context("this kernel has no UDP_GRO")
}

/// What was taken from a socket at once: datagrams of `segment` bytes each, the last perhaps shorter.
pub struct Received {
    pub bytes: usize,
    pub segment: usize,
    pub from: SocketAddr,
}

/// Takes what comes next.
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

/// Waits until there is something to take, or to accept, at most so long.
pub fn is_readable(socket: impl std::os::fd::AsFd, patience: Duration) -> bool {
    let mut fds = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
    // Interrupted or not, the caller looks again.
    poll(&mut fds, patience.as_millis() as u16).is_ok_and(|ready| ready > 0)
}
