//! Hops: the device and the namespace that a packet is at.
//!
//! A hop is found by the address of its device (or of its namespace, for a packet that is at no device
//! yet). Addresses are used again, and so are the numbers of namespaces and devices: in the place of a pod
//! that has vanished the next one can have its address, its inode number, and an `eth0` of the same index.
//! So a hop is also told by its namespace's random number and by its device's name; what differs in one
//! of them is another hop. Name and link kind are noted when the hop is first seen, so they outlive the
//! device.

use core::{arch::asm, ffi::c_void};

use aya_ebpf::helpers::generated::bpf_probe_read_kernel_str;
use overlay_trace_common::{
    kernel::{NETNS_MAX, TRANSMIT_KINDS},
    record::{Counter, HOPS_MAX, Hop},
};

use crate::{
    atomic::{give, next_hop, take},
    maps::{HOP_CACHE, HOP_ENTRIES, HOPS, HopEntry, count, setting},
    read::{Access, copied, low_half, now, opaque},
};

/// How many neighbouring places of the cache a hop may stand at.
const PLACES: u32 = 8;
/// An entry's owner while it is being written: nothing lies at this address.
const UNFINISHED: u64 = 1;

/// What a hop is told by.
#[derive(Clone, Copy)]
struct Mark {
    /// Address of the device or the namespace.
    owner: u64,
    /// The namespace's random number and the device's index.
    identity: u64,
    name: [u64; 2],
}

/// The hop of a device; `device` must not be 0.
#[inline(always)]
pub fn of_device<A: Access>(device: u64) -> Option<&'static HopEntry> {
    let net = A::word(device, setting!(offsets.dev_net));
    let mix = A::half(net, setting!(offsets.net_mix));
    let ifindex = A::half(device, setting!(offsets.dev_ifindex));
    let name = A::pair(device, setting!(offsets.dev_name));
    let mark = Mark { owner: opaque(device), identity: identity(mix, ifindex), name };
    find(&mark).or_else(|| create(mark.owner, opaque(net), mark.identity, name[0], name[1]))
}

/// The hop "in this namespace, at no device yet"; `net` must not be 0.
#[inline(always)]
pub fn of_net<A: Access>(net: u64) -> Option<&'static HopEntry> {
    let mix = A::half(net, setting!(offsets.net_mix));
    let mark = Mark { owner: opaque(net), identity: identity(mix, 0), name: [0; 2] };
    find(&mark).or_else(|| create(mark.owner, mark.owner, mark.identity, 0, 0))
}

#[inline(always)]
fn identity(mix: u32, ifindex: u32) -> u64 {
    (mix as u64) << 32 | ifindex as u64
}

#[inline(always)]
fn index(owner: u64, place: u32) -> u32 {
    (((low_half(owner) >> 6).wrapping_mul(0x9e37_79b1) >> 16) + place) & (HOP_ENTRIES - 1)
}

#[inline(always)]
fn find(mark: &Mark) -> Option<&'static HopEntry> {
    let mut place = 0;
    while place < PLACES {
        let entry = unsafe { &*HOP_CACHE.get_ptr(index(mark.owner, place))? };
        let owner = unsafe { (&raw const entry.owner).read_volatile() };
        if owner == mark.owner && entry.identity == mark.identity && entry.name == mark.name {
            return Some(entry);
        }
        if owner == 0 {
            return None;
        }
        place += 1;
    }
    None
}

/// Notes a hop that is seen for the first time.
#[inline(never)]
fn create(owner: u64, net: u64, identity: u64, name: u64, name_rest: u64) -> Option<&'static HopEntry> {
    let entry = unsafe { &mut *free_entry(owner)? };
    let ifindex = identity as u32;
    let mut described = Hop {
        netns: copied(net, setting!(offsets.net_inum)),
        netns_mix: (identity >> 32) as u32,
        ifindex,
        ..Hop::default()
    };
    // Nobody takes it for what it was as long as it is neither.
    unsafe { (&raw mut entry.owner).write_volatile(UNFINISHED) };
    in_order();
    entry.identity = identity;
    entry.name = [name, name_rest];
    entry.transmit_stage = setting!(transmit_default) as u8;
    entry.up = 0;
    if ifindex != 0 {
        describe(owner, &mut described);
        transmit_stage(&described.kind, entry);
    }
    entry.matched = matches(&described) as u32;
    entry.hop = numbered(&described);
    publish(entry, owner);
    Some(entry)
}

