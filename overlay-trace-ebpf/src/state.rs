//! The state table: finding, claiming and leaving a packet's state.
//!
//! The tags, four to a bucket, stand apart from the states, so that looking for an unknown packet
//! touches one cache line. Who claims a place takes it first, and writes its tag then.

use overlay_trace_common::{cpu::Cpu, kernel::WAYS, record::Counter, stage_map::COPY};

use crate::{
    account::States,
    atomic::{give, take},
    family::is_gone,
    maps::{ARMED, Bucket, STATES, State, TAGS, count, setting},
    read::{low_half, now, opaque},
};

/// After this time without a probe a state is given up when its place is needed.
const STALE_NS: u64 = 20_000_000_000;

#[inline(always)]
fn bucket_of(skb: u64) -> u32 {
    // An sk_buff begins at a multiple of 64 bytes.
    (low_half(skb) >> 6).wrapping_mul(0x9e37_79b1) >> 12 & setting!(bucket_mask)
}

#[inline(always)]
fn state_at(bucket: u32, way: usize) -> Option<&'static mut State> {
    STATES.get_ptr_mut(bucket * WAYS as u32 + way as u32).map(|state| unsafe { &mut *state })
}

/// The state of a packet that is known. Most often it is the one that the CPU is busy with.
#[inline(always)]
pub fn find_near(skb: u64, cpu: &Cpu, number: u32) -> Option<&'static mut State> {
    busy_with(skb, cpu).or_else(|| find_anew(skb, number))
}

/// The state of a packet that is known and that this CPU was not busy with.
#[inline(always)]
pub fn find_anew(skb: u64, number: u32) -> Option<&'static mut State> {
    let state = find(skb)?;
    if state.followed.account.stage == COPY && is_gone(skb, state) {
        return None;
    }
    state.followed.turn_up(number, &mut state.record.way, &States);
    Some(state)
}

/// The state of the packet, if it is the one that the CPU is busy with.
#[inline(always)]
pub fn busy_with(skb: u64, cpu: &Cpu) -> Option<&'static mut State> {
    let key = opaque(skb);
    if cpu.skb != key {
        return None;
    }
    let state = STATES.get_ptr_mut(cpu.packet).map(|state| unsafe { &mut *state })?;
    (state.followed.skb == key).then_some(state)
}

/// The state of a packet that is known.
#[inline(always)]
pub fn find(skb: u64) -> Option<&'static mut State> {
    let key = opaque(skb);
    let bucket = bucket_of(key);
    let places = TAGS.get_ptr(bucket)?;
    let mut way = 0;
    while way < WAYS {
        if unsafe { (&raw const (*places).tags[way]).read_volatile() } == key {
            return state_at(bucket, way);
        }
        way += 1;
    }
    None
}

/// A free place for a packet that is not known.
#[inline(always)]
pub fn claim(skb: u64) -> Option<&'static mut State> {
    let key = opaque(skb);
    let bucket = bucket_of(key);
    let places = TAGS.get_ptr_mut(bucket)?;
    let mut way = 0;
    while way < WAYS {
        let tag = unsafe { &raw mut (*places).tags[way] };
        if unsafe { tag.read_volatile() } == 0 && take(unsafe { &raw mut (*places).holders[way] }) {
            unsafe { tag.write_volatile(key) };
            let state = state_at(bucket, way)?;
            state.followed.number = bucket * WAYS as u32 + way as u32;
            state.followed.skb = key;
            return Some(state);
        }
        way += 1;
    }
    claim_stale(key, bucket, places)
}

/// The place of a packet of which nothing has been seen for long.
#[inline(always)]
fn claim_stale(key: u64, bucket: u32, places: *mut Bucket) -> Option<&'static mut State> {
    let now = now();
    let mut way = 0;
    while way < WAYS {
        let state = state_at(bucket, way)?;
        if now.wrapping_sub(state.followed.account.last_ns) as i64 > STALE_NS as i64 {
            unsafe { (&raw mut (*places).tags[way]).write_volatile(key) };
            state.followed.skb = key;
            lost(state);
            return Some(state);
        }
        way += 1;
    }
    count(Counter::StateFull, 1);
    None
}

/// Whether the packet is one that the filter asks for, so that it is in the counts.
#[inline(always)]
pub fn is_counted(state: &State) -> bool {
    state.matched != 0 && state.rejected == 0
}

/// The end of the packet that the state is of was not seen.
#[inline(always)]
pub fn lost(state: &State) {
    if is_counted(state) && !is_over() {
        count(Counter::LostEnd, 1);
    }
}

/// Whether no more ways begin. The programs are detached one after the other then: what they do not show any
/// more is not lost, but was on its way when the recording ended.
#[inline(always)]
pub fn is_over() -> bool {
    armed() == 0
}

/// How far the recording has come: which ways may begin (`overlay_trace_common::kernel::ARMED_BIRTHS`, `ARMED_ALL`).
#[inline(always)]
pub fn armed() -> u64 {
    ARMED.get_ptr(0).map_or(0, |armed| unsafe { armed.read_volatile() })
}

/// Gives a packet's place free.
#[inline(always)]
pub fn leave(state: &mut State) {
    state.followed.skb = 0;
    if let Some(places) = TAGS.get_ptr_mut(state.followed.number / WAYS as u32) {
        let way = state.followed.number as usize % WAYS;
        let tag = unsafe { &raw mut (*places).tags[way] };
        // Given back once, also if the packet's end is seen twice.
        if unsafe { tag.read_volatile() } != 0 {
            unsafe { tag.write_volatile(0) };
            give(unsafe { &raw mut (*places).holders[way] });
        }
    }
}
