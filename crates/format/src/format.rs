//! The layout of a recording file.
//!
//! ```text
//! magic (8 bytes)   version (u32)
//! then chunks:  kind (u32)   length (u32)   payload (length bytes)   checksum (u32)
//! ```
//!
//! The checksum is the lower half of the payload's XXH3 (64 bits), with the kind in the upper half of the
//! seed and the length in the lower.
//!
//! These numbers are little-endian. The payload of a [`Chunk::Records`] is raw records in the byte order
//! of the machine that recorded, which the header names. That of a [`Chunk::CompressedRecords`] is their length (u32) and
//! one zstd frame of them. Every other payload is JSON.

use twox_hash::XxHash3_64;

/// The first bytes of a recording. The line ends betray a transfer in "text mode".
pub const MAGIC: [u8; 8] = *b"\x89OTR\r\n\x1a\n";

/// The version of the format that this program writes.
pub const VERSION: u32 = 7;

/// The oldest version that it reads. Up to 3, paths do not tell on which CPU they passed; up to 4, the header does not
/// tell what a stage means for analysis (see `legacy`); up to 5, records have no witness; up to 6, they are not compressed.
pub const OLDEST_VERSION: u32 = 3;

/// Bytes before the first chunk: the magic and the version.
pub const PREAMBLE_BYTES: u64 = 12;

/// The longest payload that a chunk may have. A longer one betrays a damaged file.
pub const PAYLOAD_MAX: u32 = 256 << 20;

/// The most bytes that the records of a [`Chunk::CompressedRecords`] may have: what a reader allocates before it knows what
/// is in the frame.
pub const UNCOMPRESSED_MAX: u32 = 16 << 20;

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
    /// A list of [`NicCount`](super::NicCount): what passed the NICs. Only a recording that was finished has it.
    Nics = 9,
    /// [`KernelCounters`](super::KernelCounters). Only a recording that was finished has it.
    KernelCounters = 10,
    /// A list of [`Translation`](super::Translation): clients whose address was translated.
    Translations = 11,
    /// As [`Records`](Chunk::Records), compressed (see the module).
    CompressedRecords = 12,
}

impl Chunk {
    /// The kind of a stored number, if this program knows it.
    pub fn from_u32(number: u32) -> Option<Chunk> {
        use Chunk::*;
        [
            Header,
            Records,
            Hops,
            Checkpoint,
            Traffic,
            Names,
            Footer,
            Later,
            Nics,
            KernelCounters,
            Translations,
            CompressedRecords,
        ]
        .into_iter()
        .find(|&kind| kind as u32 == number)
    }

    /// Whether it holds records, compressed or not.
    pub fn has_records(self) -> bool {
        matches!(self, Chunk::Records | Chunk::CompressedRecords)
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
            Chunk::Nics => "counts of NICs",
            Chunk::KernelCounters => "kernel's counters",
            Chunk::Translations => "translated clients",
            Chunk::CompressedRecords => "compressed records",
        }
    }
}

/// The checksum of a chunk.
///
/// It has to be cheap where it is computed, beside the traffic that is measured: a table-driven CRC takes
/// several instructions for each byte, XXH3 one for several bytes.
pub fn checksum(kind: u32, payload: &[u8]) -> u32 {
    let seed = u64::from(kind) << 32 | payload.len() as u64;
    XxHash3_64::oneshot_with_seed(seed, payload) as u32
}
