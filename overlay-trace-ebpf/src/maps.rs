//! The maps, the global variables, and what is in them.

use core::mem::offset_of;

use aya_ebpf::{
    macros::map,
    maps::{Array, HashMap, PerCpuArray, RingBuf},
};
use overlay_trace_common::{
    abi::{BUCKET_SLOTS, BUCKETS, CPUS_MAX, NETNS_MAX, Settings, TUNNEL_WORDS},
    cpu::{Cpu, Tracked},
    edges::{EDGES_MAX, EdgeCounts},
    headers::Window,
    path::Words,
    record::{COUNTERS, Counter, HOPS_MAX, Hop, RecordHeader},
    shared::Shared,
    stage_map::TUN_WAIT,
};

use crate::tc::TcState;

/// Set by the loader before the programs are loaded.
#[unsafe(no_mangle)]
// SAFETY: integers, of which zero is a value.
pub static SETTINGS: Settings = unsafe { core::mem::zeroed() };

/// Reads a field of [`SETTINGS`]; volatile, because the compiler sees only zeros.
macro_rules! setting {
    ($($field:tt)+) => {{
        // SAFETY: a pointer to a field of a variable that nobody writes while programs run.
        #[allow(unused_unsafe)]
        let value = unsafe { core::ptr::read_volatile(&raw const $crate::maps::SETTINGS.$($field)+) };
        value
    }};
}
pub(crate) use setting;

/// A record as it goes to the ring buffer: a header and the words of the path.
#[repr(C)]
pub struct Record {
    pub header: RecordHeader,
    pub path: Words,
}

/// The one authoritative copy of what is known of a packet: an entry of the packet table.
#[repr(C)]
pub struct State {
    pub tracked: Tracked,
    /// [`UNPARSED`], [`PARSED`] or [`AWAITED`].
    pub parsed: u8,
    /// 1: the packet has been at a hop that the filter selects.
    pub matched: u8,
    /// The edge through which the packet entered the machine (`Role::edge`); 0 if none is known.
    pub entry: u8,
    /// [`HANDED_OVER`]: a device has the packet, and its path is over. Otherwise why the packet is not tracked
    /// ([`REJECTED`], [`NOT_IP`], [`IN_FLIGHT`], [`UNSAMPLED`]): the state only says that it need not be parsed again. 0 if it is.
    pub rejected: u8,
    /// The role of the device that the packet is at.
    pub device_role: Role,
    /// Address of the socket that sent the packet, 0 if it came from a device.
    pub sock: u64,
    /// Address of the device that the packet is at.
    pub device: u64,
    /// Number of packets that were made of this one.
    pub children: u16,
    /// Whether the packet has come in through a device since its start ([`ARRIVED`]), and has been forwarded since
    /// then ([`FORWARDED`]); 0 if not.
    pub arrived: u8,
    pub _pad_children: u8,
    /// Number in the packet table of the packet that this one was made of.
    pub parent: u32,
    /// Address of the last clone of the packet, and the packet's `last_ns` at that moment.
    pub clone: u64,
    pub cloned_ns: u64,
    /// Position, open stage and the stage before it at that moment.
    pub cloned_position: u32,
    pub cloned_stage: u8,
    pub cloned_before: u8,
    /// Of what entered through an edge: its packets on the wire, and packets as its driver counted them.
    pub entry_segments: u16,
    pub entry_packets: u64,
    /// Of a clone: the data buffers (`skb->head`) of its original and of itself.
    pub heads: [u64; 2],
    /// How many packets this entry has been used for.
    pub uses: u64,
    /// When a device took the packet over, in ns of the records' clock; 0 if none has.
    pub handed_ns: Shared<u64>,
    /// When the last interruption before that was over.
    pub resumed_ns: Shared<u64>,
    /// Number in the packet table of the segment that was noted in [`SEGMENTS`] before this one.
    pub segment_before: u32,
    /// The length at GRO's entry; and by how many bytes the packet has grown there.
    pub gro_length: u32,
    pub gro_grown: u32,
    pub _pad_grown: u32,
    /// Where the packet lies, while its headers are parsed.
    pub pieces: Pieces,
    /// Of the probe set `tc` only.
    pub tc: TcState,
    /// A lock of the slot; see [`overlay_trace_common::slot`].
    pub transfer: Shared<u64>,
    pub record: Record,
}

