//! Handlers of probes at which a packet enters a stage.

use overlay_trace_common::{
    abi::TrackingPhase,
    cpu::Context,
    edges::{Fate, Passage},
    flags::{ProbeFlags, RecordFlags},
    path::{HOP_MASK, one_level_down, one_level_up},
    probe_spec::ProbeSpec,
    stage::Action,
    stage_map::{DEV_QUEUE_XMIT, GRO, QDISC_RUN, QDISC_WAIT, RECEIVE, SOFTIRQ_WAIT},
};

use crate::{
    account::{self, close, here, is_left},
    clone_tracking::find,
    edges::{self, fate_of},
    hand_over, hop,
    insn::opaque,
    maps::{ARRIVED, FORWARDED, HANDED_OVER, HopEntry, PARSED, Role, State, setting, tracking_phase},
    napi,
    packet_table::{Lookup, Table, into_table, missed_end, release},
    parse_headers::identify,
    read::{Access, Copied, copied, field, now},
    track_start::start,
    unseen_ends::{is_same, note},
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

/// A packet enters a stage at its route's device.
#[inline(always)]
pub fn enter_routed(table: Table, skb: u64, spec: ProbeSpec) {
    if skb != 0 {
        enter_at::<Copied>(table, skb, route_device(skb), spec);
    }
}

/// The device of the packet's route; 0 if it has none.
#[inline(always)]
fn route_device(skb: u64) -> u64 {
    let route: u64 = copied(skb, setting!(offsets.skb_dst));
    copied(route & !DST_NOREF, setting!(offsets.dst_dev))
}

/// A packet enters a stage at a device; 0 if it is where it was before.
#[inline(always)]
pub fn enter_at<A: Access>(table: Table, skb: u64, device: u64, spec: ProbeSpec) {
    let mut context = here();
    if spec.has(ProbeFlags::GRO_ENTRY) {
        context.cpu.gro_skb.set(opaque(skb));
    }
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
        _ if !starts_paths(spec) => {
            if spec.action() == Action::Transmit as u8 {
                untracked::<A>(device, Passage::Sent, Fate::Untracked);
            }
            return;
        }
        known if spec.action() == Action::Start as u8 => return meet::<A>(skb, device, spec, known),
        known => return meet_apart::<A>(into_table(known), skb, device, spec),
    };
    let state = &mut *packet;
    if state.rejected != 0
        || spec.has(ProbeFlags::AFTER_HANDOVER) && state.tracked.account.cpu as u32 != context.number
    {
        return pass_by(spec, state, hop);
    }
    if spec.has(ProbeFlags::IN_SOCKET) && state.has_left() {
        return;
    }
    context.now = now();
    close(state, context);
    if spec.has(ProbeFlags::UNSEEN_ENDS) && spec.has(ProbeFlags::INGRESS) {
        measure_gro::<A>(skb, spec, state);
    }
    move_to(spec, state, hop);
    stay::<A>(skb, spec, state, context);
}

/// Measures by how much a packet grows in GRO, from its entry until it comes out.
#[inline(always)]
fn measure_gro<A: Access>(skb: u64, spec: ProbeSpec, state: &mut State) {
    if spec.has(ProbeFlags::GRO_ENTRY) {
        state.gro_length = A::half::<{ field!(skb_len) }>(skb);
    } else if spec.stage() == RECEIVE && state.tracked.account.stage == GRO {
        state.gro_grown += A::half::<{ field!(skb_len) }>(skb) - state.gro_length;
    }
}

/// [`meet`], out of line where most packets are known.
#[inline(never)]
fn meet_apart<A: Access>(table: Table, skb: u64, device: u64, spec: ProbeSpec) {
    meet::<A>(skb, device, spec, table.find(skb));
}

