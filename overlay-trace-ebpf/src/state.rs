//! The state table: finding, claiming and leaving a packet's state.
//!
//! The tags, four to a bucket, stand apart from the states, so that looking for an unknown packet
//! touches one cache line. A place is claimed by compare-and-swap of its tag.

use overlay_trace_common::{kernel::WAYS, record::Counter};

use crate::{
    atomic::replace_zero,
    maps::{STATES, State, TAGS, count, setting},
    read::{low_half, opaque},
};

/// After this time without a probe a state is given up when its place is needed.
const STALE_NS: u64 = 20_000_000_000;

/// A packet's state and where it is.
#[derive(Clone, Copy)]
pub struct Found {
    pub state: *mut State,
    /// Number of the state in its table.
    pub number: u32,
    tag: *mut u64,
}

impl Found {
    #[inline(always)]
    pub fn get(&self) -> &'static mut State {
        unsafe { &mut *self.state }
    }

    /// Gives the place free.
    #[inline(always)]
    pub fn leave(&self) {
        unsafe { self.tag.write_volatile(0) }
    }
}

#[inline(always)]
fn bucket_of(skb: u64) -> u32 {
    // An sk_buff begins at a multiple of 64 bytes.
    (low_half(skb) >> 6).wrapping_mul(0x9e37_79b1) >> 12 & setting!(bucket_mask)
}

#[inline(always)]
fn place(bucket: u32, way: usize, tags: *mut [u64; WAYS]) -> Option<Found> {
    let number = bucket * WAYS as u32 + way as u32;
    let state = STATES.get_ptr_mut(number)?;
    Some(Found { state, number, tag: unsafe { &raw mut (*tags)[way] } })
}

/// The state of a packet that is known.
#[inline(always)]
pub fn find(skb: u64) -> Option<Found> {
    let key = opaque(skb);
    let bucket = bucket_of(key);
    let tags = TAGS.get_ptr_mut(bucket)?;
    let mut way = 0;
    while way < WAYS {
        if unsafe { (&raw const (*tags)[way]).read_volatile() } == key {
            return place(bucket, way, tags);
        }
        way += 1;
    }
    None
}

/// A free place for a packet that is not known.
#[inline(always)]
pub fn claim(skb: u64, now: u64) -> Option<Found> {
    let key = opaque(skb);
    let bucket = bucket_of(key);
    let tags = TAGS.get_ptr_mut(bucket)?;
    let mut way = 0;
    while way < WAYS {
        if replace_zero(unsafe { &raw mut (*tags)[way] }, key) {
            return place(bucket, way, tags);
        }
        way += 1;
    }
    claim_stale(key, bucket, tags, now)
}

#[inline(always)]
fn claim_stale(key: u64, bucket: u32, tags: *mut [u64; WAYS], now: u64) -> Option<Found> {
    let mut way = 0;
    while way < WAYS {
        let found = place(bucket, way, tags)?;
        if now.wrapping_sub(found.get().last_ns) as i64 > STALE_NS as i64 {
            unsafe { found.tag.write_volatile(key) };
            count(Counter::LostEnd, 1);
            return Some(found);
        }
        way += 1;
    }
    count(Counter::StateFull, 1);
    None
}
