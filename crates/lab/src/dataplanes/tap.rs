//! TUN and TAP devices: what a program reads is what the kernel sent to the device, and the other way round.

use std::fs::File;
use std::os::fd::AsRawFd;

use anyhow::{Context, Result};

use super::Netns;

/// What is read and written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// IP packets.
    Tun,
    /// Ethernet frames.
    Tap,
    /// Ethernet frames, which arrive as at a NIC: by NAPI.
    Nic,
}

/// Takes hold of a device that is there already in the namespace.
pub fn attach(netns: &Netns, device: &str, kind: Kind) -> Result<File> {
    netns
        .run(|| attach_here(device, kind))?
        .with_context(|| format!("cannot take {device} of {}", netns.name()))
}

fn attach_here(device: &str, kind: Kind) -> Result<File> {
    let file =
        File::options().read(true).write(true).open("/dev/net/tun").context("cannot open /dev/net/tun")?;
    // SAFETY: an ifreq is plain numbers, for which zero is a value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    let end = request.ifr_name.len() - 1;
    for (place, letter) in request.ifr_name[..end].iter_mut().zip(device.bytes()) {
        *place = letter as libc::c_char;
    }
    let flags = match kind {
        Kind::Tun => libc::IFF_TUN,
        Kind::Tap => libc::IFF_TAP,
        Kind::Nic => libc::IFF_TAP | libc::IFF_NAPI,
    };
    request.ifr_ifru.ifru_flags = (flags | libc::IFF_NO_PI) as libc::c_short;
    // SAFETY: the kernel reads and writes one ifreq.
    if unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, &raw mut request) } != 0 {
        return Err(std::io::Error::last_os_error()).context("the device is not there, or is in use");
    }
    Ok(file)
}
