//! Packets that are made of other packets: segments and copies.

use core::ffi::c_void;

use overlay_trace_common::{
    cpu::Cpu,
    record::{Counter, FLAG_CHILD, FLAG_PARENT, Outcome},
};

use crate::{
    account::this_cpu,
    birth::reset,
    maps::{Record, State, count, setting},
    read::{self, now, opaque},
    state::{claim, find, is_counted, leave, lost},
};

/// How many segments of one packet are followed.
const SEGMENTS_MAX: u16 = 64;

/// Begins the ways of the segments that the packet was cut into; each has it as its parent.
#[inline(always)]
pub fn split(parent: &mut State, first: u64, cpu: &mut Cpu, number: u32, now: u64) {
    if !is_packet(first) {
        return;
    }
    let mut segment = first;
    let mut followed = 0;
    while followed < SEGMENTS_MAX && segment != 0 {
        child(parent, segment, cpu, number, now);
        segment = read::copied(segment, setting!(offsets.skb_next));
        followed += 1;
    }
    let header = &mut parent.record.header;
    header.outcome = Outcome::Split as u8;
    header.segments = followed;
    header.flags |= FLAG_PARENT;
}

/// Not NULL and not an error number.
#[inline(always)]
pub fn is_packet(returned: u64) -> bool {
    returned != 0 && returned < 0xffff_ffff_ffff_f000
}

/// Begins the way of a packet that was made of another one, where that one is.
#[inline(always)]
fn child(parent: &State, skb: u64, cpu: &mut Cpu, number: u32, now: u64) {
    let state = match find(skb) {
        Some(known) => {
            lost(known);
            known
        }
        None => {
            let Some(free) = claim(skb) else { return };
            free
        }
    };
    reset(state, cpu, number, now);
    state.followed.account.stage = parent.followed.account.stage;
    state.followed.account.go(&mut state.record.way, parent.followed.account.place);
    state.identified = parent.identified;
    state.matched = parent.matched;
    state.rejected = parent.rejected;
    state.device = parent.device;
    state.arrived = parent.arrived;
    state.transmit_stage = parent.transmit_stage;
    state.up = parent.up;
    let header = &mut state.record.header;
    header.parent = parent.record.header.id;
    header.flow = parent.record.header.flow;
    header.flags = FLAG_CHILD;
    header.bytes = read::copied(skb, setting!(offsets.skb_len));
    if is_counted(state) {
        count(Counter::Started, 1);
    }
}

/// A function has returned a copy of the packet.
#[inline(always)]
pub fn copy(skb: u64, copy: u64) {
    if skb == 0 || !is_packet(copy) {
        return;
    }
    let Some(parent) = find(skb) else { return };
    let (cpu, number) = this_cpu();
    child(parent, copy, cpu, number, now());
    parent.record.header.flags |= FLAG_PARENT;
    parent.copy = opaque(copy);
    parent.copied_ns = parent.followed.account.last_ns;
}

/// A packet that is freed as soon as it has been copied (to be alone in having its data, or to get more
/// headroom) goes on as its copy: the copy inherits its way.
#[inline(always)]
pub fn handed_on(state: &mut State) -> bool {
    if state.copy == 0 || state.copied_ns != state.followed.account.last_ns {
        return false;
    }
    let Some(heir) = find(state.copy) else { return false };
    if heir.record.header.parent != state.record.header.id
        || heir.followed.account.length != heir.followed.account.controls
    {
        return false;
    }
    let copied = read::copy(
        &raw mut heir.record as *mut c_void,
        size_of::<Record>() as u32,
        &raw const state.record as u64,
    );
    if copied {
        heir.followed.account = state.followed.account;
        // The copy was counted as a packet of its own when it was made.
        if is_counted(state) {
            count(Counter::Started, u64::MAX);
        }
        leave(state);
    }
    copied
}
