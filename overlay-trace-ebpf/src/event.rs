//! What happens when a probe fires.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::bpf_get_current_comm;
use overlay_trace_common::{
    cpu::Cpu,
    kernel::{ARMED_ALL, ARMED_BIRTHS},
    record::{Counter, FLAG_UNKNOWN_START, Outcome},
    row::*,
    stage::Action,
    stage_map::{KSOFTIRQD_WAIT, SOFTIRQ_WAIT, TC_CLASSIFY, TUN_WAIT},
    way::{HOP_MASK, one_level_less, one_level_more},
};

use crate::{
    account::{States, close, send, this_cpu},
    birth::{begin, task},
    family::{leaves_no_record, outcome, split},
    hop,
    identify::{identify, passes},
    maps::{ARRIVED, FORWARDED, HopEntry, State, count, setting},
    read::{Access, copied, field, now, opaque},
    state::{
        armed, busy_with, claim, find, find_anew, find_near, is_counted, is_over, leave as leave_place, lost,
    },
};

const IPPROTO_TCP: u8 = 6;
const NET_RX_SOFTIRQ: u32 = 3;
/// In `sk_buff._skb_refdst`: the route is not counted as used.
const DST_NOREF: u64 = 1;

/// A packet has come to a stage.
#[inline(always)]
pub fn enter<A: Access>(skb: u64, row: Row) {
    if skb != 0 {
        let device = if row.has(ROW_HOP) { A::word::<{ field!(skb_dev) }>(skb) } else { 0 };
        enter_at::<A>(skb, device, row);
    }
}

/// A packet has come to a stage at a device; 0 if it is where it was before.
#[inline(always)]
pub fn enter_at<A: Access>(skb: u64, device: u64, row: Row) {
    let (cpu, number) = this_cpu();
    let known = busy_with(skb, cpu).or_else(|| {
        // If another CPU has taken it up by now, that is not undone.
        if row.has(ROW_AFTER) { find(skb) } else { find_anew(skb, number) }
    });
    let hop = known.as_ref().and_then(|state| another_hop::<A>(device, state));
    let state = match known {
        Some(state) if !is_another::<A>(skb, row, state, hop) => state,
        _ if !begins_ways(row) => return,
        known if row.action() == Action::Birth as u8 => return meet::<A>(skb, device, row, known),
        _ => return meet_apart::<A>(skb, device, row),
    };
    if state.rejected != 0 || row.has(ROW_AFTER) && state.followed.account.cpu as u32 != number {
        return pass_by(row, state);
    }
    if row.has(ROW_IN_SOCKET) && has_left(state) {
        return;
    }
    let now = now();
    close(state, cpu, number, now);
    move_to(row, state, hop);
    go_on::<A>(skb, row, state, cpu, number, now);
}

/// [`meet`] where most packets are known.
#[inline(never)]
fn meet_apart<A: Access>(skb: u64, device: u64, row: Row) {
    meet::<A>(skb, device, row, find(skb));
}

/// A packet that is not known, or has the address of one whose end was not seen, begins its way here.
#[inline(always)]
fn meet<A: Access>(skb: u64, device: u64, row: Row, known: Option<&'static mut State>) {
    if let Some(state) = &known {
        lost(state);
    }
    if !row.has(ROW_CALIBRATE) && !is_armed(row) {
        return known.map_or((), leave_place);
    }
    let Some(state) = known.or_else(|| claim(skb)) else { return };
    let (cpu, number) = this_cpu();
    let now = now();
    begin::<A>(skb, row, state, number, now);
    let hop = another_hop::<A>(device, state);
    move_to(row, state, hop);
    go_on::<A>(skb, row, state, cpu, number, now);
}

/// The packet is in its new stage.
#[inline(always)]
fn go_on<A: Access>(skb: u64, row: Row, state: &mut State, cpu: &mut Cpu, number: u32, now: u64) {
    // Before the CPU is known to be busy with it: an interrupt in between would open a segment at a level that
    // the headers have not told yet.
    if row.has(ROW_IDENTIFY) && state.identified == 0 {
        filter::<A>(skb, row, state);
        if state.rejected != 0 {
            // No CPU is said to be busy with a packet that is not followed.
            return cpu.release(number, opaque(skb), now, &States);
        }
    }
    settle(row, state, cpu, number, now);
}

