//! How a packet's path ends where it was cloned, segmented or reassembled.

use core::ffi::c_void;

use overlay_trace_common::{
    record::Outcome,
    stage_map::{COPY, FRAGMENT, GRO, REASSEMBLY_WAIT, TC_CLASSIFY},
};

use crate::{
    clone_tracking::{forget, is_being_segmented, is_fresh, uncount},
    maps::{Record, State},
    packet_table::{Packet, release},
    read,
};

/// Whether a packet that is freed leaves no record: its clone continues it, or it is an unused clone.
#[inline(always)]
pub fn leaves_no_record(packet: &mut Packet, said: u8) -> bool {
    if said == Outcome::Freed as u8 && handed_on(packet) {
        return true;
    }
    // Unused clones are made for a packet socket in another namespace, or for a look at the addresses. Reassembly clones
    // the last fragment, and moves the first fragment in its place.
    let stage = packet.tracked.account.stage;
    let is_idle = stage == COPY && said == Outcome::Freed as u8 || stage == REASSEMBLY_WAIT;
    let is_unused = is_idle && is_fresh(packet);
    if is_unused {
        forget(packet);
        release(packet);
    }
    is_unused
}

/// The outcome of a packet whose probe says `said`.
#[inline(always)]
pub fn outcome(state: &State, said: u8) -> u8 {
    let stage = state.tracked.account.stage;
    if state.record.header.outcome == Outcome::Split as u8 {
        Outcome::Split as u8
    } else if stage == GRO || stage == REASSEMBLY_WAIT && said != Outcome::Dropped as u8 {
        Outcome::Merged as u8
    } else if said == Outcome::Freed as u8 && continues_as_clones(state) {
        Outcome::Split as u8
    } else {
        said
    }
}

/// Whether the packet was freed where clones or fragments of it were made, which continue it.
#[inline(always)]
fn continues_as_clones(state: &State) -> bool {
    let stage = state.tracked.account.stage;
    state.clone != 0
        && state.tracked.account.position == state.cloned_position
        && (stage == state.cloned_stage || state.cloned_stage == TC_CLASSIFY && stage == state.cloned_before)
}

/// A packet that is freed as soon as it has been cloned (to have the data to itself, or for more headroom) continues as
/// its clone, which inherits the path.
#[inline(always)]
fn handed_on(packet: &mut Packet) -> bool {
    let stage = packet.tracked.account.stage;
    if packet.clone == 0
        || packet.cloned_ns != packet.tracked.account.last_ns
        || is_being_segmented(packet)
        || stage == FRAGMENT
    {
        return false;
    }
    let Some(mut heir) = packet.find_other(packet.clone) else { return false };
    if heir.record.header.parent != packet.record.header.id || !is_fresh(&heir) {
        return false;
    }
    // SAFETY: a record is made of integers, and the target is one.
    let is_copied = unsafe {
        read::copy(
            &raw mut heir.record as *mut c_void,
            size_of::<Record>() as u32,
            &raw const packet.record as u64,
        )
    };
    if is_copied {
        heir.tracked.account = packet.tracked.account;
        // The clone was counted as a packet of its own, and as a child, when it was made.
        uncount(packet);
        heir.parent = packet.parent;
        heir.parsed = packet.parsed;
        heir.entry = packet.entry;
        heir.entry_segments = packet.entry_segments;
        heir.entry_packets = packet.entry_packets;
        heir.children = packet.children.wrapping_sub(1);
        release(packet);
    }
    is_copied
}
