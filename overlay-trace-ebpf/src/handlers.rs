//! Handlers of all other probes: exits, the ends of paths, interruptions, and calibration.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::bpf_get_current_comm;
use overlay_trace_common::{
    cpu::{Context, Packets},
    flags::ProbeFlags,
    headers::IPPROTO_TCP,
    probe_spec::ProbeSpec,
    record::{Counter, Outcome},
    stage_map::{KSOFTIRQD_WAIT, RECEIVE, SOFTIRQ_WAIT, TC_CLASSIFY},
};

use crate::{
    account::{self, close, conclude, conclude_sent, here, send},
    clone_tracking::{find_near, seen, segmented},
    edges::{self, fate_of},
    hand_over,
    insn::opaque,
    maps::{AWAITED, State, count},
    napi::{self, NET_RX_SOFTIRQ},
    packet_table::{Packet, Table, hide, is_over, missed_end, release, release_hidden},
    parse_headers::identify_late,
    path_end::{leaves_no_record, outcome},
    read::{Access, Copied, field, now},
    track_start::task,
    unseen_ends::{self, is_another_one},
};

/// The stage's function returns: the packet is back in the stage that it came from.
#[inline(always)]
pub fn leave(table: Table, skb: u64, spec: ProbeSpec, returned: u64) {
    if skb == 0 {
        return;
    }
    let mut context = here();
    let Ok(mut packet) = find_near(table, skb, context) else { return };
    let state = &mut *packet;
    if state.tracked.account.stage != spec.stage() {
        // tc may have redirected the packet from within; of a packet that is not tracked the entry is not noted.
        if spec.stage() != TC_CLASSIFY && state.rejected == 0 && !is_over() {
            count(Counter::UnmatchedExits, 1);
        }
        return;
    }
    context.now = now();
    close(state, context);
    state.tracked.account.stage = state.tracked.account.before;
    context.work_on(&mut state.tracked, &account::Table);
    if spec.has(ProbeFlags::RETURNS_PACKETS) {
        segmented(&mut packet, skb, returned, context);
    }
}

/// A socket has queued something: the CPU's current packet, if it is of the socket's protocol.
#[inline(always)]
pub fn queued<A: Access>(table: Table, sock: u64, spec: ProbeSpec) {
    let skb = here().cpu.skb.get();
    let Ok(packet) = table.find(skb) else { return };
    let protocol = A::half::<{ field!(sock_protocol) }>(sock) as u16;
    if protocol == packet.record.header.flow.protocol as u16 && protocol != IPPROTO_TCP as u16 {
        end(packet.into_table(), skb, spec, 0, 0);
    }
}

/// The packet's path ends; or it has ended when a device took the packet over, and now the driver frees it.
#[inline(always)]
pub fn end(table: Table, skb: u64, spec: ProbeSpec, location: u64, reason: u32) {
    if skb == 0 {
        return;
    }
    let context = here();
    let is_hidden;
    let found = match table.find_current(skb, context) {
        Err(table) => {
            let Ok(mut packet) = table.find(skb) else { return };
            if packet.handed_ns.get() != 0 || hand_over::is_completed(&mut packet, context) {
                identify_at_end(skb, &mut packet);
                conclude_sent(&mut packet, now());
                return release(&mut packet);
            }
            if spec.has(ProbeFlags::UNSEEN_ENDS) && is_another_one(skb, spec, &packet) {
                if missed_end(&mut packet) {
                    release(&mut packet);
                }
                return;
            }
            is_hidden = is_contested(spec, &packet);
            if is_hidden && !hide(&mut packet) {
                return;
            }
            seen(packet, skb, context)
        }
        Ok(mut packet) => {
            is_hidden = is_contested(spec, &packet);
            if is_hidden && !hide(&mut packet) {
                return;
            }
            Ok(packet)
        }
    };
    let Ok(packet) = found else { return };
    finish(packet, skb, spec, (location, reason), is_hidden);
}

/// Whether two CPUs may end the packet at the same time: it lies in its socket before the kernel says so (`sk_data_ready`),
/// and its reader, on another CPU, may free it first. Of a TCP socket nothing is read before; see `unseen_ends` for that.
#[inline(always)]
fn is_contested(spec: ProbeSpec, state: &State) -> bool {
    spec.has(ProbeFlags::UNSEEN_ENDS)
        && state.tracked.account.stage == RECEIVE
        && state.record.header.flow.protocol != IPPROTO_TCP
        && state.clone == 0
}

/// TCP takes the packet up for a socket: its path ends, and so do those of the segments that were joined to it.
#[inline(always)]
pub fn taken_up(table: Table, sock: u64, skb: u64, spec: ProbeSpec) {
    let Ok(packet) = find_near(table, skb, here()) else { return };
    finish(unseen_ends::taken_up(packet, sock, skb), skb, spec, (0, 0), false);
}

/// Identifies a packet whose headers could not be read before.
#[inline(always)]
fn identify_at_end(skb: u64, state: &mut State) {
    if state.parsed == AWAITED {
        identify_late::<Copied>(skb, state);
        if state.is_rejected() {
            edges::ended(state, fate_of(state.rejected));
        }
    }
}