/// A known packet has come to a stage at the same place: what most probes do, in as few instructions as
/// possible.
#[inline(always)]
pub fn step(skb: u64, row: Row) {
    if skb == 0 {
        return;
    }
    let (cpu, number) = this_cpu();
    let near = busy_with(skb, cpu);
    let is_near = near.is_some();
    let Some(state) = near.or_else(|| find_anew(skb, number)) else { return };
    if !is_near && state.rejected != 0 || row.has(ROW_UNLESS_FORWARDED) && state.arrived == FORWARDED {
        return;
    }
    if row.has(ROW_FORWARDS) {
        state.arrived = FORWARDED;
    }
    let account = &mut state.followed.account;
    if row.has(ROW_REPEATS) && is_near && account.stage == row.stage() && account.again(&mut state.record.way)
    {
        return;
    }
    let now = now();
    close(state, cpu, number, now);
    state.followed.account.stage = row.stage();
    if is_near && !row.has(ROW_WAIT) {
        cpu.keep(now);
    } else {
        settle(row, state, cpu, number, now);
    }
}

/// The CPU is busy with the packet in its new stage, or leaves it in a queue.
#[inline(always)]
fn settle(row: Row, state: &mut State, cpu: &mut Cpu, number: u32, now: u64) {
    if !row.has(ROW_WAIT) {
        return cpu.take(number, &mut state.followed, now, &States);
    }
    cpu.leave(number, &mut state.followed, now, &States);
    if row.has(ROW_DEFERRED) {
        state.followed.account.interrupt(now, SOFTIRQ_WAIT);
    }
}

/// Whether what is known under the packet's address is of an earlier packet, whose end was not seen.
#[inline(always)]
fn is_another<A: Access>(skb: u64, row: Row, state: &State, hop: Option<&HopEntry>) -> bool {
    if row.has(ROW_FIRST) {
        return true;
    }
    if row.has(ROW_INGRESS) {
        return row.action() == Action::Adopt as u8 && comes_from_outside(state, hop);
    }
    if !begins_ways(row) || state.arrived == 0 {
        return false;
    }
    let sock = A::word::<{ field!(skb_sk) }>(skb);
    if sock == 0 || !row.has(ROW_HOP) && opaque(sock) == state.sock {
        return false;
    }
    // It has arrived, and now goes out through a device of the very namespace that its socket is in: what
    // is forwarded has no socket, or one of the namespace that it was sent from.
    let net = if row.has(ROW_HOP) {
        opaque(A::word::<{ field!(dev_net) }>(A::word::<{ field!(skb_dev) }>(skb)))
    } else {
        let route: u64 = copied(skb, setting!(offsets.skb_dst));
        let device: u64 = copied(route & !DST_NOREF, setting!(offsets.dst_dev));
        copied(device, setting!(offsets.dev_net))
    };
    opaque(A::word::<{ field!(sock_net) }>(sock)) == net
}

/// Whether the packet comes in by an edge of this machine, to which no known packet's way leads. Those that an
/// `ifb` holds up go on where they came in.
#[inline(always)]
fn comes_from_outside(state: &State, hop: Option<&HopEntry>) -> bool {
    match hop {
        None => state.at.edge() && has_left(state),
        Some(entry) => entry.role.edge() && (state.at.edge() || !has_left(state)),
    }
}

/// Whether the packet was given to a NIC, or to what is one to its sender: a tap.
#[inline(always)]
fn has_left(state: &State) -> bool {
    let stage = state.followed.account.stage;
    stage as u32 == setting!(transmit_default) || stage == TUN_WAIT
}

/// A packet that is not followed comes by: what tells it from a later one at its address is kept.
#[inline(always)]
fn pass_by(row: Row, state: &mut State) {
    if row.has(ROW_INGRESS) {
        state.arrived = ARRIVED;
    }
}

/// The hop of the device that the packet is at, if that is another one than before.
#[inline(always)]
fn another_hop<A: Access>(device: u64, state: &State) -> Option<&'static HopEntry> {
    if device == 0 || opaque(device) == state.device { None } else { hop::of_device::<A>(device) }
}

