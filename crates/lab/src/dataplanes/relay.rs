//! An overlay in user space: a daemon on each node, which sends what comes to its TUN or TAP to the other node in
//! UDP packets, as flannel's `udp` and Weave's sleeve do. Like flannel's it is one loop for both directions.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::thread::{self, JoinHandle};

use anyhow::{Context, Result, bail};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::Netns;
use super::tap::{self, Kind};
use crate::traffic::Stop;

/// A packet is shorter than this, bytes.
const LARGEST: usize = 1 << 16;
/// How often a waiting daemon looks whether it shall stop, ms.
const LOOK: u16 = 50;

/// A daemon that runs until this is dropped.
#[derive(Debug)]
pub struct Relay {
    stop: Stop,
    thread: Option<JoinHandle<()>>,
}

impl Relay {
    /// Starts the daemon that a line tells of: `KIND DEVICE OWN-ADDRESS OTHER-ADDRESS`, the kind `tun` or `tap`.
    pub fn start(netns: &Netns, line: &str) -> Result<Relay> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [kind, device, own, other] = words[..] else { bail!("`{line}` is no relay") };
        let kind = if kind == "tun" { Kind::Tun } else { Kind::Tap };
        let (own, other): (SocketAddr, SocketAddr) = (own.parse()?, other.parse()?);
        let tap = tap::attach(netns, device, kind)?;
        fcntl(&tap, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        let socket = netns.run(|| UdpSocket::bind(own))?.with_context(|| format!("cannot bind {own}"))?;
        socket.connect(other)?;
        socket.set_nonblocking(true)?;
        let stop = Stop::new();
        let relay = {
            let stop = stop.clone();
            move || relay(tap, &socket, &stop)
        };
        let thread = thread::Builder::new().name("relay".into()).spawn(relay)?;
        Ok(Relay { stop, thread: Some(thread) })
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.stop.set();
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has already said so.
            let _ = thread.join();
        }
    }
}

fn relay(mut tap: File, socket: &UdpSocket, stop: &Stop) {
    let mut packet = vec![0; LARGEST];
    while !stop.is_set() {
        let mut ready =
            [PollFd::new(tap.as_fd(), PollFlags::POLLIN), PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
        if poll(&mut ready, PollTimeout::from(LOOK)).is_err() {
            continue;
        }
        // What cannot be handed on is lost, as everywhere in a network; so is what TCP or a ping will send again.
        drain(|packet| tap.read(packet), &mut packet, |packet| drop(socket.send(packet)));
        drain(|packet| socket.recv(packet), &mut packet, |packet| drop(tap.write(packet)));
    }
}

/// Hands on everything that is there.
fn drain(
    mut take: impl FnMut(&mut [u8]) -> std::io::Result<usize>,
    packet: &mut [u8],
    mut give: impl FnMut(&[u8]),
) {
    loop {
        match take(packet) {
            Ok(bytes) => give(&packet[..bytes]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => return,
        }
    }
}
