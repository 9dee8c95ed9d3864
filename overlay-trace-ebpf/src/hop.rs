//! Hops: the device and the namespace that a packet is at.
//!
//! A hop is found by the address of its device (or of its namespace, for a packet that is at no device yet). The
//! kernel reuses addresses, and so the numbers of namespaces and devices: a new pod can get the address and the inode
//! number of a deleted one, and an `eth0` of the same index. So the key of a hop also has the namespace's random number
//! and the device's name; what differs in one of them is another hop. Name and link kind are stored when the hop is
//! first seen, so they outlive the device.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::bpf_probe_read_kernel_str;
use overlay_trace_common::{
    abi::{NETNS_MAX, TRANSMIT_KINDS},
    record::{Counter, HOPS_MAX, Hop},
    slot::{Word, give, take},
};

use crate::{
    edges,
    hop_numbers::next_hop,
    insn::{barrier, low_half, opaque},
    maps::{
        DEVICES_CHANGED, FILTER_NETNS, HOP_CACHE, HOP_ENTRIES, HOPS, HopEntry, NEVER, Role, count, setting,
    },
    read::{Access, as_number, copied, field, now, words},
};

/// A hop may be in one of so many adjacent entries of the cache.
const PROBED_ENTRIES: u32 = 8;

/// The index of each namespace's loopback device, which has no link kind either.
const LOOPBACK: u32 = 1;

/// What a hop is known by, besides the address of its device or namespace.
#[derive(Clone, Copy)]
struct HopKey {
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

/// A device, in any namespace, was created, deleted, renamed or moved.
#[inline(always)]
pub fn changed() {
    // The kernel holds its lock of network configuration here, so that no two CPUs count at the same time.
    DEVICES_CHANGED.store(DEVICES_CHANGED.load() + 1);
    count(Counter::DeviceChanges, 1);
}

/// Where in the cache a hop is, if the `number` entries before have been taken by others.
#[inline(always)]
fn index_of(owner: u64, number: u32) -> u32 {
    ((low_half(owner) >> 6).wrapping_mul(0x9e37_79b1) >> 16) + number
}

/// An entry of the cache; the index is taken modulo its size.
#[inline(always)]
fn entry_at(index: u32) -> &'static HopEntry {
    // SAFETY: the mask keeps the index in the array, whose length is a power of two.
    unsafe { &*(&raw const HOP_CACHE as *const HopEntry).add((index & (HOP_ENTRIES - 1)) as usize) }
}

/// The hop in its first entry, if no device has changed since it was last checked.
#[inline(always)]
fn unchanged(owner: u64) -> Option<&'static HopEntry> {
    let entry = entry_at(index_of(owner, 0));
    let changes = DEVICES_CHANGED.load();
    (entry.owner.get() == owner && entry.checked_at.get() == changes).then_some(entry)
}

/// The hop of a device or a namespace, by its whole key; a new one is added.
#[inline(always)]
fn verified(owner: u64, net: u64, is_device: bool) -> Option<&'static HopEntry> {
    match find_or_add(as_number(owner), as_number(net), is_device as u32) {
        NO_HOP => None,
        index => Some(entry_at(index as u32)),
    }
}

/// The result of [`find_or_add`] where the cache has no room.
const NO_HOP: u64 = u64::MAX;

/// Where in the cache the hop of a device or a namespace is. A global function: the verifier follows it once for a
/// program, and not again from each state in which it may be called.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn find_or_add(owner: u64, net: u64, is_device: u32) -> u64 {
    let checked_at = match DEVICES_CHANGED.load() {
        0 => NEVER,
        changes => changes,
    };
    let mix: u32 = copied(net, setting!(offsets.net_mix));
    let mut key = HopKey { identity: (mix as u64) << 32, name: [0; 2] };
    if is_device != 0 {
        key.identity |= copied::<u32>(owner, setting!(offsets.dev_ifindex)) as u64;
        key.name = device_name(owner);
    }
    let mut number = 0;
    while number < PROBED_ENTRIES {
        let index = index_of(owner, number);
        let entry = entry_at(index);
        if entry.owner.load() == owner && entry.identity.get() == key.identity && has_name(entry, &key) {
            entry.checked_at.set(checked_at);
            return index as u64;
        }
        if is_free(entry, owner) && take(&entry.holder) {
            let is_ours = is_free(entry, owner);
            if is_ours {
                create(index, owner, net, key.identity);
                entry.checked_at.set(checked_at);
            }
            give(&entry.holder);
            if is_ours {
                return index as u64;
            }
        }
        number += 1;
    }
    NO_HOP
}

#[inline(always)]
fn has_name(entry: &HopEntry, key: &HopKey) -> bool {
    entry.name[0].get() == key.name[0] && entry.name[1].get() == key.name[1]
}

/// The entry is empty, or its device is gone or renamed: another device is at its address.
#[inline(always)]
fn is_free(entry: &HopEntry, owner: u64) -> bool {
    let known = entry.owner.load();
    known == 0 || known == owner
}

