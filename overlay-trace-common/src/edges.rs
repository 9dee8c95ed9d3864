//! What became of the packets at the edges of the machine, to be compared with what the drivers count themselves.
//!
//! An edge is a device whose other side is not in this kernel: a NIC, or a tap.

/// Link kinds of taps: behind their devices is another kernel or a program. NICs have no kind.
pub const TAP_KINDS: [&str; 3] = ["tun", "macvtap", "ipvtap"];

/// Edges that have counts, and 1: number 0 is none.
pub const EDGES_MAX: u32 = 64;

/// The direction in which packets pass an edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Passage {
    Received = 0,
    Sent = 1,
}

/// What became of a packet at an edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Fate {
    /// It has a record, or another sample represents it.
    Recorded = 0,
    /// Its record found the ring buffer full.
    LostRecord = 1,
    NotIp = 2,
    /// The filter does not select it.
    Rejected = 3,
    /// Its path ended before its headers could be read.
    Unreadable = 4,
    /// It found the packet table full.
    TableFull = 5,
    /// Its end was missed.
    MissedEnd = 6,
    /// It was not known when its driver got it: in flight when the recording began, or a segment of a packet that was cut
    /// where the probe set does not see it.
    Untracked = 7,
    /// It has entered, and its path has not ended yet. (Of packets that are sent this is not counted.)
    InFlight = 8,
}

/// Number of [`Fate`]s.
pub const FATES: usize = 9;

/// Packets, in the two units that drivers count: what the driver hands over or takes at once, and packets on the wire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Amount {
    pub packets: u64,
    pub segments: u64,
}

/// The counts of an edge, by [`Passage`] and [`Fate`].
pub type EdgeCounts = [[Amount; FATES]; 2];
