//! Packets that are made of other packets (copies, segments, fragments), and packets that become part of
//! another one.

use core::ffi::c_void;

use overlay_trace_common::{
    cpu::Cpu,
    record::{Counter, FLAG_CHILD, FLAG_PARENT, FLAGS_OF_TCP, Outcome},
    row::Row,
    stage_map::{BATCH_WAIT, COPY, FRAGMENT, GRO, GSO_SEGMENT, REASSEMBLY_WAIT, TC_CLASSIFY},
    way::HOP_BITS,
};

use crate::{
    account::{States, close, this_cpu},
    birth::{number_anew, reset},
    event::conclude,
    identify::identify,
    maps::{Record, STATES, State, count, setting},
    read::{self, Access, Copied, copied, field, now, opaque},
    state::{claim, find, find_anew, is_counted, leave, lost},
};

/// The most segments of one packet whose bytes are counted when it has been cut: 64 kB in packets of 512
/// bytes. Each one more burdens the verifier, which looks at a million instructions at the most.
const SEGMENTS_MAX: usize = 128;
/// The most fragments of one packet that are taken off at once; those of larger packets end, as merged too,
/// when they are freed. Each one more burdens the verifier.
const FRAGMENTS_MAX: usize = 12;

/// What is done to a copy is seen, or the copy freed, in so many ns after it was made; the data of one that a listener
/// has stay where they are.
const RIGHT_AWAY_NS: i64 = 1_000_000;

/// Not NULL and not an error number.
#[inline(always)]
pub fn is_packet(returned: u64) -> bool {
    returned != 0 && returned < 0xffff_ffff_ffff_f000
}

/// Whether no probe has seen the packet since it was made of another one.
#[inline(always)]
fn is_fresh(state: &State) -> bool {
    state.record.header.flags & FLAG_CHILD != 0 && state.followed.account.segments() == 0
}

/// Whether what is known of this address is of a copy that was of no use, and is gone: the kernel skips a probe in an
/// interrupt that comes upon the same probe, so that a copy's end may not be seen. What has its address then is told
/// by its data, which lie elsewhere.
#[inline(never)]
pub fn is_gone(skb: u64, state: &mut State) -> bool {
    let is_old = now().wrapping_sub(state.followed.account.last_ns) as i64 > RIGHT_AWAY_NS;
    if !is_old || !is_fresh(state) || state.heads.contains(&copied(skb, setting!(offsets.skb_head))) {
        return false;
    }
    forget(state);
    leave(state);
    true
}

/// Whether the packet is being cut into segments, and not one of those that were just cut off another one.
#[inline(always)]
fn is_being_cut(state: &State) -> bool {
    state.followed.account.stage == GSO_SEGMENT && !is_fresh(state)
}

/// The kernel is making one `sk_buff` of another: a copy, a segment or a fragment.
#[inline(always)]
pub fn made<A: Access>(new: u64, old: u64, row: Row) {
    if new == 0 || old == 0 {
        return;
    }
    let Some(parent) = find(old) else { return };
    let (cpu, number) = this_cpu();
    let now = now();
    if row.stage() == FRAGMENT {
        fragment(parent, new, old, cpu, number, now);
    } else {
        copy::<A>(parent, new, old, cpu, number, now);
    }
}

#[inline(always)]
fn copy<A: Access>(parent: &mut State, new: u64, old: u64, cpu: &mut Cpu, number: u32, now: u64) {
    let is_segment = is_being_cut(parent);
    if parent.followed.account.stage == REASSEMBLY_WAIT && find(new).is_some() {
        // Not a copy: what the first fragment holds is moved to the `sk_buff` of the last one.
        return;
    }
    let Some(child) = beget(parent, parent.record.header.id, new, cpu, number, now) else { return };
    child.record.header.bytes = parent.record.header.bytes;
    if !is_segment {
        child.record.header.segments = parent.record.header.segments;
        child.followed.account.stage = COPY;
        child.followed.account.interrupted_ns = 0;
        child.heads = [A::word::<{ field!(skb_head) }>(old), A::word::<{ field!(skb_head) }>(new)];
    }
    has_copy(parent, new);
}

