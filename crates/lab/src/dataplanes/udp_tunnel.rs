//! A user-space overlay: a daemon on each node tunnels the packets of its TUN or TAP device over UDP to the other
//! node, as flannel's `udp` backend and Weave's sleeve do. Like flannel's, it is one loop for both directions.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::thread::{self, JoinHandle};

use anyhow::{Context, Result, bail};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::netns::Netns;
use super::tap::{self, Kind};
use crate::traffic::Stop;

/// The size of the packet buffer, bytes: larger than any packet.
const PACKET_BUFFER: usize = 1 << 16;
/// The interval at which a waiting daemon checks its stop flag, ms.
const POLL_INTERVAL_MS: u16 = 50;

/// A daemon that runs until this value is dropped.
#[derive(Debug)]
pub struct UdpTunnel {
    stop: Stop,
    thread: Option<JoinHandle<()>>,
}

impl UdpTunnel {
    /// Starts the daemon of a line `KIND DEVICE LOCAL-ADDRESS REMOTE-ADDRESS`; the kind is `tun` or `tap`.
    pub fn start(netns: &Netns, line: &str) -> Result<UdpTunnel> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [kind, device, local, remote] = words[..] else {
            bail!("`{line}` does not describe a UDP tunnel")
        };
        let kind = match kind {
            "tun" => Kind::Tun,
            "tap" => Kind::Tap,
            _ => bail!("`{kind}` is not a device kind: tun or tap"),
        };
        let (local, remote): (SocketAddr, SocketAddr) = (local.parse()?, remote.parse()?);
        let tap = tap::attach(netns, device, kind)?;
        fcntl(&tap, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        let socket = netns.run(|| UdpSocket::bind(local))?.with_context(|| format!("cannot bind {local}"))?;
        socket.connect(remote)?;
        socket.set_nonblocking(true)?;
        let stop = Stop::new();
        let forward = {
            let stop = stop.clone();
            move || forward(tap, &socket, &stop)
        };
        let thread = thread::Builder::new().name("udp-tunnel".into()).spawn(forward)?;
        Ok(UdpTunnel { stop, thread: Some(thread) })
    }
}

impl Drop for UdpTunnel {
    fn drop(&mut self) {
        self.stop.set();
        if let Some(thread) = self.thread.take() {
            // A panic has already been reported on standard error.
            let _ = thread.join();
        }
    }
}

fn forward(mut tap: File, socket: &UdpSocket, stop: &Stop) {
    let mut packet = vec![0; PACKET_BUFFER];
    while !stop.is_set() {
        let mut ready =
            [PollFd::new(tap.as_fd(), PollFlags::POLLIN), PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
        if poll(&mut ready, PollTimeout::from(POLL_INTERVAL_MS)).is_err() {
            continue;
        }
        // A packet that cannot be forwarded is lost, as on a real link.
        drain(|packet| tap.read(packet), &mut packet, |packet| drop(socket.send(packet)));
        drain(|packet| socket.recv(packet), &mut packet, |packet| drop(tap.write(packet)));
    }
}

/// Forwards all packets that are ready.
fn drain(
    mut receive: impl FnMut(&mut [u8]) -> std::io::Result<usize>,
    packet: &mut [u8],
    mut send: impl FnMut(&[u8]),
) {
    loop {
        match receive(packet) {
            Ok(bytes) => send(&packet[..bytes]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => return,
        }
    }
}
