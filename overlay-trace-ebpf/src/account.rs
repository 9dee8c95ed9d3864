//! Accounting: every nanosecond between two probes of a packet goes to one segment of its way.

use aya_ebpf::helpers::generated::{bpf_get_smp_processor_id, bpf_ringbuf_output};
use overlay_trace_common::record::{
    Counter, FLAG_WAY_FULL, HEADER_BYTES, KEY_MASK, SEGMENT_HIGH, SEGMENT_RESUMED, SEGMENT_WAIT, Segment,
    WAY_MAX,
};
use overlay_trace_common::stage_map::OTHER;

use crate::{
    maps::{BUSY, Busy, RECORDS, STATES, State, count},
    read::opaque,
};

/// Do not wake the reader for each record: it looks by itself, several times a second.
const BPF_RB_NO_WAKEUP: u64 = 1;

/// What this CPU is busy with, and the CPU's number.
#[inline(always)]
pub fn busy() -> Option<(&'static mut Busy, u32)> {
    let cpu = unsafe { bpf_get_smp_processor_id() };
    let busy = BUSY.get_ptr_mut(cpu)?;
    Some((unsafe { &mut *busy }, cpu))
}

/// Closes the open segment at `now`.
///
/// If other packets' probes fired on the CPU in between, the segment is cut in three: the stage until
/// the first of them, waiting until the last of them, the rest of the stage.
///
/// Time never runs backwards for a packet: the clocks of two CPUs can differ by some nanoseconds, and an
/// interrupt may come between the reading of the clock and this.
#[inline(always)]
pub fn close(state: &mut State, busy: &Busy, cpu: u32, now: u64) {
    let mut from = state.last_ns;
    let now = later(now, from);
    if state.interrupted_ns != 0 {
        let first = earlier(later(state.interrupted_ns, from), now);
        let last = if state.cpu as u32 == cpu { earlier(later(busy.last_ns, first), now) } else { first };
        state.interrupted_ns = 0;
        if last > first {
            push(state, state.current, first - from);
            push(state, state.current | SEGMENT_WAIT, last - first);
            state.current |= SEGMENT_RESUMED;
            from = last;
        }
    }
    push(state, state.current, now - from);
    state.last_ns = now;
}

#[inline(always)]
pub fn later(one: u64, other: u64) -> u64 {
    if one > other { one } else { other }
}

#[inline(always)]
fn earlier(one: u64, other: u64) -> u64 {
    if one < other { one } else { other }
}

/// Adds a segment to the way; a time that does not fit in 32 bits takes two words.
#[inline(always)]
pub fn push(state: &mut State, key: u64, ns: u64) {
    let high = ns >> 32;
    if high != 0 {
        put(state, key | SEGMENT_HIGH | high, high << 32);
    }
    put(state, key | ns & !KEY_MASK, ns & !KEY_MASK);
}

#[inline(always)]
fn put(state: &mut State, word: u64, ns: u64) {
    // Opaque, so that the register that is checked is the one that is used.
    let length = opaque(state.record.header.way_len as u64);
    if length < WAY_MAX as u64 {
        unsafe { (&raw mut state.record.way as *mut u64).add(length as usize).write(word) };
        state.record.header.way_len = (length + 1) as u16;
    } else {
        state.record.header.flags |= FLAG_WAY_FULL;
        state.overflow_ns += ns;
    }
}

/// Notes that this CPU is now busy with a packet, and that another one with which it was busy
/// is interrupted by it.
#[inline(always)]
pub fn take_cpu(busy: &mut Busy, cpu: u32, skb: u64, state: &State, now: u64) {
    let skb = opaque(skb);
    if busy.skb != skb {
        if busy.skb != 0 {
            interrupt(busy, cpu, now);
        }
        busy.skb = skb;
        busy.state = state.number;
    }
    busy.last_ns = now;
}

/// The CPU has nothing more to do with its packet for now.
#[inline(always)]
pub fn release_cpu(busy: &mut Busy, cpu: u32, skb: u64, now: u64) {
    let skb = opaque(skb);
    if busy.skb != skb && busy.skb != 0 {
        interrupt(busy, cpu, now);
    }
    busy.skb = 0;
    busy.last_ns = now;
}

/// The packet that the CPU was busy with waits from now on, until a probe sees it again.
#[inline(always)]
fn interrupt(busy: &Busy, cpu: u32, now: u64) {
    let number = busy.state;
    let Some(state) = STATES.get_ptr_mut(number) else { return };
    let state = unsafe { &mut *state };
    // A sender that has been moved to another CPU is not interrupted by what happens on this one.
    if state.skb == busy.skb && state.cpu as u32 == cpu && state.interrupted_ns == 0 {
        state.interrupted_ns = now;
    }
}

/// Hands the finished record to the reader.
#[inline(always)]
pub fn send(state: &mut State) {
    if state.record.header.way_len as usize >= WAY_MAX && state.overflow_ns != 0 {
        let (high, low) = (state.overflow_ns >> 32, state.overflow_ns & !KEY_MASK);
        let key = Segment::key(OTHER, 0, 0);
        state.record.way[WAY_MAX] = key | SEGMENT_HIGH | high;
        state.record.way[WAY_MAX + 1] = key | low;
        state.record.header.way_len = WAY_MAX as u16 + 2;
    }
    let length = opaque(state.record.header.way_len as u64);
    if length > WAY_MAX as u64 + 2 {
        return;
    }
    let bytes = HEADER_BYTES as u64 + length * 8;
    let sent = unsafe {
        bpf_ringbuf_output(
            &raw const RECORDS as *mut _,
            &raw mut state.record as *mut _,
            bytes,
            BPF_RB_NO_WAKEUP,
        )
    };
    count(Counter::Finished, 1);
    count(Counter::Hits, length);
    if sent == 0 {
        count(Counter::RecordBytes, bytes);
    } else {
        count(Counter::LostRecords, 1);
    }
}
