//! Counting what became of the packets at the edges of the machine.

use aya_ebpf::bindings::BPF_NOEXIST;
use overlay_trace_common::edges::{Amount, EDGES_MAX, Fate, Passage};

use crate::{
    maps::{EDGE_COUNTS, EDGE_HOPS, NOT_IP, REJECTED, Role, State, UNSAMPLED, setting},
    read::{Access, copied, field},
};

/// One packet, as long as nothing else is known of it.
const ONE: Amount = Amount { packets: 1, segments: 1 };

/// Gives an edge the number under which its packets are counted; 0 if there are too many.
#[inline(always)]
pub fn number(hop: u16) -> u32 {
    let hop = hop as u32;
    let mut slot = 1;
    while slot < EDGES_MAX {
        // Of several that try the same number the kernel lets one insert it.
        if EDGE_HOPS.insert(slot, hop, BPF_NOEXIST as u64).is_ok() {
            return slot;
        }
        slot += 1;
    }
    0
}

#[inline(always)]
fn add(slot: u8, passage: Passage, fate: Fate, amount: Amount) {
    if slot == 0 {
        return;
    }
    if let Some(counts) = EDGE_COUNTS.get_ptr_mut(slot as u32) {
        // SAFETY: a pointer to this CPU's counts; the indices are in range. A program that interrupts this addition can
        // lose its own.
        unsafe {
            let count = &raw mut (*counts)[passage as usize][fate as usize];
            (*count).packets = (*count).packets.wrapping_add(amount.packets);
            (*count).segments = (*count).segments.wrapping_add(amount.segments);
        }
    }
}

/// A packet that is not tracked passes an edge.
#[inline(always)]
pub fn passed(role: Role, passage: Passage, fate: Fate) {
    add(role.slot(), passage, fate, ONE);
}

/// A packet has entered through an edge; what can be read of it has been read.
#[inline(always)]
pub fn entered<A: Access>(skb: u64, is_behind_gro: bool, state: &mut State) {
    state.entry = state.device_role.slot();
    if state.entry == 0 {
        return;
    }
    let segments = state.record.header.segments;
    state.entry_segments = segments;
    // Behind GRO a packet has the segments that GRO has merged, unless its driver gave it as one.
    let is_one = !is_behind_gro || segments == 1 || is_dodgy::<A>(skb);
    state.entry_packets = if is_one { 1 } else { segments as u64 };
    add(state.entry, Passage::Received, Fate::InFlight, of_entry(state));
}

/// What the packet was when it entered.
#[inline(always)]
fn of_entry(state: &State) -> Amount {
    Amount { packets: state.entry_packets, segments: state.entry_segments as u64 }
}

/// Whether somebody outside of this kernel made one packet of several (`SKB_GSO_DODGY`): a guest, or its host.
#[inline(always)]
fn is_dodgy<A: Access>(skb: u64) -> bool {
    const SKB_GSO_DODGY: u32 = 1 << 1;
    let shared = A::word::<{ field!(skb_head) }>(skb) + A::half::<{ field!(skb_end) }>(skb) as u64;
    copied::<u32>(shared, setting!(offsets.shared_gso_type)) & SKB_GSO_DODGY != 0
}

/// The packet is not followed any more, or its path has ended: counts it at the edges that it has passed.
#[inline(always)]
pub fn ended(state: &State, fate: Fate) {
    if state.entry != 0 {
        let Amount { packets, segments } = of_entry(state);
        add(state.entry, Passage::Received, fate, Amount { packets, segments });
        let gone = Amount { packets: packets.wrapping_neg(), segments: segments.wrapping_neg() };
        add(state.entry, Passage::Received, Fate::InFlight, gone);
    }
    if state.device_role.slot() != 0 && state.has_left() {
        let amount = Amount { packets: 1, segments: state.record.header.segments as u64 };
        add(state.device_role.slot(), Passage::Sent, fate, amount);
    }
}

/// Why a packet with this value of [`State::rejected`] has no record.
#[inline(always)]
pub fn fate_of(rejected: u8) -> Fate {
    match rejected {
        REJECTED => Fate::Rejected,
        NOT_IP => Fate::NotIp,
        UNSAMPLED => Fate::Recorded,
        _ => Fate::Untracked,
    }
}