/// Remembers the packet's last copy, and where it was made.
#[inline(always)]
fn has_copy(parent: &mut State, copy: u64) {
    parent.children += 1;
    parent.record.header.flags |= FLAG_PARENT;
    parent.copy = opaque(copy);
    parent.copied_ns = parent.followed.account.last_ns;
    parent.copied_place = parent.followed.account.place;
    parent.copied_stage = parent.followed.account.stage;
    parent.copied_before = parent.followed.account.before;
}

/// IP cuts a packet: into new fragments, which are still empty, or into those that it was once put together
/// of, where `old` is first the packet and then one fragment after the other.
#[inline(always)]
fn fragment(parent: &mut State, new: u64, old: u64, cpu: &mut Cpu, number: u32, now: u64) {
    let bytes: u32 = copied(new, setting!(offsets.skb_len));
    if bytes == 0 {
        if beget(parent, parent.record.header.id, new, cpu, number, now).is_some() {
            has_copy(parent, new);
        }
        return;
    }
    let id = if is_fresh(parent) {
        parent.record.header.parent
    } else {
        parent.children += chained(new);
        let id = go_on_as_part(parent, cpu, number, now);
        parent.record.header.bytes = copied(old, setting!(offsets.skb_len));
        id
    };
    if let Some(child) = beget(parent, id, new, cpu, number, now) {
        child.record.header.bytes = bytes;
    }
}

/// How many there are in a chain of fragments.
#[inline(always)]
fn chained(first: u64) -> u16 {
    let mut part = first;
    let mut number = 0;
    while number < FRAGMENTS_MAX && part != 0 {
        part = copied(part, setting!(offsets.skb_next));
        number += 1;
    }
    number as u16
}

/// Begins the way of a packet that is made of another one, where that one is: it waits for its turn.
#[inline(always)]
fn beget(
    parent: &State,
    id: u64,
    skb: u64,
    cpu: &mut Cpu,
    number: u32,
    now: u64,
) -> Option<&'static mut State> {
    let state = match find_anew(skb, number) {
        Some(known) => {
            outlived(known, cpu, number, now);
            known
        }
        None => claim(skb)?,
    };
    reset(state, number, now);
    state.followed.account.stage = parent.followed.account.stage;
    state.followed.account.before = parent.followed.account.before;
    state.followed.account.go(&mut state.record.way, parent.followed.account.place);
    state.followed.account.interrupt(now, BATCH_WAIT);
    state.identified = parent.identified;
    state.matched = parent.matched;
    state.rejected = parent.rejected;
    state.device = parent.device;
    state.sock = parent.sock;
    state.parent = parent.followed.number;
    state.arrived = parent.arrived;
    state.at = parent.at;
    let header = &mut state.record.header;
    header.parent = id;
    header.flow = parent.record.header.flow;
    header.flags = FLAG_CHILD | parent.record.header.flags & FLAGS_OF_TCP;
    if is_counted(state) {
        count(Counter::Started, 1);
    }
    Some(state)
}

/// What is known under the address of a new packet is over.
#[inline(always)]
fn outlived(known: &mut State, cpu: &mut Cpu, number: u32, now: u64) {
    if is_fresh(known) {
        forget(known);
    } else if known.followed.account.stage == GRO {
        // It was chained to another packet, and now comes off the chain.
        end_as(known, Outcome::Merged, cpu, number, now);
    } else {
        lost(known);
    }
}

/// What was begun with the packet's making is no packet, and nobody's child.
#[inline(always)]
fn forget(state: &State) {
    uncount(state);
    let Some(parent) = STATES.get_ptr_mut(state.parent) else { return };
    let parent = unsafe { &mut *parent };
    if parent.record.header.id == state.record.header.parent && parent.children != 0 {
        parent.children -= 1;
    }
}

#[inline(always)]
fn uncount(state: &State) {
    if is_counted(state) {
        count(Counter::Started, u64::MAX);
    }
}

