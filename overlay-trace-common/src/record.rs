//! The layout of records, hops and counters, which the kernel side hands to the user side. Integers are in the
//! machine's byte order; a recording says which that is.

use crate::flags::RecordFlags;

/// How a packet's path ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Outcome {
    /// Freed without being dropped: delivered if the last span is in the layer socket, transport or ip (`Stage::layer`),
    /// otherwise sent out of the machine.
    Freed = 0,
    /// Handed to its reader, or consumed by the transport protocol.
    Delivered = 1,
    /// Dropped: `skb:kfree_skb` gave the reason and the location.
    Dropped = 2,
    /// Became part of another packet (GRO, or a TCP receive queue's coalescing).
    Merged = 3,
    /// Segmented (GSO) or fragmented: the parts have records of their own; `segments` is their number, or 0 if that is
    /// unknown.
    Split = 4,
}

impl Outcome {
    /// The outcome of a stored number, if it is one.
    pub const fn from_u8(value: u8) -> Option<Outcome> {
        Some(match value {
            0 => Outcome::Freed,
            1 => Outcome::Delivered,
            2 => Outcome::Dropped,
            3 => Outcome::Merged,
            4 => Outcome::Split,
            _ => return None,
        })
    }
}

/// The innermost packet's addresses, in network byte order. IPv4 addresses are in the first 4 bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct Flow {
    pub source: [u8; 16],
    pub destination: [u8; 16],
    /// Ports in host byte order; 0 for protocols without ports. For ICMP echo both are its identifier.
    pub source_port: u16,
    pub destination_port: u16,
    /// The IP protocol number.
    pub protocol: u8,
    /// 4 or 6; 0 when the headers could not be read.
    pub version: u8,
    /// IPv4 identification, 0 for IPv6.
    pub ip_id: u16,
    /// TCP sequence number, 0 for other protocols.
    pub sequence: u32,
}

/// The header of a record. The `path_len` words of the path follow, as [`path`](crate::path) describes them, and one
/// word of padding if their number is odd.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct RecordHeader {
    /// Unique within a recording.
    pub id: u64,
    /// The `id` of the packet that this one was made of, or 0.
    pub parent: u64,
    /// The path's start, in ns of CLOCK_MONOTONIC (`bpf_ktime_get_ns`).
    pub start_ns: u64,
    /// The path's end. The spans add up to `end_ns - start_ns` exactly.
    pub end_ns: u64,
    /// Address of the kernel code that dropped the packet; 0 if it was not dropped.
    pub drop_location: u64,
    pub flow: Flow,
    /// Length of the innermost IP packet in bytes, its IP header included.
    pub bytes: u32,
    /// `enum skb_drop_reason` of the running kernel; 0 if not dropped or the kernel has no reasons.
    pub drop_reason: u32,
    /// Number of packets on the wire (`gso_segs`), at least 1.
    pub segments: u16,
    /// Number of path words that follow.
    pub path_len: u16,
    /// [`Outcome`].
    pub outcome: u8,
    /// What is known of the packet.
    pub flags: RecordFlags,
    /// The CPU on which the path ended.
    pub cpu: u16,
    /// Sampling: the number of packets that this sample represents; 0 means 1.
    pub weight: u32,
    /// Eight bytes that tell packets of one flow apart and that nobody rewrites, also not on another machine: of TCP the
    /// acknowledgement number in the upper half and the second word of the options (most often the timestamp) in the
    /// lower, of UDP the first bytes of the payload, of ICMP those behind the checksum, as numbers in network byte order.
    /// 0 where they could not be read, and in recordings of versions before 6.
    pub witness: u64,
}

impl RecordHeader {
    /// The number of packets that the record represents: itself, and those that were not sampled.
    #[inline(always)]
    pub const fn times(&self) -> u64 {
        if self.weight == 0 { 1 } else { self.weight as u64 }
    }
}

/// Bytes of a [`RecordHeader`].
pub const HEADER_BYTES: usize = core::mem::size_of::<RecordHeader>();

/// Bytes of the header of a record of before version 6: all but the witness.
pub const HEADER_BYTES_BEFORE_6: usize = core::mem::offset_of!(RecordHeader, witness);

/// A network namespace and a device in it, as first seen. A hop outlives its device; a device that is renamed becomes
/// another hop.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Hop {
    /// Inode number of the network namespace (`/proc/PID/ns/net`).
    pub netns: u32,
    /// 0 for a packet that is in the namespace but at no device yet.
    pub ifindex: u32,
    /// NUL-padded device name.
    pub device: [u8; 16],
    /// NUL-padded link kind (`veth`, `bridge`, `vxlan`...), empty for a NIC.
    pub kind: [u8; 16],
    /// The low half of the namespace's cookie, or on old kernels a random number: inode numbers are reused.
    pub netns_mix: u32,
    pub _pad: u32,
    /// When it was first seen, in ns of CLOCK_MONOTONIC; 0 while the entry is being written.
    pub since_ns: u64,
}

/// Size of the hop table: enough for some 8 000 pods. Packets at further hops are recorded at hop 0, and those hops are
/// counted. A [`Span`](crate::path::Span) has room for twice as many, and so for all (namespace, device) of a report.
pub const HOPS_MAX: usize = 1 << 15;

/// What the kernel side counts, per CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Counter {
    /// Packets that began to be tracked.
    Started = 0,
    /// Packets that a record was made of, including lost records.
    Finished = 1,
    /// Records that found the ring buffer full.
    LostRecords = 2,
    /// Packets that found the packet table full.
    PacketTableFull = 3,
    /// Exits that did not match the stage that was open.
    UnmatchedExits = 4,
    /// Packets that were picked up mid-path.
    UnknownStart = 5,
    /// Packets whose end was missed: their table slot was reused.
    MissedEnd = 6,
    /// Packets at a recorded hop that the header filter rejects. In recordings of before 0.2 also those that are not IP.
    Filtered = 7,
    /// Hops that found the hop table full, beyond [`HOPS_MAX`].
    HopTableFull = 8,
    /// Spans of all finished paths: probe hits on tracked packets, and interruptions.
    Hits = 9,
    /// Bytes of records.
    RecordBytes = 10,
    /// Devices that were created, deleted, renamed or moved, in any namespace.
    DeviceChanges = 11,
    /// Tail sampling: finished packets that were not sampled; another record represents them.
    NotSampled = 12,
    /// Packets at a recorded hop that are not IP.
    NotIp = 13,
    /// Packets whose path ended before their headers could be read.
    Unreadable = 14,
    /// Sampling by packet: packets at a recorded hop that are not followed; another one's record stands for them.
    Unsampled = 15,
}

/// Number of [`Counter`]s.
pub const COUNTERS: usize = 16;
