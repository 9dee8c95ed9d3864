//! The accounting, which is pure (`overlay_trace_common::{cpu, path}`), applied to this CPU and the packet table; and
//! the record at the end.

use aya_ebpf::helpers::generated::{bpf_get_smp_processor_id, bpf_ringbuf_output};
use overlay_trace_common::{
    abi::CPUS_MAX,
    cpu::{Context, Cpu, Packets, Tracked},
    flags::RecordFlags,
    path::PATH_WORDS,
    record::{Counter, HEADER_BYTES, Outcome},
    stage_map::OTHER,
};

use crate::{
    insn::opaque,
    maps::{COUNTS, CPUS, RECORDS, STATES, State, count, setting},
    tail_sampling,
};

/// Do not wake the reader for each record: it polls, several times a second.
const BPF_RB_NO_WAKEUP: u64 = 1;

/// The context of this run of a program; the clock has not been read yet.
#[inline(always)]
pub fn here() -> Context<'static> {
    // SAFETY: a helper without arguments that every program may call.
    let number = unsafe { bpf_get_smp_processor_id() };
    Context { cpu: cpu_of(number), number, now: 0 }
}

#[inline(always)]
fn cpu_of(number: u32) -> &'static Cpu {
    // Opaque, so that the register that is checked is the one that is used.
    let index = opaque(number as u64) as usize & (CPUS_MAX - 1);
    // SAFETY: the mask keeps the index in the array, whose length is a power of two.
    unsafe { &*(&raw const CPUS as *const Cpu).add(index) }
}

/// The packet table, for the accounting.
pub struct Table;

impl Packets for Table {
    #[inline(always)]
    fn interrupt_current(&self, context: Context, by: u8) {
        if let Some(state) = STATES.get_ptr_mut(context.cpu.packet.get()) {
            // SAFETY: an entry of the map. It is not the entry of the packet that is being accounted, which
            // `Context::work_on` and `Context::release` exclude; at other callers there is none.
            unsafe { Tracked::interrupt(&raw mut (*state).tracked, context, by) };
        }
    }

    #[inline(always)]
    fn drop_current(&self, cpu: u16, skb: u64) {
        cpu_of(cpu as u32).drop_current(skb);
    }
}

/// Assigns the packet's time up to now to its open stage.
#[inline(always)]
pub fn close(state: &mut State, context: Context) {
    context.close(&mut state.tracked, &mut state.record.path);
}

/// This CPU, which did not work on the packet, sees it.
#[inline(always)]
pub fn seen_here(state: &mut State, context: Context) {
    state.tracked.seen_by(context.number, &mut state.record.path, &Table);
}

/// Makes the record of a packet whose last span is closed.
#[inline(always)]
pub fn conclude(state: &mut State, context: Context, outcome: u8) {
    if !state.is_counted() {
        // No filter selects it, or it was counted when the header filter rejected it.
    } else if state.parsed == 0 {
        count(Counter::Filtered, 1);
    } else {
        let header = &mut state.record.header;
        header.end_ns = state.tracked.account.last_ns;
        header.cpu = context.number as u16;
        header.outcome = outcome;
        if outcome == Outcome::Split as u8 {
            header.segments = state.children;
        }
        send(state);
    }
}

/// Hands the finished record to the reader, unless another sample represents the packet.
#[inline(always)]
pub fn send(state: &mut State) {
    let Some(counts) = COUNTS.get_ptr_mut(0) else { return };
    // SAFETY: a pointer to this CPU's counters; see `count`.
    let add = |counter: Counter, number: u64| unsafe { (*counts)[counter as usize] += number };
    let one_in = setting!(one_in);
    if one_in != 0 {
        state.record.header.weight = tail_sampling::weight(state, one_in);
        if state.record.header.weight == 0 {
            add(Counter::Finished, 1);
            add(Counter::NotSampled, 1);
            return add(Counter::Hits, state.tracked.account.spans() as u64);
        }
    }
    let (length, is_full) = state.tracked.account.finish(&mut state.record.path, OTHER);
    state.record.header.path_len = length as u16;
    if is_full {
        state.record.header.flags |= RecordFlags::PATH_FULL;
    }
    // Opaque, so that the register that is checked is the one that is used.
    let pairs = opaque((length + 1) >> 1);
    if pairs > PATH_WORDS as u64 / 2 {
        return;
    }
    let bytes = HEADER_BYTES as u64 + pairs * 8;
    // SAFETY: the record has at least so many bytes, as was just checked; the helper only reads them.
    let sent = unsafe {
        bpf_ringbuf_output(
            &raw const RECORDS as *mut _,
            &raw mut state.record as *mut _,
            bytes,
            BPF_RB_NO_WAKEUP,
        )
    };
    add(Counter::Finished, 1);
    add(Counter::Hits, length - state.tracked.account.controls as u64);
    if sent == 0 {
        add(Counter::RecordBytes, bytes);
    } else {
        add(Counter::LostRecords, 1);
    }
}
