//! Plain UDP sockets in a lab's namespaces, for traffic of which each datagram is of interest.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Result, bail};
use nix::sys::socket::{setsockopt, sockopt};
use overlay_trace_lab::dataplanes::Running;

/// The port of these datagrams: not that of the traffic server.
pub const PORT: u16 = 7711;
/// Bytes that wait for their reader at most.
const ROOM: usize = 8 << 20;
/// Room for the largest datagram.
const LARGEST: usize = 65536;

/// An unconnected socket in a namespace.
pub fn socket(running: &Running, namespace: &str, port: u16) -> Result<UdpSocket> {
    let bind = || UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port));
    let socket = running.netns(namespace)?.run(bind)??;
    // Enough for all that a scene sends: nothing is lost because its reader is late.
    setsockopt(&socket, sockopt::RcvBufForce, &ROOM)?;
    socket.set_read_timeout(Some(Duration::from_millis(20)))?;
    Ok(socket)
}

/// Reads what comes while the work is done, and a little longer.
pub fn reading<T>(sockets: &[&UdpSocket], work: impl FnOnce() -> Result<T>) -> Result<T> {
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let readers: Vec<_> = sockets.iter().map(|socket| scope.spawn(|| read(socket, &done))).collect();
        let outcome = work();
        super::settle();
        done.store(true, Ordering::Relaxed);
        for reader in readers {
            match reader.join() {
                Ok(read) => read?,
                Err(_) => bail!("a reader failed"),
            }
        }
        outcome
    })
}

fn read(socket: &UdpSocket, done: &AtomicBool) -> Result<()> {
    let mut buffer = vec![0; LARGEST];
    while !done.load(Ordering::Relaxed) {
        match socket.recv(&mut buffer) {
            Ok(_) => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            // The other end of an earlier datagram was closed.
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Sends a datagram of the size, `times` times, some milliseconds apart.
pub fn send(socket: &UdpSocket, bytes: usize, to: impl Into<SocketAddr>, times: u32) -> Result<()> {
    let (to, payload) = (to.into(), vec![7; bytes]);
    for _ in 0..times {
        socket.send_to(&payload, to)?;
        thread::sleep(Duration::from_millis(3));
    }
    Ok(())
}
