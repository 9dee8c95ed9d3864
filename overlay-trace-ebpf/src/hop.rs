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
    hop_numbers::next_hop,
    insn::{barrier, low_half, opaque},
    maps::{DEVICES_CHANGED, HOP_CACHE, HOP_ENTRIES, HOPS, HopEntry, NEVER, Role, count, setting},
    read::{Access, copied, field, now},
};

/// A hop may be in one of so many adjacent entries of the cache.
const PROBED_ENTRIES: u32 = 8;

/// The key of a hop.
#[derive(Clone, Copy)]
struct HopKey {
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

/// A device, in any namespace, was created, deleted, renamed or moved.
#[inline(always)]
pub fn changed() {
    // The kernel holds its lock of network configuration here, so that no two CPUs count at the same time.
    DEVICES_CHANGED.store(DEVICES_CHANGED.load() + 1);
    count(Counter::DeviceChanges, 1);
}

/// The cache entry of a hop, if the `number` entries before have been taken by others.
#[inline(always)]
fn entry(owner: u64, number: u32) -> &'static HopEntry {
    let index = ((low_half(owner) >> 6).wrapping_mul(0x9e37_79b1) >> 16) + number;
    // SAFETY: the mask keeps the index in the array, whose length is a power of two.
    unsafe { &*(&raw const HOP_CACHE as *const HopEntry).add((index & (HOP_ENTRIES - 1)) as usize) }
}

/// The hop in its first entry, if no device has changed since it was last checked.
#[inline(always)]
fn unchanged(owner: u64) -> Option<&'static HopEntry> {
    let entry = entry(owner, 0);
    let changes = DEVICES_CHANGED.load();
    (entry.owner.get() == owner && entry.checked_at.get() == changes).then_some(entry)
}

/// The hop of a device or a namespace, by its whole key; a new one is added.
#[inline(never)]
fn verified(owner: u64, net: u64, is_device: bool) -> Option<&'static HopEntry> {
    let checked_at = match DEVICES_CHANGED.load() {
        0 => NEVER,
        changes => changes,
    };
    let mix: u32 = copied(net, setting!(offsets.net_mix));
    let mut key = HopKey { owner, identity: (mix as u64) << 32, name: [0; 2] };
    if is_device {
        key.identity |= copied::<u32>(owner, setting!(offsets.dev_ifindex)) as u64;
        key.name = copied(owner, setting!(offsets.dev_name));
    }
    let mut number = 0;
    while number < PROBED_ENTRIES {
        let entry = entry(owner, number);
        if entry.owner.load() == owner && entry.identity.get() == key.identity && has_name(entry, &key) {
            entry.checked_at.set(checked_at);
            return Some(entry);
        }
        if is_free(entry, owner) && take(&entry.holder) {
            let is_ours = is_free(entry, owner);
            if is_ours {
                create(entry, &key, net);
                entry.checked_at.set(checked_at);
            }
            give(&entry.holder);
            if is_ours {
                return Some(entry);
            }
        }
        number += 1;
    }
    None
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

/// Fills an entry, of which the caller has the lock.
#[inline(always)]
fn create(entry: &HopEntry, key: &HopKey, net: u64) {
    entry.owner.store(0);
    barrier();
    let mut described = Hop {
        netns: copied(net, setting!(offsets.net_inum)),
        netns_mix: (key.identity >> 32) as u32,
        ifindex: key.identity as u32,
        ..Hop::default()
    };
    entry.identity.set(key.identity);
    entry.name[0].set(key.name[0]);
    entry.name[1].set(key.name[1]);
    entry.role.set(if described.ifindex != 0 {
        describe(key.owner, &mut described);
        role(&described.kind)
    } else {
        Role::new(setting!(transmit_default), false, false)
    });
    entry.matched.set(matches(&described) as u16);
    entry.hop.set(numbered(&described));
    barrier();
    entry.owner.store(key.owner);
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

/// The role of devices of this link kind.
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

/// Whether devices of this link kind are an edge of the machine: NICs have none, taps are of the kind `tun`.
#[inline(always)]
fn is_edge(kind: &[u8; 16]) -> bool {
    let (first, _) = words(kind);
    first == 0 || first == u64::from_ne_bytes(*b"tun\0\0\0\0\0")
}

#[inline(always)]
fn words(text: &[u8; 16]) -> (u64, u64) {
    let text = text.as_ptr() as *const [u8; 8];
    // SAFETY: the 16 bytes are two arrays of 8 bytes.
    unsafe { (u64::from_ne_bytes(*text), u64::from_ne_bytes(*text.add(1))) }
}

/// Whether the filter selects this hop, or does not filter by hop.
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
    // An empty list selects every namespace.
    number == 0
}
