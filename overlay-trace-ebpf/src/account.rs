//! The accounting, which is pure (`overlay_trace_common::{cpu, path}`), applied to this CPU and the packet table; and
//! the record at the end.

use aya_ebpf::helpers::generated::{bpf_get_smp_processor_id, bpf_ringbuf_output};
use overlay_trace_common::{
    abi::CPUS_MAX,
    cpu::{Context, Cpu, Packets, Tracked},
    edges::Fate,
    flags::RecordFlags,
    path::PATH_WORDS,
    record::{Counter, HEADER_BYTES, Outcome},
    stage_map::{OTHER, RECEIVE, UNSEEN_WAIT},
};

use crate::{
    edges,
    insn::{exposed, opaque},
    maps::{COUNTS, CPUS, PARSED, RECORDS, STATES, State, count, setting},
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

/// The state of a CPU.
#[inline(always)]
pub fn cpu_of(number: u32) -> &'static Cpu {
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
    let number = state.tracked.number;
    exposed(state);
    conclude_numbered(number, context.number, outcome as u32);
    exposed(state);
}

/// Makes the record of the packet with this number in the packet table, which ends on this CPU. A global function: the
/// verifier follows it once for a program, and not again from each state in which it may be called.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn conclude_numbered(number: u32, cpu: u32, outcome: u32) -> u32 {
    let Some(state) = STATES.get_ptr_mut(number) else { return 0 };
    // SAFETY: an entry of the map. The caller has a handle of it, but uses no reference meanwhile (`exposed`).
    let state = unsafe { &mut *state };
    if !state.is_counted() {
        // No filter selects it, or it was counted when the header filter rejected it.
        if !state.is_rejected() {
            edges::ended(state, Fate::Rejected);
        }
    } else if state.parsed != PARSED {
        count(Counter::Unreadable, 1);
        edges::ended(state, Fate::Unreadable);
    } else {
        let header = &mut state.record.header;
        header.end_ns = state.tracked.account.last_ns;
        header.cpu = cpu as u16;
        header.outcome = outcome as u8;
        if outcome == Outcome::Split as u32 {
            header.segments = state.children;
        }
        let fate = if send(state) { Fate::Recorded } else { Fate::LostRecord };
        edges::ended(state, fate);
    }
    0
}

/// Ends the path of a packet that a device has: it ended when the device took the packet over. `freed_ns`: when the
/// driver freed the packet, 0 if that was not seen.
#[inline(never)]
pub fn conclude_sent(state: &mut State, freed_ns: u64) {
    let (handed_ns, resumed_ns) = (state.handed_ns.get(), state.resumed_ns.get());
    let number = state.tracked.account.cpu as u32;
    state.handed_ns.set(0);
    state.tracked.account.close(&mut state.record.path, handed_ns, resumed_ns, number);
    if freed_ns != 0 {
        let completion = freed_ns.saturating_sub(state.tracked.account.last_ns);
        state.tracked.account.complete(&mut state.record.path, completion);
    }
    conclude(state, Context { number, ..here() }, Outcome::Freed as u8);
}

/// Whether the softirq that took the packet up from its device has ended, and no probe has seen the packet since: then
/// it lies in a queue, or its end was missed.
#[inline(always)]
pub fn is_left(state: &State) -> bool {
    let account = &state.tracked.account;
    if account.stage != RECEIVE || account.interrupted_ns == 0 {
        return false;
    }
    account.interrupted_by == UNSEEN_WAIT
        || cpu_of(account.cpu as u32).softirq_ns.get() > account.interrupted_ns
}

/// Ends the path of a packet that its softirq has left, where it was left.
#[inline(never)]
pub fn conclude_left(state: &mut State, outcome: u8) {
    let number = state.tracked.account.cpu as u32;
    let context = Context { now: state.tracked.account.interrupted_ns, number, ..here() };
    state.tracked.account.interrupted_ns = 0;
    close(state, context);
    conclude(state, context, outcome);
}

/// Hands the finished record to the reader, unless another sample represents the packet. Returns false if it is lost.
#[inline(always)]
pub fn send(state: &mut State) -> bool {
    let Some(counts) = COUNTS.get_ptr_mut(0) else { return false };
    // SAFETY: a pointer to this CPU's counters; see `count`.
    let add = |counter: Counter, number: u64| unsafe { (*counts)[counter as usize] += number };
    let one_in = setting!(one_in);
    if one_in != 0 {
        state.record.header.weight = tail_sampling::weight(state, one_in);
        if state.record.header.weight == 0 {
            add(Counter::Finished, 1);
            add(Counter::NotSampled, 1);
            add(Counter::Hits, state.tracked.account.spans() as u64);
            return true;
        }
    }
    let sample = setting!(sample);
    if sample != 0 {
        state.record.header.weight = state.record.header.times() as u32 * sample;
    }
    let (length, is_full) = state.tracked.account.finish(&mut state.record.path, OTHER);
    state.record.header.path_len = length as u16;
    if is_full {
        state.record.header.flags |= RecordFlags::PATH_FULL;
    }
    // Opaque, so that the register that is checked is the one that is used.
    let pairs = opaque((length + 1) >> 1);
    if pairs > PATH_WORDS as u64 / 2 {
        return false;
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
    sent == 0
}
