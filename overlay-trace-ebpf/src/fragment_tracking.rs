//! IP fragmentation and reassembly, and GRO: packets that are cut into parts, or become part of another one.

use overlay_trace_common::{cpu::Context, probe_spec::ProbeSpec, record::Outcome, stage_map::FRAGMENT};

use crate::{
    account::here,
    clone_tracking::{clone, continue_as_part, end_as, forget, is_fresh, is_packet, note_clone, start_child},
    maps::{AWAITED, State, setting},
    packet_table::{Packet, Table, into_table, release},
    parse_headers::{identify_merged, identify_reassembled},
    read::{Access, Copied, copied, now},
};

/// The most fragments of one packet that are merged at once; those of larger packets end, as merged too, when they are
/// freed. The loop is unrolled by the verifier.
const FRAGMENTS_MAX: usize = 12;

/// The kernel makes one `sk_buff` of another: a clone, a segment or a fragment.
#[inline(always)]
pub fn made<A: Access>(table: Table, new: u64, old: u64, spec: ProbeSpec) {
    if new == 0 || old == 0 {
        return;
    }
    let Ok(mut parent) = table.find(old) else { return };
    let context = Context { now: now(), ..here() };
    if spec.stage() == FRAGMENT {
        fragment(&mut parent, new, old, context);
    } else {
        clone::<A>(&mut parent, new, old, context);
    }
}

/// IP fragments a packet: into new fragments, which are still empty; or into those that it was once reassembled of,
/// where `old` is first the packet and then one fragment after the other.
#[inline(always)]
fn fragment(parent: &mut Packet, new: u64, old: u64, context: Context) {
    let bytes: u32 = copied(new, setting!(offsets.skb_len));
    if bytes == 0 {
        if start_child(parent, parent.record.header.id, new, context).is_some() {
            note_clone(parent, new);
        }
        return;
    }
    let id = if is_fresh(parent) {
        parent.record.header.parent
    } else {
        parent.children += chained(new);
        let id = continue_as_part(parent, context);
        parent.record.header.bytes = copied(old, setting!(offsets.skb_len));
        id
    };
    if let Some(mut child) = start_child(parent, id, new, context) {
        child.record.header.bytes = bytes;
    }
}

/// The length of a chain of fragments.
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

/// Bytes of headers around the innermost IP packet; the same for its parts.
#[inline(always)]
fn bytes_around(parent: &State, skb: u64) -> u32 {
    let bytes: u32 = copied(skb, setting!(offsets.skb_len));
    bytes.saturating_sub(parent.record.header.bytes)
}

/// A function has returned a fragment of the packet, which now has its data.
#[inline(always)]
pub fn cut_off(table: Table, skb: u64, part: u64) {
    if skb == 0 || !is_packet(part) {
        return;
    }
    let Ok(parent) = table.find(skb) else { return };
    let Some(mut child) = parent.find_other(part) else { return };
    let bytes: u32 = copied(part, setting!(offsets.skb_len));
    child.record.header.bytes = bytes - bytes_around(&parent, skb);
}

/// GRO has merged a packet into `keeper`.
#[inline(always)]
pub fn merged(table: Table, keeper: u64, skb: u64) -> Table {
    let mut found = table.find(keeper);
    if let Ok(state) = &mut found {
        let segments = match state.find_other(skb) {
            Some(mut part) => {
                if part.parsed == AWAITED {
                    identify_merged::<Copied>(keeper, &mut part);
                }
                part.record.header.segments
            }
            None => 0,
        };
        state.record.header.segments += segments;
    }
    into_table(found)
}

/// A packet has been reassembled: the fragment `head` continues as the packet, the others are part of it.
#[inline(always)]
pub fn joined(table: Table, head: u64) {
    let Ok(mut packet) = table.find(head) else { return };
    let context = Context { now: now(), ..here() };
    let start: u64 = copied(head, setting!(offsets.skb_head));
    let end: u32 = copied(head, setting!(offsets.skb_end));
    let mut part: u64 = copied(start + end as u64, setting!(offsets.shared_frag_list));
    let mut number = 0;
    while number < FRAGMENTS_MAX && part != 0 {
        if let Some(mut member) = packet.find_other(part) {
            absorb(&mut member, context);
        }
        part = copied(part, setting!(offsets.skb_next));
        number += 1;
    }
    identify_reassembled(head, &mut packet);
}

#[inline(never)]
fn absorb(member: &mut State, context: Context) {
    if is_fresh(member) {
        forget(member);
    } else {
        end_as(member, Outcome::Merged, context);
    }
    release(member);
}