#[inline(always)]
fn end_as(state: &mut State, outcome: Outcome, cpu: &mut Cpu, number: u32, now: u64) {
    state.followed.turn_up(number, &mut state.record.way, &States);
    close(state, cpu, number, now);
    conclude(state, number, outcome as u8);
}

/// The packet goes on in its own `sk_buff` as the first of its parts. Returns the number of the packet,
/// whose way is over.
#[inline(always)]
fn go_on_as_part(state: &mut State, cpu: &mut Cpu, number: u32, now: u64) -> u64 {
    let id = state.record.header.id;
    state.children += 1;
    state.record.header.flags |= FLAG_PARENT;
    end_as(state, Outcome::Split, cpu, number, now);
    if is_counted(state) {
        count(Counter::Started, 1);
    }
    let (stage, place) = (state.followed.account.stage, state.followed.account.place);
    state.followed.account.begin(&mut state.record.way, now, stage, number);
    state.followed.account.go(&mut state.record.way, place);
    state.copy = 0;
    state.children = 0;
    number_anew(state);
    let header = &mut state.record.header;
    header.parent = id;
    header.start_ns = now;
    header.flags = FLAG_CHILD | header.flags & FLAGS_OF_TCP;
    header.outcome = 0;
    header.segments = 1;
    id
}

/// The packet was cut into segments, which are counted from now on. If they were chained to it by GRO, it is
/// the first of them itself.
#[inline(always)]
pub fn split(parent: &mut State, skb: u64, first: u64, cpu: &mut Cpu, number: u32, now: u64) {
    if !is_packet(first) {
        return;
    }
    let mut segment = first;
    if opaque(first) == opaque(skb) {
        go_on_as_part(parent, cpu, number, now);
        parent.record.header.bytes = innermost_bytes(parent, skb);
        segment = copied(skb, setting!(offsets.skb_next));
    } else {
        parent.record.header.outcome = Outcome::Split as u8;
    }
    let mut followed = 0;
    while followed < SEGMENTS_MAX && segment != 0 {
        if let Some(child) = find(segment) {
            child.record.header.bytes = innermost_bytes(child, segment);
            child.record.header.start_ns = now;
            child.followed.account.last_ns = now;
            child.followed.account.interrupted_ns = now;
        }
        segment = copied(segment, setting!(offsets.skb_next));
        followed += 1;
    }
}

/// How many bytes of headers are around the innermost IP packet; the same for its parts.
#[inline(always)]
fn bytes_around(parent: &State, skb: u64) -> u32 {
    let bytes: u32 = copied(skb, setting!(offsets.skb_len));
    if bytes > parent.record.header.bytes { bytes - parent.record.header.bytes } else { 0 }
}

/// Bytes of a segment from its innermost IP header on.
#[inline(always)]
fn innermost_bytes(state: &State, skb: u64) -> u32 {
    let is_inside = state.followed.account.place >> HOP_BITS != 0;
    let header = if is_inside {
        setting!(offsets.skb_inner_network_header)
    } else {
        setting!(offsets.skb_network_header)
    };
    let header: u16 = copied(skb, header);
    let head: u64 = copied(skb, setting!(offsets.skb_head));
    let data: u64 = copied(skb, setting!(offsets.skb_data));
    let bytes: u32 = copied(skb, setting!(offsets.skb_len));
    bytes - (head + header as u64 - data) as u32
}

/// A function has returned a fragment of the packet, which now has its data.
#[inline(always)]
pub fn cut_off(skb: u64, part: u64) {
    if skb == 0 || !is_packet(part) {
        return;
    }
    let (Some(parent), Some(child)) = (find(skb), find(part)) else { return };
    let bytes: u32 = copied(part, setting!(offsets.skb_len));
    child.record.header.bytes = bytes - bytes_around(parent, skb);
}

/// GRO has made a packet part of `keeper`.
#[inline(always)]
pub fn merged(keeper: u64, skb: u64) {
    let (Some(keeper), Some(part)) = (find(keeper), find(skb)) else { return };
    keeper.record.header.segments += part.record.header.segments;
}

