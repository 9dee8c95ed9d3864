//! A program between two nodes: it reads the frames that one sends to its tap and writes them to the other's.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result};

use super::Netns;
use crate::traffic::{Stop, is_readable};

/// The taps' name: the nodes' NICs.
const DEVICE: &[u8] = b"eth0";
/// A frame is shorter than this, bytes.
const LARGEST: usize = 1 << 17;
/// How often a waiting thread looks whether it shall stop.
const LOOK: Duration = Duration::from_millis(50);

/// Carries frames both ways until this is dropped.
#[derive(Debug)]
pub struct Wire {
    stop: Stop,
    threads: Vec<JoinHandle<()>>,
}

impl Wire {
    /// Between the taps, which are there already.
    pub fn between(one: &Netns, other: &Netns) -> Result<Wire> {
        let (one, other) = (attach(one)?, attach(other)?);
        let stop = Stop::new();
        let mut wire = Wire { stop: stop.clone(), threads: Vec::new() };
        for (from, to) in [(one.try_clone()?, other.try_clone()?), (other, one)] {
            let stop = stop.clone();
            let carry = move || carry(&from, &to, &stop);
            wire.threads.push(thread::Builder::new().name("wire".into()).spawn(carry)?);
        }
        Ok(wire)
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.stop.set();
        for thread in self.threads.drain(..) {
            // A thread that panicked has already said so.
            let _ = thread.join();
        }
    }
}

fn carry(mut from: &File, mut to: &File, stop: &Stop) {
    let mut frame = vec![0; LARGEST];
    while !stop.is_set() {
        if !is_readable(from, LOOK) {
            continue;
        }
        if let Ok(bytes) = from.read(&mut frame) {
            // What a device that is not up refuses is lost on the wire.
            let _ = to.write(&frame[..bytes]);
        }
    }
}

/// Opens the tap of a namespace, as a device with NAPI: what is written arrives as at a NIC.
fn attach(netns: &Netns) -> Result<File> {
    netns.run(|| {
        let file = File::options()
            .read(true)
            .write(true)
            .open("/dev/net/tun")
            .context("cannot open /dev/net/tun for the nodes' taps")?;
        // SAFETY: an ifreq is plain numbers, for which zero is a value.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        for (place, letter) in request.ifr_name.iter_mut().zip(DEVICE) {
            *place = *letter as libc::c_char;
        }
        request.ifr_ifru.ifru_flags = (libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_NAPI) as libc::c_short;
        // SAFETY: the kernel reads and writes one ifreq.
        let result = unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, &raw mut request) };
        if result != 0 {
            return Err(std::io::Error::last_os_error())
                .with_context(|| format!("cannot take the tap of {}", netns.name()));
        }
        Ok(file)
    })?
}
