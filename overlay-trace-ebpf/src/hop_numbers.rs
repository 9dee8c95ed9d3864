//! Numbers of hops, which no two CPUs may get.

use aya_ebpf::bindings::BPF_NOEXIST;
use overlay_trace_common::{shared::Shared, slot::Word};

use crate::maps::{HOP_COUNT, HOP_NUMBERS};

/// How many numbers others may take while one is being looked for.
const NUMBERS_TRIED: u32 = 16;

/// The next number of a hop, from 1; no two are the same, and none is left out.
#[inline(always)]
pub fn next_hop() -> Option<u64> {
    let count = HOP_COUNT.get_ptr_mut(0)?;
    // SAFETY: a pointer to a map's number, which is used through such cells only.
    let count = unsafe { Shared::at(count) };
    let mut number = count.load();
    let mut tried = 0;
    while tried < NUMBERS_TRIED {
        tried += 1;
        number += 1;
        // Of several that try the same number the kernel lets one insert it.
        if HOP_NUMBERS.insert(number as u32, 1u8, BPF_NOEXIST as u64).is_ok() {
            count.add(1);
            return Some(number);
        }
    }
    None
}
