//! How a run's bytes are handed to the kernel and taken from it, where that is not the ordinary way.

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Result, ensure};

use super::wire::MAX_DATAGRAM;
use super::{Kind, Spec};

/// The most packets that the kernel takes at once (`UDP_MAX_SEGMENTS` of the oldest kernels).
const MAX_TRAIN: u32 = 64;
/// The longest that a server sleeps before it reads.
const MAX_READER_DELAY: Duration = Duration::from_secs(1);

/// The ways out of the ordinary.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// So many packets of a stream are handed to the kernel at once, as one that it cuts (UDP_SEGMENT); 0 or
    /// 1: each by itself.
    pub gso: u32,
    /// The server lets the kernel hand it several packets of a stream at once (UDP_GRO).
    pub gro: bool,
    /// The stream's packets go to this multicast group or broadcast address, where the server listens too.
    pub group: Option<Ipv4Addr>,
    /// The server sleeps so long before each time that it takes something from its socket.
    pub reader_delay: Duration,
}

impl Options {
    /// How many packets are handed to the kernel at once.
    pub fn train(&self) -> u32 {
        self.gso.max(1)
    }

    /// Fails if the run cannot be like this.
    pub fn check(&self, spec: &Spec) -> Result<()> {
        let of_streams = self.gso > 1 || self.gro || self.group.is_some();
        ensure!(
            !of_streams || spec.kind == Kind::Stream,
            "gso, gro and group are for udp-stream, not for {}",
            spec.name()
        );
        ensure!(
            self.train() <= MAX_TRAIN
                && u64::from(self.train()) * u64::from(spec.size.request) <= MAX_DATAGRAM as u64,
            "the kernel takes at most {MAX_TRAIN} packets and {MAX_DATAGRAM} bytes at once, not {} of {} bytes",
            self.train(),
            spec.size.request
        );
        ensure!(
            self.reader_delay <= MAX_READER_DELAY,
            "the server sleeps at most {MAX_READER_DELAY:?} before it reads, not {:?}",
            self.reader_delay
        );
        ensure!(
            self.reader_delay.is_zero() || spec.kind != Kind::Ping,
            "pings are answered by the kernel, which does not sleep"
        );
        ensure!(
            self.group.is_none_or(|group| group.is_multicast() || group.octets()[3] == 255),
            "a group is an IPv4 multicast or broadcast address"
        );
        Ok(())
    }
}