/// Opens the segment of the stage, at the level and hop where the packet now is.
#[inline(always)]
fn move_to(row: Row, state: &mut State, hop: Option<&HopEntry>) {
    let mut place = state.followed.account.place;
    if row.has(ROW_DOWN) {
        place = one_level_less(place);
    }
    if row.has(ROW_UP) {
        place = one_level_more(place);
    }
    let mut stage = row.stage();
    if row.has(ROW_HOP) {
        if let Some(entry) = hop {
            state.device = entry.owner;
            place = place & !HOP_MASK | entry.hop as u32;
            reach(state, entry);
            state.at = entry.role;
            // What comes out of a tunnel device on the way in has lost the tunnel's headers.
            if row.has(ROW_INGRESS) && entry.role.up() {
                place = one_level_less(place);
            }
        }
        if row.action() == Action::Transmit as u8 {
            stage = state.at.transmit_stage();
            if state.at.up() {
                place = one_level_more(place);
                // A tunnel that ends on this machine may hand the packet back to the device it came from.
                state.device = 0;
            }
        }
    }
    if row.has(ROW_INGRESS) {
        state.arrived = ARRIVED;
    }
    if row.has(ROW_EXIT) {
        state.followed.account.enter(stage);
    } else {
        state.followed.account.stage = stage;
    }
    state.followed.account.go(&mut state.record.way, place);
}

/// The packet has come to a hop; from the first one that the filter asks for on it counts.
#[inline(always)]
pub fn reach(state: &mut State, entry: &HopEntry) {
    if state.matched == 0 && entry.matched != 0 {
        state.matched = 1;
        count(Counter::Started, 1);
    }
}

/// Reads the packet's addresses; if the filter does not let it pass, it is known but no longer followed.
#[inline(never)]
fn filter<A: Access>(skb: u64, row: Row, state: &mut State) {
    let is_ip = identify::<A>(skb, row.has(ROW_INGRESS), state);
    if !is_ip || !passes(&state.record.header.flow) {
        state.rejected = 1;
        if state.matched != 0 {
            count(Counter::Filtered, 1);
        }
    } else if state.record.header.flags & FLAG_UNKNOWN_START != 0 {
        count(Counter::UnknownStart, 1);
    }
}

/// Whether an unknown packet is followed from here on.
#[inline(always)]
fn begins_ways(row: Row) -> bool {
    row.action() == Action::Birth as u8 || row.action() == Action::Adopt as u8 || row.has(ROW_BEGINS)
}

/// Whether the recording has come so far that such a packet is taken up: while programs are being
/// attached, none; then those that are born; and only when what was under way by then must have ended,
/// also those that are met somewhere on their way.
#[inline(always)]
fn is_armed(row: Row) -> bool {
    let needed = if row.action() == Action::Adopt as u8 { ARMED_ALL } else { ARMED_BIRTHS };
    armed() >= needed
}

/// The stage's function returns: the packet is back in the stage that it came from.
#[inline(always)]
pub fn leave(skb: u64, row: Row, returned: u64) {
    if skb == 0 {
        return;
    }
    let (cpu, number) = this_cpu();
    let Some(state) = find_near(skb, cpu, number) else { return };
    if state.followed.account.stage != row.stage() {
        // tc may have sent the packet elsewhere from within; of a packet that is not followed no entry is noted.
        if row.stage() != TC_CLASSIFY && state.rejected == 0 && !is_over() {
            count(Counter::UnmatchedExits, 1);
        }
        return;
    }
    let now = now();
    close(state, cpu, number, now);
    state.followed.account.stage = state.followed.account.before;
    cpu.take(number, &mut state.followed, now, &States);
    if row.has(ROW_CHILDREN) {
        split(state, skb, returned, cpu, number, now);
    }
}

/// A socket has got something: if it is of the protocol of the packet that this CPU is busy with, it got
/// that packet.
#[inline(always)]
pub fn queued<A: Access>(sock: u64, row: Row) {
    let (cpu, _) = this_cpu();
    let skb = cpu.skb;
    let Some(state) = find(skb) else { return };
    let protocol = A::half::<{ field!(sock_protocol) }>(sock) as u16;
    if protocol == state.record.header.flow.protocol as u16 && protocol != IPPROTO_TCP as u16 {
        end(skb, row, 0, 0);
    }
}