/// A packet was put together of fragments: that of `head` goes on, the others are part of it.
#[inline(always)]
pub fn joined(head: u64) {
    let Some(state) = find(head) else { return };
    let (cpu, number) = this_cpu();
    let now = now();
    let start: u64 = copied(head, setting!(offsets.skb_head));
    let end: u32 = copied(head, setting!(offsets.skb_end));
    let mut part: u64 = copied(start + end as u64, setting!(offsets.shared_frag_list));
    let mut followed = 0;
    while followed < FRAGMENTS_MAX && part != 0 {
        if let Some(member) = find(part) {
            absorb(member, cpu, number, now);
        }
        part = copied(part, setting!(offsets.skb_next));
        followed += 1;
    }
    // Now there is a header of the whole packet; but its addresses may have been translated since it was made.
    let (flow, place) = (state.record.header.flow, state.followed.account.place);
    let is_known = state.record.header.flags & FLAG_CHILD != 0;
    if identify::<Copied>(head, true, state) && is_known {
        state.record.header.flow = flow;
    }
    if state.followed.account.place == place {
        // Nothing is around it, and the length in its header is still that of the first fragment.
        state.record.header.bytes = copied(head, setting!(offsets.skb_len));
    }
    state.followed.account.go(&mut state.record.way, place);
}

#[inline(never)]
fn absorb(member: &mut State, cpu: &mut Cpu, number: u32, now: u64) {
    if is_fresh(member) {
        forget(member);
    } else {
        end_as(member, Outcome::Merged, cpu, number, now);
    }
    leave(member);
}

/// Whether a packet that is freed leaves no record: it goes on as its copy, or never was a packet.
#[inline(always)]
pub fn leaves_no_record(state: &mut State, said: u8) -> bool {
    if said == Outcome::Freed as u8 && handed_on(state) {
        return true;
    }
    // A copy that was of no use: made for a listener in another namespace, or for a look at the addresses.
    // Reassembly makes one of the last fragment, and moves the first fragment in its place.
    let stage = state.followed.account.stage;
    let is_idle = stage == COPY && said == Outcome::Freed as u8 || stage == REASSEMBLY_WAIT;
    let is_copy = is_idle && is_fresh(state);
    if is_copy {
        forget(state);
        leave(state);
    }
    is_copy
}

/// How a packet ends that is said to end so.
#[inline(always)]
pub fn outcome(state: &State, said: u8) -> u8 {
    let stage = state.followed.account.stage;
    if state.record.header.outcome == Outcome::Split as u8 {
        Outcome::Split as u8
    } else if stage == GRO || stage == REASSEMBLY_WAIT && said != Outcome::Dropped as u8 {
        Outcome::Merged as u8
    } else if said == Outcome::Freed as u8 && goes_on_as_copies(state) {
        Outcome::Split as u8
    } else {
        said
    }
}

/// Whether the packet was freed where copies or fragments of it were made, which go on in its place.
#[inline(always)]
fn goes_on_as_copies(state: &State) -> bool {
    let stage = state.followed.account.stage;
    state.copy != 0
        && state.followed.account.place == state.copied_place
        && (stage == state.copied_stage || state.copied_stage == TC_CLASSIFY && stage == state.copied_before)
}

/// A packet that is freed as soon as it has been copied (to be alone in having its data, or to get more
/// headroom) goes on as its copy: the copy inherits its way.
#[inline(always)]
fn handed_on(state: &mut State) -> bool {
    let stage = state.followed.account.stage;
    if state.copy == 0
        || state.copied_ns != state.followed.account.last_ns
        || is_being_cut(state)
        || stage == FRAGMENT
    {
        return false;
    }
    let Some(heir) = find(state.copy) else { return false };
    if heir.record.header.parent != state.record.header.id || !is_fresh(heir) {
        return false;
    }
    let copied = read::copy(
        &raw mut heir.record as *mut c_void,
        size_of::<Record>() as u32,
        &raw const state.record as u64,
    );
    if copied {
        heir.followed.account = state.followed.account;
        // The copy was counted as a packet of its own, and as a child, when it was made.
        uncount(state);
        heir.parent = state.parent;
        heir.children = state.children.wrapping_sub(1);
        leave(state);
    }
    copied
}
