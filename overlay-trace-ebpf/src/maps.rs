//! The maps, the global variables, and what is in them.

use core::mem::offset_of;

use aya_ebpf::{
    macros::map,
    maps::{Array, HashMap, PerCpuArray, RingBuf},
};
use overlay_trace_common::{
    abi::{BUCKET_SLOTS, BUCKETS, CPUS_MAX, Settings, TUNNEL_WORDS},
    cpu::{Cpu, Tracked},
    path::Words,
    record::{COUNTERS, Counter, HOPS_MAX, Hop, RecordHeader},
    shared::Shared,
};

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
    /// 1: the headers have been parsed.
    pub parsed: u8,
    /// 1: the packet has been at a hop that the filter selects.
    pub matched: u8,
    pub _pad_matched: u8,
    /// 1: the header filter rejects the packet. The state only says that it need not be parsed again.
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
    pub _pad_cloned: [u8; 2],
    /// Of a clone: the data buffers (`skb->head`) of its original and of itself.
    pub heads: [u64; 2],
    /// How many packets this entry has been used for.
    pub uses: u64,
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

    /// Whether the filter selects the packet, so that it is counted.
    #[inline(always)]
    pub fn is_counted(&self) -> bool {
        self.matched != 0 && self.rejected == 0
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

    #[inline(always)]
    pub fn new(transmit_stage: u32, encapsulates: bool, edge: bool) -> Role {
        let mark = |is: bool, mark: u32| if is { mark } else { 0 };
        Role(transmit_stage & 0xff | mark(encapsulates, Role::ENCAPSULATES) | mark(edge, Role::EDGE))
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

    /// The device is an edge of this machine, a NIC or a tap: what it receives was not on this machine before.
    #[inline(always)]
    pub fn is_edge(self) -> bool {
        self.0 & Role::EDGE != 0
    }
}

/// Counts the changes of devices (created, deleted, renamed, moved) in all namespaces; 0 until one was seen.
#[unsafe(no_mangle)]
pub static DEVICES_CHANGED: Shared<u64> = Shared::new(0);

/// In [`HopEntry::checked_at`]: changes of devices are not probed.
pub const NEVER: u64 = u64::MAX;

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
