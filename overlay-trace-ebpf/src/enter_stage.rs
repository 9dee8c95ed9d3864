//! Handlers of probes at which a packet enters a stage.

use overlay_trace_common::{
    abi::TrackingPhase,
    cpu::Context,
    flags::{ProbeFlags, RecordFlags},
    path::{HOP_MASK, one_level_down, one_level_up},
    probe_spec::ProbeSpec,
    record::Counter,
    stage::Action,
    stage_map::{SOFTIRQ_WAIT, TUN_WAIT},
};

use crate::{
    account::{self, close, here},
    clone_tracking::find,
    hop,
    insn::opaque,
    maps::{ARRIVED, FORWARDED, HopEntry, State, count, setting, tracking_phase},
    packet_table::{Lookup, Table, into_table, missed_end, release},
    parse_headers::{parse, passes},
    read::{Access, copied, field, now},
    track_start::start,
};

/// In `sk_buff._skb_refdst`: the route is not reference-counted.
const DST_NOREF: u64 = 1;

/// A packet enters a stage.
#[inline(always)]
pub fn enter<A: Access>(table: Table, skb: u64, spec: ProbeSpec) {
    if skb != 0 {
        let device = if spec.has(ProbeFlags::DEVICE) { A::word::<{ field!(skb_dev) }>(skb) } else { 0 };
        enter_at::<A>(table, skb, device, spec);
    }
}

/// A packet enters a stage at a device; 0 if it is where it was before.
#[inline(always)]
pub fn enter_at<A: Access>(table: Table, skb: u64, device: u64, spec: ProbeSpec) {
    let mut context = here();
    // No closures here and below: they cannot be forced inline, and the spec would not be constant in them.
    let known = match table.find_current(skb, context) {
        Err(table) if spec.has(ProbeFlags::AFTER_HANDOVER) => {
            // If another CPU has taken the packet by now, that stays so.
            table.find(skb)
        }
        Err(table) => find(table, skb, context),
        current => current,
    };
    let hop = match &known {
        Ok(packet) => next_hop::<A>(device, packet),
        Err(_) => None,
    };
    let mut packet = match known {
        Ok(packet) if !is_another::<A>(skb, spec, &packet, hop) => packet,
        _ if !starts_paths(spec) => return,
        known if spec.action() == Action::Start as u8 => return meet::<A>(skb, device, spec, known),
        known => return meet_apart::<A>(into_table(known), skb, device, spec),
    };
    let state = &mut *packet;
    if state.rejected != 0
        || spec.has(ProbeFlags::AFTER_HANDOVER) && state.tracked.account.cpu as u32 != context.number
    {
        return pass_by(spec, state);
    }
    if spec.has(ProbeFlags::IN_SOCKET) && has_left(state) {
        return;
    }
    context.now = now();
    close(state, context);
    move_to(spec, state, hop);
    stay::<A>(skb, spec, state, context);
}

/// [`meet`], out of line where most packets are known.
#[inline(never)]
fn meet_apart<A: Access>(table: Table, skb: u64, device: u64, spec: ProbeSpec) {
    meet::<A>(skb, device, spec, table.find(skb));
}

/// A packet that is not known, or has the address of one whose end was missed: its path starts here.
#[inline(always)]
fn meet<A: Access>(skb: u64, device: u64, spec: ProbeSpec, known: Lookup) {
    if let Ok(packet) = &known {
        missed_end(packet);
    }
    if !spec.has(ProbeFlags::CALIBRATE) && !may_start(spec) {
        if let Ok(mut packet) = known {
            release(&mut packet);
        }
        return;
    }
    let context = Context { now: now(), ..here() };
    let claimed = match known {
        Err(table) => table.claim(skb, context.now),
        known => known,
    };
    let Ok(mut packet) = claimed else { return };
    let state = &mut *packet;
    start::<A>(skb, spec, state, context);
    let hop = next_hop::<A>(device, state);
    move_to(spec, state, hop);
    stay::<A>(skb, spec, state, context);
}

