//! Options of a run that change how data passes between the program and the kernel.

use std::net::Ipv4Addr;
use std::time::Duration;

/// The maximum number of segments per GSO send (`UDP_MAX_SEGMENTS` of the oldest supported kernels).
pub const MAX_GSO_BATCH: u32 = 64;
/// The maximum of [`Options::reader_delay`].
pub const MAX_READER_DELAY: Duration = Duration::from_secs(1);

/// Options of a run that are off by default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Packets of a stream per send call, which the kernel segments (UDP_SEGMENT); 0 or 1: no segmentation.
    pub gso: u32,
    /// The server receives several packets of a stream per call (UDP_GRO).
    pub gro: bool,
    /// The stream's destination is this multicast group or broadcast address, on which the server listens too.
    pub group: Option<Ipv4Addr>,
    /// The server sleeps this long before each read from its socket: a slow reader.
    pub reader_delay: Duration,
}

impl Options {
    /// The number of packets per send call.
    pub fn gso_batch(&self) -> u32 {
        self.gso.max(1)
    }
}