/// The packet's path ends, by a drop at a place for a reason, or 0. It may have been hidden before.
#[inline(always)]
fn finish(
    mut packet: Packet<'static>,
    skb: u64,
    spec: ProbeSpec,
    (location, reason): (u64, u32),
    is_hidden: bool,
) {
    let mut context = here();
    if leaves_no_record(&mut packet, spec.outcome()) {
        return context.cpu.drop_current(opaque(skb));
    }
    let state = &mut *packet;
    context.now = now();
    close(state, context);
    identify_at_end(skb, state);
    context.release(&state.tracked, &account::Table);
    state.record.header.drop_location = location;
    state.record.header.drop_reason = reason;
    let mut outcome = outcome(state, spec.outcome());
    if is_hidden && outcome == Outcome::Freed as u8 {
        // Its protocol has consumed it, or its reader before the socket said that it was there. Kernels before 6.3 have no
        // `sk_data_ready`: there it is always the reader.
        outcome = Outcome::Delivered as u8;
    }
    conclude(state, context, outcome);
    if is_hidden {
        release_hidden(state);
    } else {
        release(state);
    }
}

/// GRO tells what it did with the packet that entered it last on this CPU.
#[inline(always)]
pub fn gro_result(table: Table, result: u32, spec: ProbeSpec) {
    // Of `enum gro_result`, in every version: GRO_MERGED and GRO_MERGED_FREE. In other cases the packet goes on, or
    // kfree_skb shows its end.
    const MERGED_FREE: u32 = 1;
    let cpu = here().cpu;
    let skb = cpu.gro_skb.get();
    cpu.gro_skb.set(0);
    if result <= MERGED_FREE {
        end(table, skb, spec, 0, 0);
    }
}

/// A step of a synthetic packet, to measure the cost of a probe.
#[inline(always)]
pub fn calibrate(table: Table, spec: ProbeSpec) {
    const SYNTHETIC: u64 = 64;
    let mut context = here();
    let found = match find_near(table, SYNTHETIC, context) {
        Err(table) => table.claim(SYNTHETIC, now()),
        found => found,
    };
    let Ok(mut packet) = found else { return };
    let state = &mut *packet;
    state.tracked.account.length = 0;
    // A spec with an outcome stands for the second call of a stage in a row.
    if spec.outcome() != 0 && state.tracked.account.repeat(&mut state.record.path) {
        return;
    }
    context.now = now();
    close(state, context);
    state.tracked.account.stage = spec.stage();
    context.work_on(&mut state.tracked, &account::Table);
}

/// Ends the path of a packet that was tracked only to measure the cost of that. If the spec has an outcome, it sends the
/// record of a path of usual length.
#[inline(always)]
pub fn end_calibration(table: Table, skb: u64, spec: ProbeSpec) {
    const USUAL_WORDS: u32 = 80;
    let context = here();
    let Ok(mut packet) = find_near(table, skb, context) else { return };
    let state = &mut *packet;
    if spec.outcome() != 0 {
        state.tracked.account.length = USUAL_WORDS;
        send(state);
    }
    let context = Context { now: state.tracked.account.last_ns, ..context };
    context.release(&state.tracked, &account::Table);
    release(state);
}

/// Something else takes the CPU from its current packet: `argument` is the softirq's number.
#[inline(always)]
pub fn interrupted(argument: u64, spec: ProbeSpec) {
    let mut context = here();
    let cpu = context.cpu;
    if spec.has(ProbeFlags::SOFTIRQ) {
        context.now = now();
        if argument as u32 == NET_RX_SOFTIRQ {
            cpu.softirq_ns.set(context.now);
            // Reading the task's name costs more than all the rest; that of the last task is known.
            let task = task();
            if cpu.softirq_task.get() != task {
                cpu.softirq_task.set(task);
                cpu.deferred_by.set(if is_ksoftirqd() { KSOFTIRQD_WAIT } else { SOFTIRQ_WAIT });
            }
        }
        context.begin_softirq(spec.stage(), &account::Table);
    } else if spec.has(ProbeFlags::RESUMES) {
        context.now = now();
        account::Table.interrupt_current(context, spec.stage());
        context.switch_task();
    } else {
        context.now = now();
        napi::interrupt(context, spec);
        if cpu.skb.get() != 0 {
            account::Table.interrupt_current(context, spec.stage());
        }
    }
}

/// The CPU resumes what was interrupted.
#[inline(always)]
pub fn resumed(argument: u64, spec: ProbeSpec) {
    let mut context = here();
    if spec.has(ProbeFlags::SOFTIRQ) {
        context.now = now();
        context.end_softirq(&account::Table);
        if argument as u32 == NET_RX_SOFTIRQ {
            context.cpu.raised_ns.set(0);
        }
        return;
    }
    context.cpu.irq_ns.set(0);
    if context.cpu.skb.get() != 0 {
        context.now = now();
        context.resume();
    }
}

/// Whether this CPU's softirqs run in its thread ksoftirqd.
#[inline(always)]
fn is_ksoftirqd() -> bool {
    let mut name = [0u64; 2];
    // SAFETY: the helper writes at most 16 bytes, which the variable has.
    unsafe { bpf_get_current_comm(&raw mut name as *mut c_void, 16) };
    name[0] == u64::from_ne_bytes(*b"ksoftirq")
}
