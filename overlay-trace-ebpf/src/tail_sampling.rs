//! Tail sampling: every slow packet has its record sent, of the ordinary ones a sample.

use aya_ebpf::{
    helpers::generated::bpf_get_prandom_u32,
    macros::map,
    maps::{Array, PerCpuArray},
};
use overlay_trace_common::{
    flags::RecordFlags,
    headers::IPPROTO_TCP,
    latency_histogram::{BUCKETS, LatencyHistogram, bucket, next_sample},
    record::{Flow, Outcome},
};

use crate::{insn::opaque, maps::State};

#[map]
pub static LATENCY_HISTOGRAM: PerCpuArray<LatencyHistogram> = PerCpuArray::with_max_entries(1, 0);
/// One number, written by the reader: a packet is slow if it took at least so many ns.
#[map]
pub static LATENCY_THRESHOLD_NS: Array<u64> = Array::with_max_entries(1, 0);

/// Number of packets of a TCP connection whose records are sent after a drop, so that its retransmission is seen.
const SENT_AFTER_DROP: u32 = 64;
const DROPS_MAX: u32 = 1 << 12;
/// By the low bits of the client's port, which is the higher port and is not translated: the number of the connection's
/// packets whose records are still to be sent. Connections that share the bits share the entry.
#[map]
static RECENT_DROPS: Array<u32> = Array::with_max_entries(DROPS_MAX, 0);

/// The weight of a finished packet's record: 1 if the packet is slow, was dropped, has a parent or children, or comes
/// after a drop of its connection. Of the ordinary packets about 1 in `one_in` is sampled; its weight is the number of
/// ordinary packets since the previous sample. 0 if the record is not sent.
#[inline(never)]
pub fn weight(state: &State, one_in: u32) -> u32 {
    let header = &state.record.header;
    let Some(histogram) = LATENCY_HISTOGRAM.get_ptr_mut(0) else { return 1 };
    let Some(threshold_ns) = LATENCY_THRESHOLD_NS.get_ptr(0) else { return 1 };
    let is_dropped = header.outcome == Outcome::Dropped as u8;
    let is_after_drop = header.flow.protocol == IPPROTO_TCP && follows_drop(&header.flow, is_dropped);
    if header.flags.has(RecordFlags::CHILD | RecordFlags::PARENT) || is_dropped {
        return 1;
    }
    let ns = header.end_ns - header.start_ns;
    // Opaque, so that the register that is checked is the one that is used.
    let bucket = opaque(bucket(ns) as u64) as usize;
    // SAFETY: pointers to a map's number and to this CPU's histogram, whose counters a program that interrupts this
    // one can change: then one of both additions is lost.
    unsafe {
        if bucket < BUCKETS {
            (*histogram).counts[bucket] += 1;
        }
        if is_after_drop || ns >= threshold_ns.read_volatile() {
            return 1;
        }
        (*histogram).skipped += 1;
        if (*histogram).skipped < (*histogram).next {
            return 0;
        }
        let weight = (*histogram).skipped;
        (*histogram).skipped = 0;
        (*histogram).next = next_sample(one_in, bpf_get_prandom_u32());
        weight
    }
}

/// Whether a recent packet of the connection was dropped; remembers it if this one was.
#[inline(always)]
fn follows_drop(flow: &Flow, is_dropped: bool) -> bool {
    let (source, destination) = (flow.source_port as u32, flow.destination_port as u32);
    let client = if source > destination { source } else { destination };
    let Some(left) = RECENT_DROPS.get_ptr_mut(client & (DROPS_MAX - 1)) else { return false };
    // SAFETY: a pointer to a map's number. Two CPUs at the same time may count one packet too few.
    unsafe {
        let before = left.read_volatile();
        if is_dropped {
            left.write_volatile(SENT_AFTER_DROP);
        } else if before != 0 {
            left.write_volatile(before - 1);
        }
        before != 0
    }
}
