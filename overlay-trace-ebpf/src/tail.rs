//! Where only the slow packets are kept whole: which records are sent.

use aya_ebpf::{
    helpers::generated::bpf_get_prandom_u32,
    macros::map,
    maps::{Array, PerCpuArray},
};
use overlay_trace_common::{
    record::{FLAG_CHILD, FLAG_PARENT, Outcome},
    tail::{CLASSES, Ended, class, next},
};

use crate::{maps::State, read::opaque};

#[map]
pub static ENDED: PerCpuArray<Ended> = PerCpuArray::with_max_entries(1, 0);
/// One number, written by the reader: from this time on, in ns, a packet is slow.
#[map]
pub static SLOW_FROM: Array<u64> = Array::with_max_entries(1, 0);

/// How many packets the record of a finished one stands for: itself if it is slow, was dropped or has relatives;
/// of the ordinary ones one in about `one_in`, which stands for those since the one before as well. 0 if it is
/// not sent.
#[inline(never)]
pub fn stands_for(state: &State, one_in: u32) -> u32 {
    let header = &state.record.header;
    let Some(ended) = ENDED.get_ptr_mut(0) else { return 1 };
    let Some(slow_from) = SLOW_FROM.get_ptr(0) else { return 1 };
    if header.flags & (FLAG_CHILD | FLAG_PARENT) != 0 || header.outcome == Outcome::Dropped as u8 {
        return 1;
    }
    let (ended, ns) = (unsafe { &mut *ended }, header.end_ns - header.start_ns);
    // Opaque, so that the register that is checked is the one that is used.
    let class = opaque(class(ns) as u64) as usize;
    if class < CLASSES {
        ended.times[class] += 1;
    }
    if ns >= unsafe { slow_from.read_volatile() } {
        return 1;
    }
    ended.left_out += 1;
    if ended.left_out < ended.next {
        return 0;
    }
    let stands_for = ended.left_out;
    ended.left_out = 0;
    ended.next = next(one_in, unsafe { bpf_get_prandom_u32() });
    stands_for
}
