//! The accounting, which is pure (`overlay_trace_common::{cpu, way}`), applied to this CPU and the table of
//! states; and the record at the end.

use aya_ebpf::helpers::generated::{bpf_get_smp_processor_id, bpf_ringbuf_output};
use overlay_trace_common::{
    cpu::{Cpu, Followed, Packets},
    kernel::CPUS_MAX,
    record::{Counter, FLAG_WAY_FULL, HEADER_BYTES},
    stage_map::OTHER,
    way::{WAY_WORDS, Words},
};

use crate::{
    maps::{COUNTS, CPUS, RECORDS, STATES, State, setting},
    read::opaque,
    tail,
};

/// Do not wake the reader for each record: it looks by itself, several times a second.
const BPF_RB_NO_WAKEUP: u64 = 1;

/// This CPU, and its number.
#[inline(always)]
pub fn this_cpu() -> (&'static mut Cpu, u32) {
    let number = unsafe { bpf_get_smp_processor_id() };
    (cpu_of(number), number)
}

#[inline(always)]
fn cpu_of(number: u32) -> &'static mut Cpu {
    let index = opaque(number as u64) as usize & (CPUS_MAX - 1);
    unsafe { &mut *(&raw mut CPUS as *mut Cpu).add(index) }
}

/// The table of states.
pub struct States;

impl Packets for States {
    #[inline(always)]
    fn get(&self, number: u32) -> Option<(*mut Followed, *mut Words)> {
        let state = STATES.get_ptr_mut(number)?;
        unsafe { Some((&raw mut (*state).followed, &raw mut (*state).record.way)) }
    }

    #[inline(always)]
    fn let_go(&self, cpu: u16, skb: u64) {
        cpu_of(cpu as u32).let_go(skb);
    }
}

/// Gives the packet's time up to `now` to its open stage.
#[inline(always)]
pub fn close(state: &mut State, cpu: &Cpu, number: u32, now: u64) {
    cpu.close(number, &mut state.followed, &mut state.record.way, now);
}

/// Hands the finished record to the reader, unless it is one of those that others stand for.
#[inline(always)]
pub fn send(state: &mut State) {
    let Some(counts) = COUNTS.get_ptr_mut(0) else { return };
    let add = |counter: Counter, number: u64| unsafe { (*counts)[counter as usize] += number };
    let one_in = setting!(one_in);
    if one_in != 0 {
        state.record.header.stands_for = tail::stands_for(state, one_in);
        if state.record.header.stands_for == 0 {
            add(Counter::Finished, 1);
            add(Counter::LeftOut, 1);
            return add(Counter::Hits, state.followed.account.segments() as u64);
        }
    }
    let (length, is_overfull) = state.followed.account.finish(&mut state.record.way, OTHER);
    state.record.header.way_len = length as u16;
    if is_overfull {
        state.record.header.flags |= FLAG_WAY_FULL;
    }
    // Opaque, so that the register that is checked is the one that is used.
    let pairs = opaque(length + 1 >> 1);
    if pairs > WAY_WORDS as u64 / 2 {
        return;
    }
    let bytes = HEADER_BYTES as u64 + pairs * 8;
    let sent = unsafe {
        bpf_ringbuf_output(
            &raw const RECORDS as *mut _,
            &raw mut state.record as *mut _,
            bytes,
            BPF_RB_NO_WAKEUP,
        )
    };
    add(Counter::Finished, 1);
    add(Counter::Hits, length - state.followed.account.controls as u64);
    if sent == 0 {
        add(Counter::RecordBytes, bytes);
    } else {
        add(Counter::LostRecords, 1);
    }
}
