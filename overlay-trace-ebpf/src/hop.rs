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
    maps::{DEVICES_CHANGED, HOP_CACHE, HOP_ENTRIES, HOPS, HopEntry, NEVER, Role, count, setting},
    read::{Access, copied, field, low_half, now, opaque},
};

/// How many neighbouring places of the cache a hop may stand at.
const PLACES: u32 = 8;

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
    let owner = opaque(device);
    unchanged(owner).or_else(|| {
        let net = A::word::<{ field!(dev_net) }>(device);
        verified(owner, opaque(net), true)
    })
}

/// The hop "in this namespace, at no device yet"; `net` must not be 0.
#[inline(always)]
pub fn of_net(net: u64) -> Option<&'static HopEntry> {
    let owner = opaque(net);
    unchanged(owner).or_else(|| verified(owner, owner, false))
}

/// A device, somewhere, has come, gone, or got another name or namespace.
#[inline(always)]
pub fn changed() {
    unsafe {
        let changes = (&raw const DEVICES_CHANGED).read_volatile();
        (&raw mut DEVICES_CHANGED).write_volatile(changes + 1);
    }
    count(Counter::DeviceChanges, 1);
}

/// Where a hop stands, if the places before have been taken.
#[inline(always)]
fn place(owner: u64, number: u32) -> *mut HopEntry {
    let index = ((low_half(owner) >> 6).wrapping_mul(0x9e37_79b1) >> 16) + number;
    unsafe { (&raw mut HOP_CACHE as *mut HopEntry).add((index & (HOP_ENTRIES - 1)) as usize) }
}

/// The hop at its first place, if no device has changed since it was last looked at.
#[inline(always)]
fn unchanged(owner: u64) -> Option<&'static HopEntry> {
    let entry = unsafe { &*place(owner, 0) };
    let changes = unsafe { (&raw const DEVICES_CHANGED).read_volatile() };
    (entry.owner == owner && entry.looked_at == changes).then_some(entry)
}

/// The hop of a device or a namespace, told by all that it is told by; one that is seen for the first time
/// is noted.
#[inline(never)]
fn verified(owner: u64, net: u64, is_device: bool) -> Option<&'static HopEntry> {
    let looked_at = match unsafe { (&raw const DEVICES_CHANGED).read_volatile() } {
        0 => NEVER,
        changes => changes,
    };
    let mix: u32 = copied(net, setting!(offsets.net_mix));
    let mut mark = Mark { owner, identity: (mix as u64) << 32, name: [0; 2] };
    if is_device {
        mark.identity |= copied::<u32>(owner, setting!(offsets.dev_ifindex)) as u64;
        mark.name = copied(owner, setting!(offsets.dev_name));
    }
    let mut number = 0;
    while number < PLACES {
        let entry = unsafe { &mut *place(owner, number) };
        let known = unsafe { (&raw const entry.owner).read_volatile() };
        if known == owner && entry.identity == mark.identity && entry.name == mark.name {
            entry.looked_at = looked_at;
            return Some(entry);
        }
        if is_free(entry, owner) && take(&raw mut entry.holder) {
            let is_ours = is_free(entry, owner);
            if is_ours {
                create(entry, &mark, net);
                entry.looked_at = looked_at;
            }
            give(&raw mut entry.holder);
            if is_ours {
                return Some(entry);
            }
        }
        number += 1;
    }
    None
}

/// Nothing is here, or what was at the same address and is no more, or has another name now.
#[inline(always)]
fn is_free(entry: &HopEntry, owner: u64) -> bool {
    let known = unsafe { (&raw const entry.owner).read_volatile() };
    known == 0 || known == owner
}

/// Notes a hop.
#[inline(always)]
fn create(entry: &mut HopEntry, mark: &Mark, net: u64) {
    unsafe { (&raw mut entry.owner).write_volatile(0) };
    in_order();
    let mut described = Hop {
        netns: copied(net, setting!(offsets.net_inum)),
        netns_mix: (mark.identity >> 32) as u32,
        ifindex: mark.identity as u32,
        ..Hop::default()
    };
    entry.identity = mark.identity;
    entry.name = mark.name;
    entry.role = if described.ifindex != 0 {
        describe(mark.owner, &mut described);
        role(&described.kind)
    } else {
        Role::new(setting!(transmit_default), false, false)
    };
    entry.matched = matches(&described) as u16;
    entry.hop = numbered(&described);
    in_order();
    unsafe { (&raw mut entry.owner).write_volatile(mark.owner) };
}

/// What was written before is written before what is written after; the processor keeps to it by itself.
#[inline(always)]
fn in_order() {
    unsafe { asm!("", options(nostack)) };
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

/// What devices of this link kind do.
#[inline(always)]
fn role(kind: &[u8; 16]) -> Role {
    let wanted = words(kind);
    let edge = is_edge(kind);
    let mut number = 0;
    while number < TRANSMIT_KINDS {
        let known = setting!(transmit[number]);
        if known.stage != 0 && words(&known.kind) == wanted {
            return Role::new(known.stage, known.up != 0, edge);
        }
        number += 1;
    }
    Role::new(setting!(transmit_default), false, edge)
}

/// Whether a device of this kind is an edge of the machine: NICs have none, taps are of the kind `tun`.
#[inline(always)]
fn is_edge(kind: &[u8; 16]) -> bool {
    let (first, _) = words(kind);
    first == 0 || first == u64::from_ne_bytes(*b"tun\0\0\0\0\0")
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