/// A packet that is not known, or has the address of one whose end was missed: its path starts here.
#[inline(always)]
fn meet<A: Access>(skb: u64, device: u64, spec: ProbeSpec, mut known: Lookup) {
    if let Ok(mut packet) = known {
        known = if missed_end(&mut packet) { Ok(packet) } else { Err(packet.into_table()) };
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
    let Ok(mut packet) = claimed else {
        if is_entry(spec) {
            untracked::<A>(device, Passage::Received, Fate::TableFull);
        }
        return;
    };
    let state = &mut *packet;
    start::<A>(skb, spec, state, context);
    if spec.has(ProbeFlags::GRO_ENTRY) {
        measure_gro::<A>(skb, spec, state);
    }
    let hop = next_hop::<A>(device, state);
    move_to(spec, state, hop);
    if spec.has(ProbeFlags::NEW_AT_EDGE) && state.device_role.is_edge() {
        napi::arrive(state, context);
    }
    stay::<A>(skb, spec, state, context);
}

/// A packet that is not tracked is at a device.
#[inline(never)]
fn untracked<A: Access>(device: u64, passage: Passage, fate: Fate) {
    if device != 0
        && tracking_phase() != TrackingPhase::Off as u64
        && let Some(hop) = hop::of_device::<A>(device)
    {
        edges::passed(hop.role.get(), passage, fate);
    }
}

/// Whether an unknown packet that is met here has come from outside, if it is at an edge.
#[inline(always)]
fn is_entry(spec: ProbeSpec) -> bool {
    spec.action() == Action::PickUp as u8 && spec.has(ProbeFlags::INGRESS)
}

/// The packet is in its new stage.
#[inline(always)]
fn stay<A: Access>(skb: u64, spec: ProbeSpec, state: &mut State, context: Context) {
    // The headers come first: once the packet is the CPU's current packet, an interrupt opens a span, and the level is
    // not known before they are parsed.
    if spec.has(ProbeFlags::PARSE_HEADERS) && state.parsed != PARSED {
        filter::<A>(skb, spec, state);
        if state.rejected != 0 {
            edges::ended(state, fate_of(state.rejected));
            // No CPU has a packet that is not tracked as its current one.
            return context.release(&state.tracked, &account::Table);
        }
        if spec.has(ProbeFlags::UNSEEN_ENDS) {
            note(state);
        }
    }
    if spec.action() == Action::Transmit as u8 && state.device_role.is_edge() && !state.device_role.waits() {
        if spec.has(ProbeFlags::HANDS_OVER) {
            return hand_over::at_once(state, context);
        }
        hand_over::begin(state, context);
    }
    settle(spec, state, context);
}

/// A known packet enters a stage at the same level: what most probes do, in as few instructions as possible.
#[inline(always)]
pub fn step<A: Access>(table: Table, skb: u64, spec: ProbeSpec) {
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
        || spec.has(ProbeFlags::UNSEEN_ENDS) && is_left(state)
    {
        return;
    }
    if spec.has(ProbeFlags::FORWARDS) {
        state.arrived = FORWARDED;
    }
    let hop = if spec.has(ProbeFlags::DEVICE) {
        next_hop::<A>(A::word::<{ field!(skb_dev) }>(skb), state)
    } else {
        None
    };
    let account = &mut state.tracked.account;
    // Its queue was stopped when it was the driver's turn: the packet lay in the qdisc since.
    if spec.has(ProbeFlags::DEQUEUED) && (account.stage == DEV_QUEUE_XMIT || account.stage == QDISC_RUN) {
        account.stage = QDISC_WAIT;
    }
    if spec.has(ProbeFlags::REPEATS)
        && is_current
        && hop.is_none()
        && account.stage == spec.stage()
        && account.repeat(&mut state.record.path)
    {
        return;
    }
    context.now = now();
    close(state, context);
    state.tracked.account.stage = spec.stage();
    if let Some(hop) = hop {
        let position = come_to(hop, state, state.tracked.account.position);
        state.move_to(position);
    }
    if is_current && !spec.has(ProbeFlags::WAIT) {
        context.resume();
    } else {
        settle(spec, state, context);
    }
}

/// The CPU works on the packet in its new stage, or leaves it in a queue.
#[inline(always)]
fn settle(spec: ProbeSpec, state: &mut State, context: Context) {
    let waits = spec.action() == Action::Transmit as u8 && state.device_role.waits();
    if !spec.has(ProbeFlags::WAIT) && !waits {
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
    if spec.has(ProbeFlags::ALWAYS_NEW) || starts_paths(spec) && state.rejected == HANDED_OVER {
        return true;
    }
    if spec.has(ProbeFlags::NEW_AT_EDGE) && role_at(state, hop).is_edge()
        || spec.has(ProbeFlags::UNSEEN_ENDS) && is_left(state) && cannot_go_on::<A>(skb, spec, state, hop)
        || spec.has(ProbeFlags::UNSEEN_ENDS) && is_transmitted_elsewhere(spec, state)
    {
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
        copied(route_device(skb), setting!(offsets.dev_net))
    };
    opaque(A::word::<{ field!(sock_net) }>(sock)) == net
}

/// Whether a driver gets a packet that has not come to its device: what it gets is another packet.
#[inline(always)]
fn is_transmitted_elsewhere(spec: ProbeSpec, state: &State) -> bool {
    let stage = state.tracked.account.stage;
    spec.action() == Action::Transmit as u8 && !(DEV_QUEUE_XMIT..=QDISC_RUN).contains(&stage)
}

/// The role of the device that the packet is at now.
#[inline(always)]
fn role_at(state: &State, hop: Option<&HopEntry>) -> Role {
    match hop {
        Some(hop) => hop.role.get(),
        None => state.device_role,
    }
}

/// Whether a packet that its softirq has left cannot be the one that comes by here: what lay in a queue of IP or TCP goes
/// on through `__dev_queue_xmit`, and only what a tunnel has unpacked is received again.
#[inline(always)]
fn cannot_go_on<A: Access>(skb: u64, spec: ProbeSpec, state: &State, hop: Option<&HopEntry>) -> bool {
    if spec.action() == Action::Start as u8 {
        return A::word::<{ field!(skb_sk) }>(skb) == 0 && !is_same(skb, state);
    }
    !(spec.has(ProbeFlags::INGRESS) && role_at(state, hop).encapsulates())
}

/// Whether the packet comes in through an edge of this machine, to which no known packet's path leads. (A packet that an
/// `ifb` delays continues where it came in.)
#[inline(always)]
fn comes_from_outside(state: &State, hop: Option<&HopEntry>) -> bool {
    match hop {
        None => state.device_role.is_edge() && state.has_left(),
        Some(hop) => hop.role.get().is_edge() && (state.device_role.is_edge() || !state.has_left()),
    }
}

/// A packet that is not tracked passes a probe: what distinguishes it from a later one at its address is kept.
#[inline(always)]
fn pass_by(spec: ProbeSpec, state: &mut State, hop: Option<&HopEntry>) {
    if spec.action() == Action::Transmit as u8 {
        edges::passed(role_at(state, hop), Passage::Sent, fate_of(state.rejected));
    }
    if spec.has(ProbeFlags::INGRESS) {
        state.arrived = ARRIVED;
    }
}

/// The hop of the device that the packet is at, if it is another device than before.
#[inline(always)]
fn next_hop<A: Access>(device: u64, state: &State) -> Option<&'static HopEntry> {
    if device == 0 || opaque(device) == state.device { None } else { hop::of_device::<A>(device) }
}

/// The packet is at another hop: the position there.
#[inline(always)]
fn come_to(hop: &HopEntry, state: &mut State, position: u32) -> u32 {
    state.device = hop.owner.get();
    state.device_role = hop.role.get();
    state.reach(hop);
    position & !HOP_MASK | hop.hop.get() as u32
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
    if spec.has(ProbeFlags::DEVICE | ProbeFlags::ROUTED) {
        if let Some(hop) = hop {
            position = come_to(hop, state, position);
            // A tunnel device has removed its headers from what it receives.
            if spec.has(ProbeFlags::INGRESS) && state.device_role.encapsulates() {
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

/// Identifies the packet by its headers, unless the filter rejects it.
#[inline(always)]
fn filter<A: Access>(skb: u64, spec: ProbeSpec, state: &mut State) {
    let is_encapsulated = spec.action() == Action::Transmit as u8 && state.device_role.encapsulates();
    identify::<A>(skb, spec.has(ProbeFlags::INGRESS), is_encapsulated as u32, state);
    let is_new = state.entry == 0 && state.record.header.flags.has(RecordFlags::FROM_DEVICE);
    if is_entry(spec) && is_new {
        edges::entered::<A>(skb, spec.has(ProbeFlags::BEHIND_GRO), state);
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
