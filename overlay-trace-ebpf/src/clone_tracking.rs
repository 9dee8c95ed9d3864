//! Clones of packets, and GSO segmentation: the lineage of a packet.
//!
//! A clone is tracked as a child of its original from the moment that the kernel makes it. Most clones are of no
//! consequence: the original is freed right away, and the clone inherits its path, or the clone is freed unused.

use overlay_trace_common::{
    cpu::Context,
    flags::RecordFlags,
    headers::{IPPROTO_TCP, IPV6_HEADER},
    path::HOP_BITS,
    record::{Counter, Outcome},
    stage_map::{BATCH_WAIT, COPY, GRO, GSO_SEGMENT, REASSEMBLY_WAIT},
};

use crate::{
    account::{close, conclude, seen_here},
    insn::opaque,
    maps::{STATES, State, count, setting},
    packet_table::{Lookup, Packet, Table, missed_end, release},
    read::{Access, copied, field, now},
    track_start::{renumber, reset},
};

/// The offset of a TCP header's sequence number.
const TCP_SEQUENCE: u32 = 4;

/// The most segments of one packet whose bytes are counted: 64 kB in packets of 512 bytes. The loop is unrolled by the
/// verifier, which gives up after a million instructions.
const SEGMENTS_MAX: usize = 128;

/// A clone that is used or freed at all is so within this time; a packet that is found later at a fresh clone's address
/// may be another one. (A clone that a packet socket holds keeps its data where they are.)
const CLONE_USE_NS: i64 = 1_000_000;

/// Whether a function's result is a packet: neither NULL nor an error number.
#[inline(always)]
pub fn is_packet(returned: u64) -> bool {
    returned != 0 && returned < 0xffff_ffff_ffff_f000
}

/// Whether no probe has seen the packet since it was made of another one.
#[inline(always)]
pub fn is_fresh(state: &State) -> bool {
    state.record.header.flags.has(RecordFlags::CHILD) && state.tracked.account.spans() == 0
}

/// A known packet that this CPU did not work on.
#[inline(always)]
pub fn find(table: Table, skb: u64, context: Context) -> Lookup {
    seen(table.find(skb)?, skb, context)
}

/// A packet that was found, and that this CPU did not work on: if it is still the one that is known.
#[inline(always)]
pub fn seen(mut packet: Packet<'static>, skb: u64, context: Context) -> Lookup {
    if packet.tracked.account.stage == COPY && is_gone(skb, &mut packet) {
        return Err(packet.into_table());
    }
    seen_here(&mut packet, context);
    Ok(packet)
}

/// A known packet. Most often it is the CPU's current packet.
#[inline(always)]
pub fn find_near(table: Table, skb: u64, context: Context) -> Lookup {
    match table.find_current(skb, context) {
        Err(table) => find(table, skb, context),
        current => current,
    }
}

/// Whether the state under this address is that of an unused clone that is gone: the kernel skips a probe in an interrupt
/// that comes upon the same probe, so a clone's end can be missed. The packet that has its address now is recognised by
/// its data buffer, which is another one.
#[inline(never)]
fn is_gone(skb: u64, state: &mut State) -> bool {
    let is_old = now().wrapping_sub(state.tracked.account.last_ns) as i64 > CLONE_USE_NS;
    if !is_old || !is_fresh(state) || state.heads.contains(&copied(skb, setting!(offsets.skb_head))) {
        return false;
    }
    forget(state);
    release(state);
    true
}

/// Whether the packet is being segmented, and is not a segment that was just made.
#[inline(always)]
pub fn is_being_segmented(state: &State) -> bool {
    state.tracked.account.stage == GSO_SEGMENT && !is_fresh(state)
}

/// The kernel clones a packet, or makes a segment of it.
#[inline(always)]
pub fn clone<A: Access>(parent: &mut Packet, new: u64, old: u64, context: Context) {
    let is_segment = is_being_segmented(parent);
    if parent.tracked.account.stage == REASSEMBLY_WAIT && parent.find_other(new).is_some() {
        // Not a clone: the content of the first fragment moves to the `sk_buff` of the last one.
        return;
    }
    let Some(mut child) = start_child(parent, parent.record.header.id, new, context) else { return };
    child.record.header.bytes = parent.record.header.bytes;
    if !is_segment {
        child.record.header.segments = parent.record.header.segments;
        child.tracked.account.stage = COPY;
        child.tracked.account.interrupted_ns = 0;
        child.heads = [A::word::<{ field!(skb_head) }>(old), A::word::<{ field!(skb_head) }>(new)];
    }
    note_clone(parent, new);
}

/// Remembers the packet's last clone, and where it was made.
#[inline(always)]
pub fn note_clone(parent: &mut State, clone: u64) {
    parent.children += 1;
    parent.record.header.flags |= RecordFlags::PARENT;
    parent.clone = opaque(clone);
    parent.cloned_ns = parent.tracked.account.last_ns;
    parent.cloned_position = parent.tracked.account.position;
    parent.cloned_stage = parent.tracked.account.stage;
    parent.cloned_before = parent.tracked.account.before;
}

/// A slot for a new packet that is made of another one; what is known under its address is over.
#[inline(always)]
fn find_or_claim<'p>(parent: &'p Packet, skb: u64, context: Context) -> Option<Packet<'p>> {
    if let Some(mut known) = parent.find_other(skb)
        && (known.tracked.account.stage != COPY || !is_gone(skb, &mut known))
    {
        seen_here(&mut known, context);
        if outlived(&mut known, context) {
            return Some(known);
        }
    }
    parent.claim_other(skb, context.now)
}