/// A place for a hop, that nobody else writes to until it is [published](publish).
#[inline(always)]
fn free_entry(owner: u64) -> Option<*mut HopEntry> {
    let mut place = 0;
    while place < PLACES {
        let entry = HOP_CACHE.get_ptr_mut(index(owner, place))?;
        if is_free(entry, owner) && begin_to_write(entry) {
            if is_free(entry, owner) {
                return Some(entry);
            }
            unsafe { give(&raw mut (*entry).writer) };
        }
        place += 1;
    }
    // One of so many that the table is full: what was here gets another number when it is seen again.
    let entry = HOP_CACHE.get_ptr_mut(index(owner, 0))?;
    begin_to_write(entry).then_some(entry)
}

/// What was at the same address is no more, or has another name now.
#[inline(always)]
fn is_free(entry: *mut HopEntry, owner: u64) -> bool {
    let known = unsafe { (&raw const (*entry).owner).read_volatile() };
    known == 0 || known == owner
}

#[inline(always)]
fn begin_to_write(entry: *mut HopEntry) -> bool {
    take(unsafe { &raw mut (*entry).writer })
}

/// What was written before is written before what is written after; the processor keeps to it by itself.
#[inline(always)]
fn in_order() {
    unsafe { asm!("", options(nostack)) };
}

/// Lets an entry be found.
#[inline(always)]
fn publish(entry: *mut HopEntry, owner: u64) {
    in_order();
    unsafe {
        (&raw mut (*entry).owner).write_volatile(owner);
        give(&raw mut (*entry).writer);
    }
}

/// Gives a hop its number and tells it to the reader; 0 when there are no more numbers.
#[inline(always)]
fn numbered(described: &Hop) -> u16 {
    let number = next_hop().unwrap_or(HOPS_MAX as u64);
    if number >= HOPS_MAX as u64 {
        count(Counter::HopsFull, 1);
        return 0;
    }
    let Some(slot) = HOPS.get_ptr_mut(number as u32) else { return 0 };
    unsafe {
        *slot = *described;
        in_order();
        (&raw mut (*slot).since_ns).write_volatile(now());
    }
    number as u16
}

#[inline(always)]
fn describe(device: u64, described: &mut Hop) {
    let name = device + setting!(offsets.dev_name) as u64;
    unsafe {
        bpf_probe_read_kernel_str(&raw mut described.device as *mut c_void, 16, name as *const c_void);
        let operations: u64 = copied(device, setting!(offsets.dev_link_ops));
        if operations != 0 {
            let kind: u64 = copied(operations, setting!(offsets.link_ops_kind));
            bpf_probe_read_kernel_str(&raw mut described.kind as *mut c_void, 16, kind as *const c_void);
        }
    }
}

/// The stage of the device's link kind.
#[inline(always)]
fn transmit_stage(kind: &[u8; 16], entry: &mut HopEntry) {
    let wanted = words(kind);
    let mut number = 0;
    while number < TRANSMIT_KINDS {
        let known = setting!(transmit[number]);
        if known.stage != 0 && words(&known.kind) == wanted {
            entry.transmit_stage = known.stage as u8;
            entry.up = known.up as u8;
            return;
        }
        number += 1;
    }
}

#[inline(always)]
fn words(text: &[u8; 16]) -> (u64, u64) {
    let text = text.as_ptr() as *const [u8; 8];
    unsafe { (u64::from_ne_bytes(*text), u64::from_ne_bytes(*text.add(1))) }
}

/// Whether the filter asks for this hop, or for none.
#[inline(always)]
fn matches(hop: &Hop) -> bool {
    let device = setting!(filter.device);
    in_netns(hop.netns) && (device[0] == 0 || words(&device) == words(&hop.device))
}

#[inline(always)]
fn in_netns(inode: u32) -> bool {
    let mut number = 0;
    while number < NETNS_MAX {
        let wanted = setting!(filter.netns[number]);
        if wanted == inode {
            return true;
        }
        if wanted == 0 {
            break;
        }
        number += 1;
    }
    // Nothing was asked for, or nothing of it is this.
    number == 0
}