impl State {
    /// Zeroes the marks `parsed`, `matched` and `rejected`, and the role, by one store. The compiler would turn four
    /// adjacent stores into a call of memset, which writes byte by byte.
    #[inline(always)]
    pub fn clear_marks(&mut self) {
        const { assert!(offset_of!(State, sock) - offset_of!(State, parsed) == 8) };
        // SAFETY: the eight bytes before `sock`, at a multiple of eight; zeros are a value of all their fields. The
        // pointer is derived from that of the whole state.
        unsafe { (self as *mut State).byte_add(offset_of!(State, parsed)).cast::<u64>().write_volatile(0) };
    }

    /// Whether the packet was given to a NIC, or to what its sender takes for one: a tap.
    #[inline(always)]
    pub fn has_left(&self) -> bool {
        let stage = self.tracked.account.stage;
        stage as u32 == setting!(transmit_default) || stage == TUN_WAIT
    }

    /// Whether the filter selects the packet, so that it is counted.
    #[inline(always)]
    pub fn is_counted(&self) -> bool {
        self.matched != 0 && !self.is_rejected()
    }

    /// Whether the packet is known, but not tracked.
    #[inline(always)]
    pub fn is_rejected(&self) -> bool {
        self.rejected > HANDED_OVER
    }

    /// Appends a span to the packet's path.
    #[inline(always)]
    pub fn push(&mut self, stage: u8, ns: u64) {
        self.tracked.account.push(&mut self.record.path, stage, ns);
    }

    /// Moves the packet to a position.
    #[inline(always)]
    pub fn move_to(&mut self, position: u32) {
        self.tracked.account.move_to(&mut self.record.path, position);
    }

    /// The packet is at a hop. The first hop that the filter selects makes it counted.
    #[inline(always)]
    pub fn reach(&mut self, hop: &HopEntry) {
        if self.matched == 0 && hop.matched.get() != 0 {
            self.matched = 1;
            count(Counter::Started, 1);
        }
    }
}

/// The parts of a packet in memory, as addresses. They lie in a map because what is written there and read again is
/// unknown to the verifier: it follows each path of the parser for each range that it knows of a number.
#[repr(C)]
pub struct Pieces {
    /// Where the packet's data begins (`skb->data`), and its `skb_shared_info`.
    pub data: u64,
    pub shared: u64,
    /// The kind of the first header, and its address.
    pub begins_with: u64,
    pub beginning: u64,
    /// Behind the linear part.
    pub end: u64,
    /// Where the packet would end if it lay in one piece.
    pub tail: u64,
    /// Behind what can be read.
    pub limit: u64,
    /// The first fragment; 0 until it has been looked for.
    pub fragment: u64,
    /// Room for any number.
    pub any: u64,
    /// A part of the headers.
    pub window: Window,
}

/// Values of [`State::parsed`]: nobody has tried to read the headers; they have been read; they could not be read, and
/// the next point that reads headers tries again.
pub const UNPARSED: u8 = 0;
pub const PARSED: u8 = 1;
pub const AWAITED: u8 = 2;

/// Values of [`State::rejected`]: a device has the packet; the header filter rejects it; it is not IP; it was in flight
/// when the recording began.
pub const HANDED_OVER: u8 = 1;
pub const REJECTED: u8 = 2;
pub const NOT_IP: u8 = 3;
pub const IN_FLIGHT: u8 = 4;
pub const UNSAMPLED: u8 = 5;

/// Values of [`State::arrived`].
pub const ARRIVED: u8 = 1;
pub const FORWARDED: u8 = 2;

