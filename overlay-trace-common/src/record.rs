//! The layout of what the kernel side hands to the user side. All integers are in the machine's byte order;
//! a recording says which that is.

/// How a packet's way ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Outcome {
    /// Freed without being dropped: delivered when it was last in the socket, transport or ip layer,
    /// otherwise sent out of the machine's sight. See `Stage::layer` of the last segment.
    Freed = 0,
    /// Handed to its reader, or consumed by the transport protocol.
    Delivered = 1,
    /// Dropped: `skb:kfree_skb` gave the reason and the location.
    Dropped = 2,
    /// Became part of another packet (GRO, or a TCP receive queue's coalescing).
    Merged = 3,
    /// Was cut into segments or fragments, which have records of their own; `segments` says how many, or
    /// is 0 where that is not known.
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

/// The beginning of the way was not seen: the packet was already under way, or its sender is not one
/// that the stage map knows.
pub const FLAG_UNKNOWN_START: u8 = 1;
/// The way had more than [`WAY_MAX`](crate::way::WAY_MAX) words.
pub const FLAG_WAY_FULL: u8 = 2;
/// The packet is a segment or a fragment of the packet `parent`.
pub const FLAG_CHILD: u8 = 4;
/// The packet entered through a device whose other side is not on this machine.
pub const FLAG_FROM_DEVICE: u8 = 8;
/// Other packets were made of this one: segments, fragments or copies. They name it as their `parent`.
pub const FLAG_PARENT: u8 = 16;
/// A TCP segment without data; one that opens or closes a connection may be one.
pub const FLAG_NO_DATA: u8 = 32;
/// A TCP segment that asks for a connection, or answers that.
pub const FLAG_SYN: u8 = 64;
/// A TCP segment whose sender can take nothing more for now: its window is zero.
pub const FLAG_ZERO_WINDOW: u8 = 128;
/// What the headers of a TCP segment say.
pub const FLAGS_OF_TCP: u8 = FLAG_NO_DATA | FLAG_SYN | FLAG_ZERO_WINDOW;

/// The innermost packet's addresses, as the wire has them. IPv4 addresses are in the first 4 bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct Flow {
    pub source: [u8; 16],
    pub destination: [u8; 16],
    /// In host byte order; 0 for protocols without ports. For ICMP the identifier of an echo in both.
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

/// What stands before the way in a record: `way_len` words follow, as [`way`](crate::way) describes them,
/// and one more that means nothing if their number is odd.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct RecordHeader {
    /// Unique within a recording.
    pub id: u64,
    /// The `id` of the packet that this one is a part of, or 0.
    pub parent: u64,
    /// The way's beginning, in ns of CLOCK_MONOTONIC (`bpf_ktime_get_ns`).
    pub start_ns: u64,
    /// The way's end. The segments' times add up to `end_ns - start_ns` exactly.
    pub end_ns: u64,
    /// Where the packet was dropped, as an address in the kernel; 0 if it was not.
    pub drop_location: u64,
    pub flow: Flow,
    /// Length of the innermost IP packet in bytes, its IP header included.
    pub bytes: u32,
    /// `enum skb_drop_reason` of the running kernel; 0 if not dropped or the kernel has no reasons.
    pub drop_reason: u32,
    /// How many packets on the wire this one stands for (`gso_segs`), at least 1.
    pub segments: u16,
    /// How many words of way follow.
    pub way_len: u16,
    /// [`Outcome`].
    pub outcome: u8,
    /// `FLAG_*`.
    pub flags: u8,
    /// The CPU on which the way ended.
    pub cpu: u16,
    /// How many packets the record stands for, where not every one has its record sent; 0 is 1.
    pub stands_for: u32,
}

impl RecordHeader {
    /// How many packets the record stands for: itself, and those whose records were not sent.
    #[inline(always)]
    pub const fn times(&self) -> u64 {
        if self.stands_for == 0 { 1 } else { self.stands_for as u64 }
    }
}

/// Bytes of a [`RecordHeader`].
pub const HEADER_BYTES: usize = core::mem::size_of::<RecordHeader>();

/// A network namespace and a device in it, as the kernel side saw them first. Names outlive what they
/// name; a device that gets another name is another hop from then on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Hop {
    /// Inode number of the network namespace (`/proc/PID/ns/net`).
    pub netns: u32,
    /// 0 for "in the namespace, at no device yet".
    pub ifindex: u32,
    /// NUL-padded device name.
    pub device: [u8; 16],
    /// NUL-padded link kind (`veth`, `bridge`, `vxlan`...), empty for a NIC.
    pub kind: [u8; 16],
    /// Tells the namespace from a later one that gets its inode number: the low half of its cookie, or on
    /// old kernels a random number.
    pub netns_mix: u32,
    pub _pad: u32,
    /// When it was first seen, in ns of CLOCK_MONOTONIC; 0 as long as the rest is not complete.
    pub since_ns: u64,
}

/// The most hops of one recording: some 8 000 pods. Packets at later ones are recorded at hop 0, and those
/// hops counted. A [`Segment`](crate::way::Segment) has room for twice as many, and so for all (namespace, device) of a report.
pub const HOPS_MAX: usize = 1 << 15;

/// What the kernel side counts, per CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Counter {
    /// Packets whose way began to be followed.
    Started = 0,
    /// Packets of which a record was made, lost ones included.
    Finished = 1,
    /// Records that found the ring buffer full.
    LostRecords = 2,
    /// Packets that found no free place in the state table.
    StateFull = 3,
    /// Exits that did not match the stage that was open.
    UnmatchedExits = 4,
    /// Packets that were taken up in the middle of their way.
    UnknownStart = 5,
    /// Packets whose end was not seen: their state was reused or aged.
    LostEnd = 6,
    /// Packets at a place that is recorded whose headers the filter does not let pass, or that are not IP.
    Filtered = 7,
    /// Hops beyond [`HOPS_MAX`].
    HopsFull = 8,
    /// Segments of all finished ways: how often probes found a packet that they follow, and how often it
    /// was interrupted.
    Hits = 9,
    /// Bytes of records.
    RecordBytes = 10,
    /// Devices that came, went, or got another name or namespace, anywhere.
    DeviceChanges = 11,
    /// Finished packets without a record of their own, because another one's stands for them.
    LeftOut = 12,
}

/// How many [`Counter`]s there are.
pub const COUNTERS: usize = 13;
