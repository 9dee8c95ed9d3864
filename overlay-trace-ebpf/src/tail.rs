//! Where only the slow packets are kept whole: which records are sent.

use aya_ebpf::{
    helpers::generated::bpf_get_prandom_u32,
    macros::map,
    maps::{Array, PerCpuArray},
};
use overlay_trace_common::{
    record::{FLAG_CHILD, FLAG_PARENT, Flow, Outcome},
    tail::{CLASSES, Ended, class, next},
};

use crate::{maps::State, read::opaque};

#[map]
pub static ENDED: PerCpuArray<Ended> = PerCpuArray::with_max_entries(1, 0);
/// One number, written by the reader: from this time on, in ns, a packet is slow.
#[map]
pub static SLOW_FROM: Array<u64> = Array::with_max_entries(1, 0);

/// So many of a TCP connection's packets are sent behind one that was dropped, so that it is seen when and why that
/// is sent again.
const BEHIND_A_LOSS: u32 = 64;
const LOSSES_MAX: u32 = 1 << 12;
const IPPROTO_TCP: u8 = 6;
/// By the last bits of the client's port, which is the higher one and which nobody translates: how many of the
/// connection's packets are still to be sent. Others that have these bits in common are sent as well.
#[map]
static LOSSES: Array<u32> = Array::with_max_entries(LOSSES_MAX, 0);

/// How many packets the record of a finished one stands for: itself if it is slow, was dropped, has relatives, or
/// comes behind one of its connection that was dropped;
/// of the ordinary ones one in about `one_in`, which stands for those since the one before as well. 0 if it is
/// not sent.
#[inline(never)]
pub fn stands_for(state: &State, one_in: u32) -> u32 {
    let header = &state.record.header;
    let Some(ended) = ENDED.get_ptr_mut(0) else { return 1 };
    let Some(slow_from) = SLOW_FROM.get_ptr(0) else { return 1 };
    let is_dropped = header.outcome == Outcome::Dropped as u8;
    let is_behind_a_loss = header.flow.protocol == IPPROTO_TCP && follows_loss(&header.flow, is_dropped);
    if header.flags & (FLAG_CHILD | FLAG_PARENT) != 0 || is_dropped {
        return 1;
    }
    let (ended, ns) = (unsafe { &mut *ended }, header.end_ns - header.start_ns);
    // Opaque, so that the register that is checked is the one that is used.
    let class = opaque(class(ns) as u64) as usize;
    if class < CLASSES {
        ended.times[class] += 1;
    }
    if is_behind_a_loss || ns >= unsafe { slow_from.read_volatile() } {
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

/// Whether one of the connection's last packets was dropped; notes it if this one is.
#[inline(always)]
fn follows_loss(flow: &Flow, is_dropped: bool) -> bool {
    let (source, destination) = (flow.source_port as u32, flow.destination_port as u32);
    let client = if source > destination { source } else { destination };
    let Some(left) = LOSSES.get_ptr_mut(client & (LOSSES_MAX - 1)) else { return false };
    // On two CPUs at once one may be counted too few.
    let before = unsafe { left.read_volatile() };
    if is_dropped {
        unsafe { left.write_volatile(BEHIND_A_LOSS) };
    } else if before != 0 {
        unsafe { left.write_volatile(before - 1) };
    }
    before != 0
}