/// A send call that a task has begun on a socket. Two tasks can share an entry: who finds another's keeps off.
#[repr(C)]
pub struct SendNote {
    pub sock: Shared<u64>,
    pub task: Shared<u64>,
    /// When the send call began; 0 if that was not seen.
    pub call_ns: Shared<u64>,
    /// When TCP began to transmit; 0 if it did not.
    pub transmit_ns: Shared<u64>,
    /// When the programs of the task's cgroup began to run on the call, 0 if none did, and how long they ran.
    pub program_ns: Shared<u64>,
    pub programmed_ns: Shared<u64>,
}

/// An entry of the cache of hops: a device, or a namespace for a packet that is at no device yet.
#[repr(C)]
pub struct HopEntry {
    /// Address of the `net_device` or of the `net`; 0 for a free entry, or while it is being written.
    pub owner: Shared<u64>,
    /// Lock of who writes the entry.
    pub holder: Shared<u64>,
    /// The value of [`DEVICES_CHANGED`] when the entry was last compared with its device, [`NEVER`] if that was 0.
    pub checked_at: Shared<u64>,
    /// Together with the name: distinguishes the device from a later one at the same address.
    pub identity: Shared<u64>,
    /// The device's name, as it lies in the `net_device`.
    pub name: [Shared<u64>; 2],
    /// The number of the hop.
    pub hop: Shared<u16>,
    /// 1: the filter selects this hop, or does not filter by hop.
    pub matched: Shared<u16>,
    pub role: Shared<Role>,
}

/// What a device does with packets; in one word, since it is copied at each hop.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub struct Role(u32);

impl Role {
    const ENCAPSULATES: u32 = 1 << 8;
    const EDGE: u32 = 1 << 9;
    const WAITS: u32 = 1 << 10;
    const SLOT_SHIFT: u32 = 16;

    #[inline(always)]
    pub fn new(transmit_stage: u32, encapsulates: bool, edge: bool, waits: bool) -> Role {
        let mark = |is: bool, mark: u32| if is { mark } else { 0 };
        let marks =
            mark(encapsulates, Role::ENCAPSULATES) | mark(edge, Role::EDGE) | mark(waits, Role::WAITS);
        Role(transmit_stage & 0xff | marks)
    }

    /// The stage that a transmission through the device enters.
    #[inline(always)]
    pub fn transmit_stage(self) -> u8 {
        self.0 as u8
    }

    /// The device encapsulates.
    #[inline(always)]
    pub fn encapsulates(self) -> bool {
        self.0 & Role::ENCAPSULATES != 0
    }

    /// What is transmitted through the device waits there until it is fetched.
    #[inline(always)]
    pub fn waits(self) -> bool {
        self.0 & Role::WAITS != 0
    }

    /// The device is an edge of this machine, a NIC or a tap: what it receives was not on this machine before.
    #[inline(always)]
    pub fn is_edge(self) -> bool {
        self.0 & Role::EDGE != 0
    }

    /// The same device, whose packets are counted under this number.
    #[inline(always)]
    pub fn with_slot(self, slot: u32) -> Role {
        Role(self.0 | slot << Role::SLOT_SHIFT)
    }

    /// The number under which the edge's packets are counted; 0 if they are not.
    #[inline(always)]
    pub fn slot(self) -> u8 {
        (self.0 >> Role::SLOT_SHIFT) as u8
    }
}

/// Counts the changes of devices (created, deleted, renamed, moved) in all namespaces; 0 until one was seen.
#[unsafe(no_mangle)]
pub static DEVICES_CHANGED: Shared<u64> = Shared::new(0);

/// In [`HopEntry::checked_at`]: changes of devices are not probed.
pub const NEVER: u64 = u64::MAX;

/// Number of entries of [`SEGMENTS`], a power of two.
pub const SEGMENT_ENTRIES: u32 = 1 << 14;
/// By namespace of the filter, on kernels without cookies: the random number of the namespace that had its inode number
/// first; 0 until a packet has passed it.
#[unsafe(no_mangle)]
// SAFETY: integers, of which zero is a value.
pub static FILTER_NETNS: [Shared<u32>; NETNS_MAX] = unsafe { core::mem::zeroed() };

