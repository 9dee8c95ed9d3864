//! TUN and TAP devices: a program reads what the kernel transmits on the device, and the kernel receives what
//! the program writes.

use std::fs::File;
use std::os::fd::AsRawFd;

use anyhow::{Context, Result};

use super::netns::Netns;

/// What a program reads and writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// IP packets.
    Tun,
    /// Ethernet frames.
    Tap,
    /// Ethernet frames, received through NAPI as from a NIC (IFF_NAPI).
    TapNapi,
    /// The same, as from a NIC that gives the kernel pages without an `sk_buff` (IFF_NAPI_FRAGS): what the first part of
    /// a vector write has lies in the linear part, the others in a fragment each.
    TapNapiFrags,
}

/// Attaches to an existing device of the namespace.
///
/// # Errors
///
/// There is no such device, or another program has it.
pub fn attach(netns: &Netns, device: &str, kind: Kind) -> Result<File> {
    netns
        .run(|| attach_here(device, kind))?
        .with_context(|| format!("cannot attach to {device} of {}", netns.name()))
}

fn attach_here(device: &str, kind: Kind) -> Result<File> {
    let file =
        File::options().read(true).write(true).open("/dev/net/tun").context("cannot open /dev/net/tun")?;
    // SAFETY: ifreq is a C struct of integers, arrays and unions of them and pointers; all-zero bytes are a valid
    // value of each.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    let end = request.ifr_name.len() - 1;
    for (byte, letter) in request.ifr_name[..end].iter_mut().zip(device.bytes()) {
        *byte = letter as libc::c_char;
    }
    let flags = match kind {
        Kind::Tun => libc::IFF_TUN,
        Kind::Tap => libc::IFF_TAP,
        Kind::TapNapi => libc::IFF_TAP | libc::IFF_NAPI,
        Kind::TapNapiFrags => libc::IFF_TAP | libc::IFF_NAPI | libc::IFF_NAPI_FRAGS,
    };
    request.ifr_ifru.ifru_flags = (flags | libc::IFF_NO_PI) as libc::c_short;
    // SAFETY: TUNSETIFF reads and writes one ifreq at the given address. `request` is one, lives across the call
    // and is not aliased; the descriptor is open.
    if unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, &raw mut request) } != 0 {
        return Err(std::io::Error::last_os_error()).context("the device does not exist or is in use");
    }
    Ok(file)
}
