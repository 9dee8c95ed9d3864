//! The maps, and what is in them.

use core::mem::offset_of;

use aya_ebpf::{
    macros::map,
    maps::{Array, HashMap, PerCpuArray, RingBuf},
};
use overlay_trace_common::{
    cpu::{Cpu, Followed},
    kernel::{BUCKETS, CPUS_MAX, Settings, TUNNEL_WORDS, WAYS},
    record::{COUNTERS, Counter, HOPS_MAX, Hop, RecordHeader},
    way::Words,
};

/// Set by the loader before the programs are loaded.
#[unsafe(no_mangle)]
pub static SETTINGS: Settings = unsafe { core::mem::zeroed() };

/// Reads a field of [`SETTINGS`]; volatile, because the compiler sees only zeros.
macro_rules! setting {
    ($($field:tt)+) => {
        {
            #[allow(unused_unsafe)]
            let value = unsafe { core::ptr::read_volatile(&raw const $crate::maps::SETTINGS.$($field)+) };
            value
        }
    };
}
pub(crate) use setting;

/// A record as it goes to the ring buffer: a header and the words of the way.
#[repr(C)]
pub struct Record {
    pub header: RecordHeader,
    pub way: Words,
}

/// The one authoritative copy of what is known of a packet, found by the address of its `sk_buff`.
#[repr(C)]
pub struct State {
    pub followed: Followed,
    pub identified: u8,
    /// The packet has been where the filter asks for.
    pub matched: u8,
    pub _pad_matched: u8,
    /// The filter does not let it pass: its state only says that it need not be looked at again.
    pub rejected: u8,
    /// What the device is that the packet is at.
    pub at: Role,
    /// Address of the socket that sent the packet, 0 if it came from a device.
    pub sock: u64,
    /// Address of the device that the packet is at.
    pub device: u64,
    /// How many packets were made of it.
    pub children: u16,
    /// Whether the packet has come in through a device since its beginning ([`ARRIVED`]), and is being forwarded
    /// since then ([`FORWARDED`]); 0 if not.
    pub arrived: u8,
    pub _pad_children: u8,
    /// Number of the state of the packet that it was made of.
    pub parent: u32,
    /// Address of the packet's last copy, and `last_ns` when it was made.
    pub copy: u64,
    pub copied_ns: u64,
    /// The place, the open stage and that of its exit when it was made.
    pub copied_place: u32,
    pub copied_stage: u8,
    pub copied_before: u8,
    pub _pad_copied: [u8; 2],
    /// Of a copy: where its data may be, those of the packet that it was made of and its own.
    pub heads: [u64; 2],
    /// How many packets have had this place in the table.
    pub births: u64,
    pub record: Record,
}

impl State {
    /// Zeroes the marks of one byte, from `identified` on, in one go; side by side, the compiler makes of it a
    /// call that writes byte by byte.
    #[inline(always)]
    pub fn clear_marks(&mut self) {
        const { assert!(offset_of!(State, sock) - offset_of!(State, identified) == 8) };
        // SAFETY: they are the eight bytes before `sock`, and begin at a multiple of eight.
        unsafe { (&raw mut self.identified as *mut u64).write_volatile(0) };
    }
}

/// Values of [`State::arrived`].
pub const ARRIVED: u8 = 1;
pub const FORWARDED: u8 = 2;

/// What a task has begun to send from a socket.
#[repr(C)]
pub struct SendNote {
    pub sock: u64,
    pub task: u64,
    /// When the send call began; 0 if it did not.
    pub call_ns: u64,
    /// When TCP began to transmit; 0 if it did not.
    pub transmit_ns: u64,
    /// When programs of its cgroup began to look at the call, 0 if none did, and how long they took.
    pub program_ns: u64,
    pub programmed_ns: u64,
}

/// A device, or a namespace when the packet is at no device yet.
#[repr(C)]
pub struct HopEntry {
    /// Address of the `net_device`, or of the `net`; 0 for a free entry, or while it is being written.
    pub owner: u64,
    /// Taken by who writes it.
    pub holder: u64,
    /// What [`DEVICES_CHANGED`] was when it was last compared with its device, [`NEVER`] if that was 0.
    pub looked_at: u64,
    /// With the name what tells it from another one at the same address, later.
    pub identity: u64,
    /// The device's name, as it lies in the `net_device`.
    pub name: [u64; 2],
    pub hop: u16,
    /// 1: the filter asks for this hop, or for none.
    pub matched: u16,
    pub role: Role,
}

/// What a device does with packets; in one word, since it is copied at each hop.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub struct Role(u32);

impl Role {
    const UP: u32 = 1 << 8;
    const EDGE: u32 = 1 << 9;

    #[inline(always)]
    pub fn new(transmit_stage: u32, up: bool, edge: bool) -> Role {
        let mark = |is: bool, mark: u32| if is { mark } else { 0 };
        Role(transmit_stage & 0xff | mark(up, Role::UP) | mark(edge, Role::EDGE))
    }

    /// The stage that a transmission through the device enters.
    #[inline(always)]
    pub fn transmit_stage(self) -> u8 {
        self.0 as u8
    }

    /// The device encapsulates.
    #[inline(always)]
    pub fn up(self) -> bool {
        self.0 & Role::UP != 0
    }

    /// An edge of this machine, a NIC or a tap: what comes in by it was not here before.
    #[inline(always)]
    pub fn edge(self) -> bool {
        self.0 & Role::EDGE != 0
    }
}

/// Counts the changes of devices (coming, going, renaming, moving) anywhere; 0 as long as none was seen.
#[unsafe(no_mangle)]
pub static mut DEVICES_CHANGED: u64 = 0;

/// In [`HopEntry::looked_at`]: nobody tells whether the device has changed since.
pub const NEVER: u64 = u64::MAX;

pub const NOTES: u32 = 4096;
/// A power of two, and more than there can be hops.
pub const HOP_ENTRIES: u32 = 2 * HOPS_MAX as u32;

/// The places of a bucket of the state table; as large as a cache line.
#[repr(C)]
pub struct Bucket {
    /// Address of the `sk_buff` that the place is taken for, 0 when it is free.
    pub tags: [u64; WAYS],
    /// Who has the place; see [`crate::atomic::take`].
    pub holders: [u64; WAYS],
}

#[map]
pub static TAGS: Array<Bucket> = Array::with_max_entries(BUCKETS, 0);
#[map]
pub static STATES: Array<State> = Array::with_max_entries(BUCKETS * WAYS as u32, 0);
/// By number of CPU. A variable, not a map: reaching it costs two instructions.
#[unsafe(no_mangle)]
pub static mut CPUS: [Cpu; CPUS_MAX] = unsafe { core::mem::zeroed() };
/// By a mixture of the owner's address. A variable, as [`CPUS`] is; together they are smaller than the 4 MB
/// (`KMALLOC_MAX_SIZE`) that 5.10 allows.
#[unsafe(no_mangle)]
pub static mut HOP_CACHE: [HopEntry; HOP_ENTRIES as usize] = unsafe { core::mem::zeroed() };
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

/// One number, written by the loader: which ways may begin.
#[map]
pub static ARMED: Array<u64> = Array::with_max_entries(1, 0);

/// Adds to a counter of this CPU.
#[inline(always)]
pub fn count(counter: Counter, number: u64) {
    if let Some(counts) = COUNTS.get_ptr_mut(0) {
        unsafe { (*counts)[counter as usize] += number }
    }
}
