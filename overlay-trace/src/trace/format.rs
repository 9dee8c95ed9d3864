//! The layout of a recording file.
//!
//! ```text
//! magic (8 bytes)   version (u32)
//! then chunks:  kind (u32)   length (u32)   payload (length bytes)   crc32 of kind, length and payload (u32)
//! ```
//!
//! These numbers are little-endian. The payload of a [`Chunk::Records`] is raw records in the byte order
//! of the machine that recorded, which the header names; every other payload is JSON.

/// The first bytes of a recording. The line ends betray a transfer in "text mode".
pub const MAGIC: [u8; 8] = *b"\x89OTR\r\n\x1a\n";

/// The version of the format that this program writes; it reads this one only.
pub const VERSION: u32 = 2;

/// Bytes before the first chunk: the magic and the version.
pub const PREAMBLE_BYTES: u64 = 12;

/// The longest payload that a chunk may have. A longer one betrays a damaged file.
pub const PAYLOAD_MAX: u32 = 256 << 20;

/// Bytes of a chunk around its payload: kind, length, checksum.
pub const FRAME_BYTES: u64 = 12;

/// What a chunk holds. Readers skip the kinds that they do not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Chunk {
    /// [`Header`](super::Header); always the first chunk.
    Header = 1,
    /// Whole records, one after the other.
    Records = 2,
    /// A list of (hop number, [`HopName`](super::HopName)).
    Hops = 3,
    /// [`Checkpoint`](super::Checkpoint): the counters so far.
    Checkpoint = 4,
    /// A list of results of traffic that ran meanwhile.
    Traffic = 5,
    /// [`Names`](super::Names).
    Names = 6,
    /// [`Checkpoint`](super::Checkpoint): the final counters. A recording with it is complete.
    Footer = 7,
    /// A list of [`SeenLater`](super::SeenLater): stages that are seen from some moment on.
    Later = 8,
}

impl Chunk {
    /// The kind of a stored number, if this program knows it.
    pub fn from_u32(number: u32) -> Option<Chunk> {
        use Chunk::*;
        [Header, Records, Hops, Checkpoint, Traffic, Names, Footer, Later]
            .into_iter()
            .find(|&kind| kind as u32 == number)
    }

    /// The kind's name in messages.
    pub fn name(self) -> &'static str {
        match self {
            Chunk::Header => "header",
            Chunk::Records => "records",
            Chunk::Hops => "hops",
            Chunk::Checkpoint => "checkpoint",
            Chunk::Traffic => "traffic",
            Chunk::Names => "names",
            Chunk::Footer => "footer",
            Chunk::Later => "later stages",
        }
    }
}

/// The checksum of a chunk.
pub fn checksum(kind: u32, payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&kind.to_le_bytes());
    hasher.update(&(payload.len() as u32).to_le_bytes());
    hasher.update(payload);
    hasher.finalize()
}