/// Number of [`SendNote`]s, a power of two.
pub const NOTES: u32 = 4096;
/// A power of two, and more than there can be hops.
pub const HOP_ENTRIES: u32 = 2 * HOPS_MAX as u32;

/// A bucket of the packet table: the words of its slots that are searched, on one cache line.
#[repr(C)]
pub struct Bucket {
    /// Address of the `sk_buff` that the slot is taken for, 0 when it is free.
    pub tags: [Shared<u64>; BUCKET_SLOTS],
    /// A lock of the slot; see [`overlay_trace_common::slot`].
    pub holders: [Shared<u64>; BUCKET_SLOTS],
}

#[map]
pub static TAGS: Array<Bucket> = Array::with_max_entries(BUCKETS, 0);
#[map]
pub static STATES: Array<State> = Array::with_max_entries(BUCKETS * BUCKET_SLOTS as u32, 0);
/// By number of CPU. A variable, not a map: an access costs two instructions.
#[unsafe(no_mangle)]
// SAFETY: integers, of which zero is a value.
pub static CPUS: [Cpu; CPUS_MAX] = unsafe { core::mem::zeroed() };
/// By a hash of the owner's address. A variable, as [`CPUS`] is; together they are smaller than the 4 MB
/// (`KMALLOC_MAX_SIZE`) that 5.10 allows.
#[unsafe(no_mangle)]
// SAFETY: integers, of which zero is a value.
pub static HOP_CACHE: [HopEntry; HOP_ENTRIES as usize] = unsafe { core::mem::zeroed() };
/// By bits of a TCP sequence number: the number in the packet table of the segment that was seen last with it. A hint,
/// which is checked.
#[map]
pub static SEGMENTS: Array<u32> = Array::with_max_entries(SEGMENT_ENTRIES, 0);
#[map]
pub static SEND_NOTES: Array<SendNote> = Array::with_max_entries(NOTES, 0);
#[map]
pub static HOPS: Array<Hop> = Array::with_max_entries(HOPS_MAX as u32, 0);
/// One number: how many hops have been given out.
#[map]
pub static HOP_COUNT: Array<u64> = Array::with_max_entries(1, 0);
/// The numbers that have been given out.
#[map]
pub static HOP_NUMBERS: HashMap<u32, u8> = HashMap::with_max_entries(HOPS_MAX as u32, 0);
#[map]
pub static COUNTS: PerCpuArray<[u64; COUNTERS]> = PerCpuArray::with_max_entries(1, 0);
#[map]
pub static RECORDS: RingBuf = RingBuf::with_byte_size(16 << 20, 0);

/// By edge: what became of its packets.
#[map]
pub static EDGE_COUNTS: PerCpuArray<EdgeCounts> = PerCpuArray::with_max_entries(EDGES_MAX, 0);
/// By the number of an edge: its hop.
#[map]
pub static EDGE_HOPS: HashMap<u32, u32> = HashMap::with_max_entries(EDGES_MAX, 0);

/// Two bits per UDP port, written by the loader: what packets to it carry.
#[map]
pub static TUNNEL_PORTS: Array<u64> = Array::with_max_entries(TUNNEL_WORDS, 0);

/// One number, written by the loader: a [`TrackingPhase`](overlay_trace_common::abi::TrackingPhase).
#[map]
pub static TRACKING_PHASE: Array<u64> = Array::with_max_entries(1, 0);

/// The number of the current [`TrackingPhase`](overlay_trace_common::abi::TrackingPhase).
#[inline(always)]
pub fn tracking_phase() -> u64 {
    // SAFETY: a pointer to a map's number.
    TRACKING_PHASE.get_ptr(0).map_or(0, |phase| unsafe { phase.read_volatile() })
}

/// Adds to a counter of this CPU.
#[inline(always)]
pub fn count(counter: Counter, number: u64) {
    if let Some(counts) = COUNTS.get_ptr_mut(0) {
        // SAFETY: a pointer to this CPU's counters. A program that interrupts this addition can lose its own; that is
        // the price of counting without atomic operations.
        unsafe { (*counts)[counter as usize] += number }
    }
}