/// Fills the entry at an index of the cache, of which the caller has the lock. A global function, as [`find_or_add`] is.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn create(index: u32, owner: u64, net: u64, identity: u64) -> u32 {
    let entry = entry_at(index);
    entry.owner.store(0);
    barrier();
    let mut described = Hop {
        netns: copied(net, setting!(offsets.net_inum)),
        netns_mix: (identity >> 32) as u32,
        ifindex: identity as u32,
        ..Hop::default()
    };
    entry.identity.set(identity);
    let is_device = described.ifindex != 0;
    let name = if is_device { device_name(owner) } else { [0; 2] };
    entry.name[0].set(name[0]);
    entry.name[1].set(name[1]);
    entry.role.set(if is_device {
        describe(owner, &mut described);
        role(&described)
    } else {
        Role::new(setting!(transmit_default), false, false, false)
    });
    entry.matched.set(matches(&described) as u16);
    let hop = numbered(&described);
    entry.hop.set(hop);
    if hop != 0 && entry.role.get().is_edge() {
        entry.role.set(entry.role.get().with_slot(edges::number(hop)));
    }
    barrier();
    entry.owner.store(owner);
    0
}

/// The name of a device, as it lies there.
#[inline(always)]
fn device_name(device: u64) -> [u64; 2] {
    copied(device, setting!(offsets.dev_name))
}

/// Gives a hop its number and hands it to the reader; 0 if the hop table is full.
#[inline(always)]
fn numbered(described: &Hop) -> u16 {
    let number = next_hop().unwrap_or(HOPS_MAX as u64);
    if number >= HOPS_MAX as u64 {
        count(Counter::HopTableFull, 1);
        return 0;
    }
    let Some(slot) = HOPS.get_ptr_mut(number as u32) else { return 0 };
    // SAFETY: an entry of the map, whose number nobody else has got. The reader waits for `since_ns`.
    unsafe {
        *slot = *described;
        barrier();
        (&raw mut (*slot).since_ns).write_volatile(now());
    }
    number as u16
}

#[inline(always)]
fn describe(device: u64, described: &mut Hop) {
    text(&mut described.device, device + setting!(offsets.dev_name) as u64);
    let operations: u64 = copied(device, setting!(offsets.dev_link_ops));
    if operations != 0 {
        text(&mut described.kind, copied(operations, setting!(offsets.link_ops_kind)));
    }
}

/// Copies a NUL-terminated text of the kernel's.
#[inline(always)]
fn text(target: &mut [u8; 16], source: u64) {
    // SAFETY: the helper writes at most the target's 16 bytes, and checks the source.
    unsafe { bpf_probe_read_kernel_str(target.as_mut_ptr() as *mut c_void, 16, source as *const c_void) };
}

/// The role of a device. A function of its own, since the stacks of all open calls may have 512 bytes together.
#[inline(never)]
fn role(described: &Hop) -> Role {
    let wanted = words(&described.kind);
    let edge = described.ifindex != LOOPBACK && is_edge(&described.kind);
    let mut number = 0;
    while number < TRANSMIT_KINDS {
        let known = setting!(transmit[number].kind);
        let stage = setting!(transmit[number].stage);
        if stage != 0 && (known[0], known[1]) == wanted {
            let (up, waits) = (setting!(transmit[number].up), setting!(transmit[number].waits));
            return Role::new(stage, up != 0, edge, waits != 0);
        }
        number += 1;
    }
    Role::new(setting!(transmit_default), false, edge, false)
}

/// Whether devices of this link kind are an edge of the machine: NICs have none, and behind taps is another kernel or a
/// program.
#[inline(always)]
fn is_edge(kind: &[u8; 16]) -> bool {
    let (first, _) = words(kind);
    first == 0
        || first == u64::from_ne_bytes(*b"tun\0\0\0\0\0")
        || first == u64::from_ne_bytes(*b"macvtap\0")
        || first == u64::from_ne_bytes(*b"ipvtap\0\0")
}

/// Whether the filter selects this hop, or does not filter by hop. A function of its own, as [`role`] is.
#[inline(never)]
fn matches(hop: &Hop) -> bool {
    let device = setting!(filter.device);
    in_netns(hop.netns, hop.netns_mix) && (device[0] == 0 || (device[0], device[1]) == words(&hop.device))
}

#[inline(always)]
fn in_netns(inode: u32, mix: u32) -> bool {
    let mut number = 0;
    while number < NETNS_MAX {
        let wanted = setting!(filter.netns[number]);
        if wanted == 0 {
            break;
        }
        if wanted == inode && is_same_netns(number, mix) {
            return true;
        }
        number += 1;
    }
    // An empty list selects every namespace.
    number == 0
}

/// Whether a namespace with the inode number of a wanted one is that one, and not one that came after it.
#[inline(always)]
fn is_same_netns(number: usize, mix: u32) -> bool {
    let known = match setting!(filter.netns_mix[number]) {
        0 => FILTER_NETNS[number].get(),
        cookie => cookie,
    };
    if known == 0 {
        // Without cookies. Two namespaces of one number do not exist at the same time, so no two CPUs differ here.
        FILTER_NETNS[number].set(mix);
    }
    known == 0 || known == mix
}