/// The packet's way is over.
#[inline(always)]
pub fn end(skb: u64, row: Row, location: u64, reason: u32) {
    if skb == 0 {
        return;
    }
    let (cpu, number) = this_cpu();
    let Some(state) = find_near(skb, cpu, number) else { return };
    if leaves_no_record(state, row.outcome()) {
        return cpu.let_go(opaque(skb));
    }
    let now = now();
    close(state, cpu, number, now);
    cpu.release(number, opaque(skb), now, &States);
    state.record.header.drop_location = location;
    state.record.header.drop_reason = reason;
    let outcome = outcome(state, row.outcome());
    conclude(state, number, outcome);
    leave_place(state);
}

/// Makes the record of a packet whose last segment is closed.
#[inline(always)]
pub fn conclude(state: &mut State, number: u32, outcome: u8) {
    if !is_counted(state) {
        // It does not matter, or was counted when the filter rejected it.
    } else if state.identified == 0 {
        count(Counter::Filtered, 1);
    } else {
        let header = &mut state.record.header;
        header.end_ns = state.followed.account.last_ns;
        header.cpu = number as u16;
        header.outcome = outcome;
        if outcome == Outcome::Split as u8 {
            header.segments = state.children;
        }
        send(state);
    }
}

/// The way of an invented packet, for measuring what a probe costs.
#[inline(always)]
pub fn calibrate(row: Row) {
    const INVENTED: u64 = 64;
    let (cpu, number) = this_cpu();
    let Some(state) = (match find_near(INVENTED, cpu, number) {
        Some(state) => Some(state),
        None => claim(INVENTED),
    }) else {
        return;
    };
    state.followed.account.length = 0;
    // A row with an outcome stands for the second call of a stage in a row.
    if row.outcome() != 0 && state.followed.account.again(&mut state.record.way) {
        return;
    }
    let now = now();
    close(state, cpu, number, now);
    state.followed.account.stage = row.stage();
    cpu.take(number, &mut state.followed, now, &States);
}

/// Ends the way of a packet that was only taken up for measuring what that costs; with the record of a way of
/// usual length, if the row has an outcome.
#[inline(always)]
pub fn forget(skb: u64, row: Row) {
    const USUAL_WORDS: u32 = 80;
    let (cpu, number) = this_cpu();
    let Some(state) = find_near(skb, cpu, number) else { return };
    if row.outcome() != 0 {
        state.followed.account.length = USUAL_WORDS;
        send(state);
    }
    let now = state.followed.account.last_ns;
    cpu.release(number, opaque(skb), now, &States);
    leave_place(state);
}

/// Something else takes the CPU, whatever it is busy with: `argument` is the softirq's number.
#[inline(always)]
pub fn interrupted(argument: u64, row: Row) {
    let (cpu, number) = this_cpu();
    if row.has(ROW_SOFTIRQ) {
        let now = now();
        if argument as u32 == NET_RX_SOFTIRQ {
            cpu.softirq_ns = now;
            // A name costs more than all the rest; the last task's is known.
            let task = task();
            if cpu.softirq_task != task {
                cpu.softirq_task = task;
                cpu.deferred_by = if is_ksoftirqd() { KSOFTIRQD_WAIT } else { SOFTIRQ_WAIT };
            }
        }
        cpu.begin_softirq(number, row.stage(), now, &States);
    } else if row.has(ROW_RESUMES) {
        let now = now();
        cpu.interrupt(number, row.stage(), now, &States);
        cpu.switched(now);
    } else if cpu.skb != 0 {
        cpu.interrupt(number, row.stage(), now(), &States);
    }
}

/// What was interrupted has the CPU again.
#[inline(always)]
pub fn resumed(row: Row) {
    let (cpu, _) = this_cpu();
    if row.has(ROW_SOFTIRQ) {
        cpu.end_softirq(now());
    } else if cpu.skb != 0 {
        cpu.resume(now());
    }
}

/// Whether the softirqs of this CPU are so many that its thread for them works them off.
#[inline(always)]
fn is_ksoftirqd() -> bool {
    let mut name = [0u64; 2];
    unsafe { bpf_get_current_comm(&raw mut name as *mut c_void, 16) };
    name[0] == u64::from_ne_bytes(*b"ksoftirq")
}