/// Starts the path of a packet that is made of another one, at that one's position: it waits for its turn.
#[inline(always)]
pub fn start_child<'p>(parent: &'p Packet, id: u64, skb: u64, context: Context) -> Option<Packet<'p>> {
    let mut packet = find_or_claim(parent, skb, context)?;
    let state = &mut *packet;
    reset(state, context);
    state.tracked.account.stage = parent.tracked.account.stage;
    state.tracked.account.before = parent.tracked.account.before;
    state.move_to(parent.tracked.account.position);
    state.tracked.account.interrupt(context.now, BATCH_WAIT);
    state.parsed = parent.parsed;
    state.matched = parent.matched;
    state.rejected = parent.rejected;
    state.device = parent.device;
    state.sock = parent.sock;
    state.parent = parent.tracked.number;
    state.arrived = parent.arrived;
    state.device_role = parent.device_role;
    let header = &mut state.record.header;
    header.parent = id;
    header.flow = parent.record.header.flow;
    header.witness = parent.record.header.witness;
    header.flags = RecordFlags::CHILD | parent.record.header.flags & RecordFlags::TCP;
    if state.is_counted() {
        count(Counter::Started, 1);
    }
    Some(packet)
}

/// The kernel has given the address of a known packet to a new one. False if another CPU is ending the known one: then its
/// state is not to be used.
#[inline(always)]
fn outlived(known: &mut State, context: Context) -> bool {
    if is_fresh(known) {
        forget(known);
    } else if known.tracked.account.stage == GRO {
        // It was chained to another packet, and now comes off the chain.
        end_as(known, Outcome::Merged, context);
    } else {
        return missed_end(known);
    }
    true
}

/// The packet was never used: it is neither counted, nor a child.
#[inline(always)]
pub fn forget(state: &State) {
    uncount(state);
    let (number, id) = (state.parent, state.record.header.parent);
    let Some(parent) = STATES.get_ptr_mut(number) else { return };
    if number == state.tracked.number {
        // The parent is long gone, and its entry has become this packet's.
        return;
    }
    // SAFETY: another entry of the map. The run may have a handle of it, but no reference while it calls this.
    unsafe {
        if (*parent).record.header.id == id && (*parent).children != 0 {
            (*parent).children -= 1;
        }
    }
}

/// The packet is not counted.
#[inline(always)]
pub fn uncount(state: &State) {
    if state.is_counted() {
        count(Counter::Started, u64::MAX);
    }
}

/// Ends the path of a packet with a record.
#[inline(always)]
pub fn end_as(state: &mut State, outcome: Outcome, context: Context) {
    seen_here(state, context);
    close(state, context);
    conclude(state, context, outcome as u8);
}

/// The packet continues in its own `sk_buff` as the first of its parts. Returns the id of the packet whose path ends.
#[inline(always)]
pub fn continue_as_part(state: &mut State, context: Context) -> u64 {
    let id = state.record.header.id;
    state.children += 1;
    state.record.header.flags |= RecordFlags::PARENT;
    end_as(state, Outcome::Split, context);
    if state.is_counted() {
        count(Counter::Started, 1);
    }
    let (stage, position) = (state.tracked.account.stage, state.tracked.account.position);
    state.tracked.account.start(&mut state.record.path, context.now, stage, context.number);
    state.move_to(position);
    state.clone = 0;
    state.children = 0;
    state.entry = 0;
    renumber(state);
    let header = &mut state.record.header;
    header.parent = id;
    header.start_ns = context.now;
    header.flags = RecordFlags::CHILD | header.flags & RecordFlags::TCP;
    header.outcome = 0;
    header.segments = 1;
    id
}

/// The packet has been segmented: the segments' time begins now. If GRO had chained them to the packet, it is itself
/// the first of them.
#[inline(always)]
pub fn segmented(parent: &mut Packet, skb: u64, first: u64, context: Context) {
    if !is_packet(first) {
        return;
    }
    let mut segment = first;
    if opaque(first) == opaque(skb) {
        continue_as_part(parent, context);
        take_own_header(parent, skb);
        segment = copied(skb, setting!(offsets.skb_next));
    } else {
        parent.record.header.outcome = Outcome::Split as u8;
    }
    let mut number = 0;
    while number < SEGMENTS_MAX && segment != 0 {
        if let Some(mut child) = parent.find_other(segment) {
            take_own_header(&mut child, segment);
            child.record.header.start_ns = context.now;
            child.tracked.account.last_ns = context.now;
            child.tracked.account.interrupted_ns = context.now;
        }
        segment = copied(segment, setting!(offsets.skb_next));
        number += 1;
    }
}

/// Takes over what a segment has of its own: its length from the innermost IP header on, its place in the stream, and
/// its IP identification.
#[inline(always)]
fn take_own_header(state: &mut State, skb: u64) {
    let is_inside = state.tracked.account.position >> HOP_BITS != 0;
    let header = if is_inside {
        setting!(offsets.skb_inner_network_header)
    } else {
        setting!(offsets.skb_network_header)
    };
    let header: u16 = copied(skb, header);
    let head: u64 = copied(skb, setting!(offsets.skb_head));
    let data: u64 = copied(skb, setting!(offsets.skb_data));
    let bytes: u32 = copied(skb, setting!(offsets.skb_len));
    let ip = head + header as u64;
    let record = &mut state.record.header;
    record.bytes = bytes - (ip - data) as u32;
    // Version and length are in the first byte, the identification is in the third short.
    let start: u64 = copied(ip, 0);
    let transport = if record.flow.version == 4 {
        record.flow.ip_id = u16::from_be((start >> 32) as u16);
        (start & 15) as u32 * 4
    } else {
        IPV6_HEADER as u32
    };
    if record.flow.protocol == IPPROTO_TCP {
        record.flow.sequence = u32::from_be(copied(ip, transport + TCP_SEQUENCE));
    } else {
        // That of the whole's payload.
        record.witness = 0;
    }
}
