//! The probe set `tc`: classifiers at the sides of devices, and tracepoints that show the ends of packets. Nothing here
//! reads kernel memory, which a locked-down kernel refuses (`lockdown=confidentiality`).
//!
//! A packet is known by the address of its `sk_buff`, as in the other sets: it is the classifier's context. The address
//! alone is not enough, since not every end is seen and addresses are used again. So each hook also compares what does
//! not change on a packet's way ([`Identity`]). A packet of another identity, or one that comes to the hook where the
//! known path began, is a new packet. The path of the former one then ends where it was last seen.

mod identity;
#[macro_use]
mod oddity;
mod packet;
mod programs;

pub use identity::TcState;

use aya_ebpf::{
    bindings::__sk_buff,
    macros::map,
    maps::{Array, PerCpuArray, ProgramArray},
};
use overlay_trace_common::{
    abi::TrackingPhase,
    cpu::Context,
    flags::RecordFlags,
    packet_sampling::is_sampled,
    path::position,
    probe_spec::ProbeSpec,
    record::{Counter, Outcome, RecordHeader},
    tc::{HOOKS_MAX, Hook},
};

use crate::{
    account::{close, conclude, here, seen_here},
    maps::{NOT_IP, PARSED, REJECTED, State, UNSAMPLED, count, setting, tracking_phase},
    packet_table::{Table, release},
    parse_headers::{passes, reject},
    read::now,
    tc::identity::{Identity, copy_description},
    track_start::{clear, reset},
};

/// By number of the hook, written by the loader.
#[map]
pub static TC_HOOKS: Array<Hook> = Array::with_max_entries(HOOKS_MAX as u32, 0);
/// One program: the one that sees the packets of all hooks.
#[map]
pub static TC_PASSED: ProgramArray = ProgramArray::with_max_entries(1, 0);
#[map]
pub static TC_SCRATCH: PerCpuArray<Scratch> = PerCpuArray::with_max_entries(1, 0);

/// What a run of a hook works with. The hooks run with softirqs disabled, so no other hook runs on the CPU meanwhile.
#[repr(C)]
pub struct Scratch {
    /// A number that is written here and read again is unknown to the verifier.
    pub word: u64,
    /// The number of the hook that runs.
    pub hook: u32,
    pub _pad: u32,
    /// What the headers of the packet say.
    pub header: RecordHeader,
}

/// A packet passes a hook.
#[inline(always)]
pub fn passed(table: Table, packet: *mut __sk_buff) {
    let Some(scratch) = TC_SCRATCH.get_ptr_mut(0) else { return };
    // SAFETY: an entry of the map that no other program on this CPU uses meanwhile; integers.
    let scratch = unsafe { &mut *scratch };
    let number = scratch.hook;
    let Some(hook) = TC_HOOKS.get(number) else { return };
    let skb = packet::address(packet, &raw mut scratch.word);
    let context = Context { now: now(), ..here() };
    clear(&mut scratch.header);
    let (level, identity) = match packet::parse(packet, hook, scratch) {
        Ok(level) => (level, Identity::new(&scratch.header)),
        Err(_) => (0, Identity::NOT_IP),
    };
    let table = match table.find(skb) {
        Ok(mut known)
            if known.tc.identity == identity && (known.tc.first_hook != number || hook.calibrates != 0) =>
        {
            return go_on(&mut known, hook, level, context);
        }
        Ok(mut former) => {
            oddity!(
                packet,
                "hook {}: the packet at {:x} ended unseen after hook of stage {}",
                number,
                skb,
                former.tracked.account.stage
            );
            end_where_last_seen(&mut former, context, Outcome::Freed);
            release(&mut former);
            former.into_table()
        }
        Err(table) => table,
    };
    let begins = hook.starts != 0 || packet::received_through(packet) == 0;
    if !may_start(begins) {
        return;
    }
    let Ok(mut new) = table.claim(skb, context.now) else {
        oddity!(packet, "hook {}: the packet table is full", number);
        return;
    };
    reset(&mut new, context);
    new.tc.identity = identity;
    new.tc.first_hook = number;
    copy_description(&mut new.record.header, &scratch.header);
    enter(&mut new, hook, level);
    if identity == Identity::NOT_IP {
        reject(&mut new, NOT_IP, Counter::NotIp);
    } else if !passes(&scratch.header.flow) {
        reject(&mut new, REJECTED, Counter::Filtered);
    } else if !is_sampled(&scratch.header, setting!(sample)) {
        reject(&mut new, UNSAMPLED, Counter::Unsampled);
    } else {
        new.parsed = PARSED;
        mark_start(&mut new, hook, begins);
        if !begins {
            oddity!(packet, "hook {}: the packet at {:x} was not seen before", number, skb);
        }
    }
}

/// A known packet has come to its next hook.
#[inline(always)]
fn go_on(state: &mut State, hook: &Hook, level: u32, context: Context) {
    if state.is_rejected() {
        state.tracked.account.last_ns = context.now;
        return;
    }
    seen_here(state, context);
    close(state, context);
    enter(state, hook, level);
}

/// The packet is at a hook.
#[inline(always)]
fn enter(state: &mut State, hook: &Hook, level: u32) {
    state.move_to(position(level, hook.hop as u32));
    state.tracked.account.stage = hook.stage;
    if state.matched == 0 && hook.matched != 0 {
        state.matched = 1;
        count(Counter::Started, 1);
    }
}

/// Marks where the packet came from.
#[inline(always)]
fn mark_start(state: &mut State, hook: &Hook, begins: bool) {
    if !begins {
        state.record.header.flags |= RecordFlags::UNKNOWN_START;
        count(Counter::UnknownStart, 1);
    } else if hook.is_ingress() && hook.is_edge != 0 {
        state.record.header.flags |= RecordFlags::FROM_DEVICE;
    }
}

/// Whether a path starts at a hook. `begins`: the packet is a new one there.
#[inline(always)]
fn may_start(begins: bool) -> bool {
    let needed = if begins { TrackingPhase::StartsOnly } else { TrackingPhase::All };
    tracking_phase() >= needed as u64
}

/// Ends a path where a hook saw the packet last; a span of 0 ns stands for that hook.
#[inline(always)]
fn end_where_last_seen(state: &mut State, context: Context, outcome: Outcome) {
    state.push(state.tracked.account.stage, 0);
    conclude(state, context, outcome as u8);
}

/// A tracepoint shows the end of the packet at this address.
#[inline(always)]
pub fn ended(table: Table, skb: u64, spec: ProbeSpec, location: u64, reason: u32) {
    let context = here();
    let Ok(mut packet) = table.find(skb) else { return };
    let state = &mut *packet;
    if spec.outcome() == Outcome::Dropped as u8 {
        let context = Context { now: now(), ..context };
        seen_here(state, context);
        close(state, context);
        state.record.header.drop_location = location;
        state.record.header.drop_reason = reason;
        conclude(state, context, Outcome::Dropped as u8);
    } else if spec.outcome() == Outcome::Delivered as u8 {
        end_where_last_seen(state, context, Outcome::Delivered);
    } else {
        end_where_last_seen(state, context, Outcome::Freed);
    }
    release(state);
}