/// The packet is in its new stage.
#[inline(always)]
fn stay<A: Access>(skb: u64, spec: ProbeSpec, state: &mut State, context: Context) {
    // The headers come first: once the packet is the CPU's current packet, an interrupt opens a span, and the level is
    // not known before they are parsed.
    if spec.has(ProbeFlags::PARSE_HEADERS) && state.parsed == 0 {
        filter::<A>(skb, spec, state);
        if state.rejected != 0 {
            // No CPU has a packet that is not tracked as its current one.
            return context.release(&state.tracked, &account::Table);
        }
    }
    settle(spec, state, context);
}

/// A known packet enters a stage at the same position: what most probes do, in as few instructions as possible.
#[inline(always)]
pub fn step(table: Table, skb: u64, spec: ProbeSpec) {
    if skb == 0 {
        return;
    }
    let mut context = here();
    let current = table.find_current(skb, context);
    let is_current = current.is_ok();
    let found = match current {
        Err(table) => find(table, skb, context),
        current => current,
    };
    let Ok(mut packet) = found else { return };
    let state = &mut *packet;
    if !is_current && state.rejected != 0
        || spec.has(ProbeFlags::UNLESS_FORWARDED) && state.arrived == FORWARDED
    {
        return;
    }
    if spec.has(ProbeFlags::FORWARDS) {
        state.arrived = FORWARDED;
    }
    let account = &mut state.tracked.account;
    if spec.has(ProbeFlags::REPEATS)
        && is_current
        && account.stage == spec.stage()
        && account.repeat(&mut state.record.path)
    {
        return;
    }
    context.now = now();
    close(state, context);
    state.tracked.account.stage = spec.stage();
    if is_current && !spec.has(ProbeFlags::WAIT) {
        context.resume();
    } else {
        settle(spec, state, context);
    }
}

/// The CPU works on the packet in its new stage, or leaves it in a queue.
#[inline(always)]
fn settle(spec: ProbeSpec, state: &mut State, context: Context) {
    if !spec.has(ProbeFlags::WAIT) {
        return context.work_on(&mut state.tracked, &account::Table);
    }
    context.queue(&mut state.tracked, &account::Table);
    if spec.has(ProbeFlags::SOFTIRQ_QUEUE) {
        state.tracked.account.interrupt(context.now, SOFTIRQ_WAIT);
    }
}

/// Whether what is known under the packet's address is an earlier packet, whose end was missed.
#[inline(always)]
fn is_another<A: Access>(skb: u64, spec: ProbeSpec, state: &State, hop: Option<&HopEntry>) -> bool {
    if spec.has(ProbeFlags::ALWAYS_NEW) {
        return true;
    }
    if spec.has(ProbeFlags::INGRESS) {
        return spec.action() == Action::PickUp as u8 && comes_from_outside(state, hop);
    }
    if !starts_paths(spec) || state.arrived == 0 {
        return false;
    }
    let sock = A::word::<{ field!(skb_sk) }>(skb);
    if sock == 0 || !spec.has(ProbeFlags::DEVICE) && opaque(sock) == state.sock {
        return false;
    }
    // The packet has arrived, and now leaves through a device of the namespace that its socket is in: a forwarded packet
    // has no socket, or one of the namespace that sent it.
    let net = if spec.has(ProbeFlags::DEVICE) {
        opaque(A::word::<{ field!(dev_net) }>(A::word::<{ field!(skb_dev) }>(skb)))
    } else {
        let route: u64 = copied(skb, setting!(offsets.skb_dst));
        let device: u64 = copied(route & !DST_NOREF, setting!(offsets.dst_dev));
        copied(device, setting!(offsets.dev_net))
    };
    opaque(A::word::<{ field!(sock_net) }>(sock)) == net
}

