//! Hops: the device and the namespace that a packet is at.
//!
//! A hop is found by the address of its device (or of its namespace, for a packet that is at no device
//! yet). Name and link kind are read once, when the hop is first seen, so they outlive the device.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::bpf_probe_read_kernel_str;
use overlay_trace_common::{
    kernel::{NETNS_MAX, TRANSMIT_KINDS},
    record::{Counter, HOPS_MAX, Hop},
};

use crate::{
    atomic::next_hop,
    maps::{HOP_CACHE, HOP_ENTRIES, HOPS, HopEntry, count, setting},
    read::{Access, copied, low_half, opaque},
};

/// How many neighbouring places of the cache a hop may stand at.
const PLACES: u32 = 4;

/// The hop of a device; `device` must not be 0.
#[inline(always)]
pub fn of_device<A: Access>(device: u64) -> Option<&'static HopEntry> {
    let net = A::word(device, setting!(offsets.dev_net));
    let ifindex = A::half(device, setting!(offsets.dev_ifindex));
    let key = opaque(device);
    find(key, opaque(net), ifindex).or_else(|| create(key, opaque(net), ifindex))
}

/// The hop "in this namespace, at no device yet"; `net` must not be 0.
#[inline(always)]
pub fn of_net(net: u64) -> Option<&'static HopEntry> {
    let key = opaque(net);
    find(key, key, 0).or_else(|| create(key, key, 0))
}

#[inline(always)]
fn index(key: u64, place: u32) -> u32 {
    (((low_half(key) >> 6).wrapping_mul(0x9e37_79b1) >> 14) + place) & (HOP_ENTRIES - 1)
}

#[inline(always)]
fn find(key: u64, net: u64, ifindex: u32) -> Option<&'static HopEntry> {
    let mut place = 0;
    while place < PLACES {
        let entry = unsafe { &*HOP_CACHE.get_ptr(index(key, place))? };
        let owner = unsafe { (&raw const entry.owner).read_volatile() };
        if owner == key && entry.net == net && entry.ifindex == ifindex {
            return Some(entry);
        }
        if owner == 0 {
            return None;
        }
        place += 1;
    }
    None
}

/// Reads name and kind of a hop that is seen for the first time.
#[inline(never)]
fn create(key: u64, net: u64, ifindex: u32) -> Option<&'static HopEntry> {
    let entry = unsafe { &mut *free_entry(key)? };
    let hop = next_hop().unwrap_or(HOPS_MAX as u64);
    entry.owner = 0;
    entry.hop = 0;
    entry.net = net;
    entry.ifindex = ifindex;
    entry.transmit_stage = setting!(transmit_default) as u8;
    entry.up = 0;
    let mut described = Hop { netns: copied(net, setting!(offsets.net_inum)), ifindex, ..Hop::default() };
    if ifindex != 0 {
        describe(key, &mut described);
        transmit_stage(&described.kind, entry);
    }
    entry.matched = matches(&described) as u32;
    if hop < HOPS_MAX as u64 {
        let slot = HOPS.get_ptr_mut(hop as u32)?;
        unsafe { *slot = described };
        entry.hop = hop as u16;
    } else {
        count(Counter::HopsFull, 1);
    }
    unsafe { (&raw mut entry.owner).write_volatile(key) };
    Some(entry)
}

/// A free place, else one of the same device under an older name, else the first.
#[inline(always)]
fn free_entry(key: u64) -> Option<*mut HopEntry> {
    let mut place = 0;
    while place < PLACES {
        let entry = HOP_CACHE.get_ptr_mut(index(key, place))?;
        let owner = unsafe { (*entry).owner };
        if owner == 0 || owner == key {
            return Some(entry);
        }
        place += 1;
    }
    HOP_CACHE.get_ptr_mut(index(key, 0))
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