/// Whether the packet comes in through an edge of this machine, to which no known packet's path leads. (A packet that an
/// `ifb` delays continues where it came in.)
#[inline(always)]
fn comes_from_outside(state: &State, hop: Option<&HopEntry>) -> bool {
    match hop {
        None => state.device_role.is_edge() && has_left(state),
        Some(hop) => hop.role.get().is_edge() && (state.device_role.is_edge() || !has_left(state)),
    }
}

/// Whether the packet was given to a NIC, or to what its sender takes for one: a tap.
#[inline(always)]
fn has_left(state: &State) -> bool {
    let stage = state.tracked.account.stage;
    stage as u32 == setting!(transmit_default) || stage == TUN_WAIT
}

/// A packet that is not tracked passes a probe: what distinguishes it from a later one at its address is kept.
#[inline(always)]
fn pass_by(spec: ProbeSpec, state: &mut State) {
    if spec.has(ProbeFlags::INGRESS) {
        state.arrived = ARRIVED;
    }
}

/// The hop of the device that the packet is at, if it is another device than before.
#[inline(always)]
fn next_hop<A: Access>(device: u64, state: &State) -> Option<&'static HopEntry> {
    if device == 0 || opaque(device) == state.device { None } else { hop::of_device::<A>(device) }
}

/// Opens the span of the stage, at the level and hop where the packet now is.
#[inline(always)]
fn move_to(spec: ProbeSpec, state: &mut State, hop: Option<&HopEntry>) {
    let mut position = state.tracked.account.position;
    if spec.has(ProbeFlags::DECAPSULATES) {
        position = one_level_down(position);
    }
    if spec.has(ProbeFlags::ENCAPSULATES) {
        position = one_level_up(position);
    }
    let mut stage = spec.stage();
    if spec.has(ProbeFlags::DEVICE) {
        if let Some(hop) = hop {
            let role = hop.role.get();
            state.device = hop.owner.get();
            position = position & !HOP_MASK | hop.hop.get() as u32;
            state.reach(hop);
            state.device_role = role;
            // A tunnel device has removed its headers from what it receives.
            if spec.has(ProbeFlags::INGRESS) && role.encapsulates() {
                position = one_level_down(position);
            }
        }
        if spec.action() == Action::Transmit as u8 {
            stage = state.device_role.transmit_stage();
            if state.device_role.encapsulates() {
                position = one_level_up(position);
                // A tunnel that ends on this machine may hand the packet back to the device that it came from.
                state.device = 0;
            }
        }
    }
    if spec.has(ProbeFlags::INGRESS) {
        state.arrived = ARRIVED;
    }
    if spec.has(ProbeFlags::EXIT) {
        state.tracked.account.enter(stage);
    } else {
        state.tracked.account.stage = stage;
    }
    state.move_to(position);
}

/// Parses the packet's headers. A packet that the header filter rejects stays known, but is not tracked.
#[inline(never)]
fn filter<A: Access>(skb: u64, spec: ProbeSpec, state: &mut State) {
    let is_ip = parse::<A>(skb, spec.has(ProbeFlags::INGRESS), state);
    if !is_ip || !passes(&state.record.header.flow) {
        state.rejected = 1;
        if state.matched != 0 {
            count(Counter::Filtered, 1);
        }
    } else if state.record.header.flags.has(RecordFlags::UNKNOWN_START) {
        count(Counter::UnknownStart, 1);
    }
}

/// Whether an unknown packet is tracked from this probe on.
#[inline(always)]
fn starts_paths(spec: ProbeSpec) -> bool {
    spec.action() == Action::Start as u8
        || spec.action() == Action::PickUp as u8
        || spec.has(ProbeFlags::STARTS_PATH)
}

/// Whether the recording's phase lets such a packet be tracked: none while programs are being attached; then those that
/// start; and when all that were in flight by then must have ended, also those that are picked up mid-path.
#[inline(always)]
fn may_start(spec: ProbeSpec) -> bool {
    let is_mid_path = spec.action() == Action::PickUp as u8;
    let needed = if is_mid_path { TrackingPhase::All } else { TrackingPhase::StartsOnly };
    tracking_phase() >= needed as u64
}
