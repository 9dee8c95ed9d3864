//! What happens when a probe fires.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::bpf_get_current_task;
use overlay_trace_common::{
    kernel::{ARMED_ALL, ARMED_BIRTHS},
    record::{
        Counter, FLAG_CHILD, FLAG_FROM_DEVICE, FLAG_UNKNOWN_START, HEADER_BYTES, Outcome, RecordHeader,
        SEGMENT_RESUMED,
    },
    row::*,
    stage::Action,
    stage_map::{OTHER, SOCKET_SEND, TCP_SEND},
};

use crate::{
    account::{busy, close, push, release_cpu, send, take_cpu},
    hop,
    identify::{identify, passes},
    maps::{ARMED, Busy, HopEntry, NOTES, Record, SEND_NOTES, SendNote, State, count, setting},
    read::{self, Access, Copied, copied as copied_word, low_half, now, opaque},
    state::{claim, find, find_near, is_counted, leave as leave_place, lost},
};

const IPPROTO_TCP: u8 = 6;
/// The part of a key that says where the packet is: level and hop.
const PLACE_MASK: u64 = 0x000f_ffff_0000_0000;
const HOP_MASK: u64 = 0x0000_ffff_0000_0000;
/// In `sk_buff._skb_refdst`: the route is not counted as used.
const DST_NOREF: u64 = 1;
const LEVEL_MASK: u64 = 0xf << 48;
const LEVEL_ONE: u64 = 1 << 48;

#[inline(always)]
const fn stage_bits(stage: u8) -> u64 {
    (stage as u64) << 56
}

/// A packet has come to a stage.
#[inline(always)]
pub fn enter<A: Access>(skb: u64, row: Row) {
    if skb == 0 {
        return;
    }
    let Some((busy, cpu)) = busy() else { return };
    let mut is_new = false;
    let state = match find_near(skb, busy) {
        Some(state) => state,
        None => {
            is_new = true;
            let born = if begins_ways(row) && is_armed(row) { claim(skb) } else { None };
            let Some(state) = born else { return };
            state
        }
    };
    if !is_new && is_another::<A>(skb, row, state) {
        lost(state);
        is_new = true;
    }
    if !is_new && (state.rejected != 0 || row.has(ROW_AFTER) && state.cpu as u32 != cpu) {
        return pass_by(row, state);
    }
    let now = now();
    if is_new {
        begin::<A>(skb, row, state, busy, cpu, now);
    } else {
        close(state, busy, cpu, now);
    }
    if row.has(ROW_EXIT) {
        state.before = state.current;
    }
    move_to::<A>(skb, row, state);
    state.cpu = cpu as u16;
    if row.has(ROW_WAIT) {
        release_cpu(busy, cpu, skb, now);
    } else {
        take_cpu(busy, cpu, skb, state, now);
    }
    if row.has(ROW_IDENTIFY) && state.identified == 0 {
        filter::<A>(skb, row, state);
    }
}

/// A known packet has come to a stage at the same place: what most probes do, in as few instructions as
/// possible.
#[inline(always)]
pub fn step(skb: u64, row: Row) {
    if skb == 0 {
        return;
    }
    let Some((busy, cpu)) = busy() else { return };
    let Some(state) = find_near(skb, busy) else { return };
    if state.rejected != 0 {
        return;
    }
    let now = now();
    close(state, busy, cpu, now);
    state.current = stage_bits(row.stage()) | state.current & PLACE_MASK;
    state.cpu = cpu as u16;
    if row.has(ROW_WAIT) {
        release_cpu(busy, cpu, skb, now);
    } else {
        take_cpu(busy, cpu, skb, state, now);
    }
}

/// Whether what is known under the packet's address is of an earlier packet, whose end was not seen.
#[inline(always)]
fn is_another<A: Access>(skb: u64, row: Row, state: &State) -> bool {
    if row.has(ROW_FIRST) {
        return true;
    }
    if !begins_ways(row) || row.has(ROW_INGRESS) || state.arrived == 0 {
        return false;
    }
    // It has arrived, and now goes out through a device of the very namespace that its socket is in: what
    // is forwarded has no socket, or one of the namespace that it was sent from.
    let sock = A::word(skb, setting!(offsets.skb_sk));
    if sock == 0 {
        return false;
    }
    let device = if row.has(ROW_HOP) {
        opaque(A::word(skb, setting!(offsets.skb_dev)))
    } else {
        let route: u64 = copied_word(skb, setting!(offsets.skb_dst));
        copied_word(route & !DST_NOREF, setting!(offsets.dst_dev))
    };
    let net: u64 = copied_word(device, setting!(offsets.dev_net));
    opaque(A::word(sock, setting!(offsets.sock_net))) == net
}

/// A packet that is not followed comes by: what tells it from a later one at its address is kept.
#[inline(always)]
fn pass_by(row: Row, state: &mut State) {
    if row.has(ROW_INGRESS) {
        state.arrived = 1;
    }
}

/// Opens the segment of the stage, at the level and hop where the packet now is.
#[inline(always)]
fn move_to<A: Access>(skb: u64, row: Row, state: &mut State) {
    let mut place = state.current & PLACE_MASK;
    if row.has(ROW_DOWN) {
        place = one_level_less(place);
    }
    let mut stage = row.stage();
    if row.has(ROW_HOP) {
        let device = A::word(skb, setting!(offsets.skb_dev));
        if device != 0 && opaque(device) != state.device {
            if let Some(entry) = hop::of_device::<A>(device) {
                state.device = opaque(device);
                place = place & !HOP_MASK | (entry.hop as u64) << 32;
                reach(state, entry);
                state.transmit_stage = entry.transmit_stage;
                state.up = entry.up;
                // What comes out of a tunnel device on the way in has lost the tunnel's headers.
                if row.has(ROW_INGRESS) && entry.up != 0 {
                    place = one_level_less(place);
                }
            }
        }
        if row.action() == Action::Transmit as u8 {
            stage = state.transmit_stage;
            place += (state.up as u64) * LEVEL_ONE;
        }
    }
    if row.has(ROW_INGRESS) {
        state.arrived = 1;
    }
    state.current = stage_bits(stage) | place;
}

/// The packet has come to a hop; from the first one that the filter asks for on it counts.
#[inline(always)]
fn reach(state: &mut State, entry: &HopEntry) {
    if entry.matched != 0 && state.matched == 0 {
        state.matched = 1;
        count(Counter::Started, 1);
    }
}

#[inline(always)]
fn one_level_less(place: u64) -> u64 {
    if place & LEVEL_MASK == 0 { place } else { place - LEVEL_ONE }
}

/// Reads the packet's addresses; if the filter does not let it pass, it is known but no longer followed.
#[inline(always)]
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
    let Some(armed) = ARMED.get_ptr(0) else { return false };
    let needed = if row.action() == Action::Adopt as u8 { ARMED_ALL } else { ARMED_BIRTHS };
    unsafe { armed.read_volatile() >= needed }
}

/// Zeroes a header word by word; the target's `memset` goes byte by byte.
#[inline(always)]
fn clear(header: &mut RecordHeader) {
    let words = header as *mut RecordHeader as *mut u64;
    let mut word = 0;
    while word < HEADER_BYTES / 8 {
        unsafe { words.add(word).write_volatile(0) };
        word += 1;
    }
}

/// Begins a way.
#[inline(always)]
fn begin<A: Access>(skb: u64, row: Row, state: &mut State, busy: &mut Busy, cpu: u32, now: u64) {
    reset(state, busy, cpu, now);
    if row.action() == Action::Adopt as u8 {
        state.record.header.flags = if row.has(ROW_INGRESS) { FLAG_FROM_DEVICE } else { FLAG_UNKNOWN_START };
    } else {
        let sock = A::word(skb, setting!(offsets.skb_sk));
        born::<A>(sock, state, now);
    }
}

#[inline(always)]
fn reset(state: &mut State, busy: &mut Busy, cpu: u32, now: u64) {
    state.last_ns = now;
    state.interrupted_ns = 0;
    state.current = stage_bits(OTHER);
    state.overflow_ns = 0;
    state.identified = 0;
    state.matched = 0;
    state.empty = 0;
    state.rejected = 0;
    state.device = 0;
    state.copy = 0;
    state.arrived = 0;
    state.transmit_stage = setting!(transmit_default) as u8;
    state.up = 0;
    clear(&mut state.record.header);
    state.record.header.start_ns = now;
    state.record.header.segments = 1;
    busy.births += 1;
    state.cpu = cpu as u16;
    state.record.header.id = (cpu as u64) << 40 | busy.births as u64;
}

/// The packet was made by a socket of this machine: what was noted of the send call is its beginning.
#[inline(always)]
fn born<A: Access>(sock: u64, state: &mut State, now: u64) {
    if sock == 0 {
        return;
    }
    let net = A::word(sock, setting!(offsets.sock_net));
    if net != 0 {
        if let Some(entry) = hop::of_net(net) {
            state.current |= (entry.hop as u64) << 32;
            reach(state, entry);
        }
    }
    let Some(note) = send_note(sock) else { return };
    if note.sock != opaque(sock) || note.task != task() {
        return;
    }
    let place = state.current & PLACE_MASK;
    let sent = if note.transmit_ns != 0 { note.transmit_ns } else { now };
    if note.call_ns != 0 {
        state.record.header.start_ns = note.call_ns;
        push(state, stage_bits(SOCKET_SEND) | place, sent - note.call_ns);
    } else {
        state.record.header.start_ns = sent;
    }
    if note.transmit_ns != 0 {
        push(state, stage_bits(TCP_SEND) | place, now - sent);
    }
    note.sock = 0;
}

#[inline(always)]
fn task() -> u64 {
    unsafe { bpf_get_current_task() }
}

#[inline(always)]
fn send_note(sock: u64) -> Option<&'static mut SendNote> {
    let mixed = (low_half(sock) >> 6) ^ (task() as u32 >> 6).wrapping_mul(31);
    let note = SEND_NOTES.get_ptr_mut(mixed & (NOTES - 1))?;
    Some(unsafe { &mut *note })
}

/// A task has begun to send from a socket.
#[inline(always)]
pub fn note(sock: u64, row: Row) {
    let Some(note) = send_note(sock) else { return };
    let (key, task, now) = (opaque(sock), task(), now());
    let known = note.sock == key && note.task == task;
    if row.stage() == TCP_SEND {
        if !known {
            note.call_ns = 0;
        }
        note.transmit_ns = now;
    } else {
        note.call_ns = now;
        note.transmit_ns = 0;
    }
    note.sock = key;
    note.task = task;
}

/// The send call is over: what was not sent in it will not be its packet.
#[inline(always)]
pub fn forget(sock: u64) {
    if let Some(note) = send_note(sock) {
        if note.sock == opaque(sock) && note.task == task() {
            note.sock = 0;
        }
    }
}

/// The stage's function returns: the packet is back in the stage that it came from.
#[inline(always)]
pub fn leave(skb: u64, row: Row, returned: u64) {
    if skb == 0 {
        return;
    }
    let Some((busy, cpu)) = busy() else { return };
    let Some(state) = find_near(skb, busy) else { return };
    if (state.current >> 56) as u8 != row.stage() {
        count(Counter::UnmatchedExits, 1);
        return;
    }
    let now = now();
    close(state, busy, cpu, now);
    state.current = state.before & !SEGMENT_RESUMED;
    state.cpu = cpu as u16;
    take_cpu(busy, cpu, skb, state, now);
    if row.has(ROW_CHILDREN) {
        split(state, returned, busy, cpu, now);
    }
}

/// How many segments of one packet are followed.
const SEGMENTS_MAX: usize = 64;

/// Begins the ways of the segments that the packet was cut into; each has it as its parent.
#[inline(always)]
fn split(parent: &mut State, first: u64, busy: &mut Busy, cpu: u32, now: u64) {
    if !is_packet(first) {
        return;
    }
    let mut segment = first;
    let mut number = 0;
    while number < SEGMENTS_MAX && segment != 0 {
        child(parent, segment, busy, cpu, now);
        segment = copied_word(segment, setting!(offsets.skb_next));
        number += 1;
    }
    parent.record.header.outcome = Outcome::Split as u8;
}

/// Not NULL and not an error number.
#[inline(always)]
fn is_packet(returned: u64) -> bool {
    returned != 0 && returned < 0xffff_ffff_ffff_f000
}

/// Begins the way of a packet that was made of another one, where that one is.
#[inline(always)]
fn child(parent: &State, skb: u64, busy: &mut Busy, cpu: u32, now: u64) {
    let state = match find(skb) {
        Some(known) => {
            lost(known);
            known
        }
        None => {
            let Some(free) = claim(skb) else { return };
            free
        }
    };
    reset(state, busy, cpu, now);
    state.current = parent.current & !SEGMENT_RESUMED;
    state.identified = parent.identified;
    state.matched = parent.matched;
    state.rejected = parent.rejected;
    state.device = parent.device;
    state.arrived = parent.arrived;
    state.transmit_stage = parent.transmit_stage;
    state.up = parent.up;
    let header = &mut state.record.header;
    header.parent = parent.record.header.id;
    header.flow = parent.record.header.flow;
    header.flags = FLAG_CHILD;
    header.bytes = copied_word(skb, setting!(offsets.skb_len));
    if is_counted(state) {
        count(Counter::Started, 1);
    }
}

/// A function has returned a packet: it enters the stage.
#[inline(always)]
pub fn returned(skb: u64, row: Row) {
    if is_packet(skb) {
        enter::<Copied>(skb, row);
    }
}

/// A function has returned a copy of the packet.
#[inline(always)]
pub fn copied(skb: u64, copy: u64) {
    if skb == 0 || !is_packet(copy) {
        return;
    }
    let Some(parent) = find(skb) else { return };
    let Some((busy, cpu)) = busy() else { return };
    child(parent, copy, busy, cpu, now());
    parent.copy = opaque(copy);
    parent.copied_ns = parent.last_ns;
}

/// A socket has got something: if it is of the protocol of the packet that this CPU is busy with, it got
/// that packet.
#[inline(always)]
pub fn queued<A: Access>(sock: u64, row: Row) {
    let Some((busy, _)) = busy() else { return };
    let skb = busy.skb;
    let Some(state) = find(skb) else { return };
    let protocol = A::half(sock, setting!(offsets.sock_protocol)) as u16;
    if protocol == state.record.header.flow.protocol as u16 && protocol != IPPROTO_TCP as u16 {
        end(skb, row, 0, 0);
    }
}

/// A packet that is freed as soon as it has been copied (to be alone in having its data, or to get more
/// headroom) goes on as its copy: the copy inherits its way.
#[inline(always)]
fn handed_on(state: &mut State) -> bool {
    if state.copy == 0 || state.copied_ns != state.last_ns {
        return false;
    }
    let Some(heir) = find(state.copy) else { return false };
    if heir.record.header.parent != state.record.header.id || heir.record.header.way_len != 0 {
        return false;
    }
    let copied = read::copy(
        &raw mut heir.record as *mut c_void,
        size_of::<Record>() as u32,
        &raw const state.record as u64,
    );
    if copied {
        heir.last_ns = state.last_ns;
        heir.interrupted_ns = state.interrupted_ns;
        heir.overflow_ns = state.overflow_ns;
        // The copy was counted as a packet of its own when it was made.
        if is_counted(state) {
            count(Counter::Started, u64::MAX);
        }
        leave_place(state);
    }
    copied
}

/// The packet's way is over.
#[inline(always)]
pub fn end(skb: u64, row: Row, location: u64, reason: u32) {
    if skb == 0 {
        return;
    }
    let Some((busy, cpu)) = busy() else { return };
    let Some(state) = find_near(skb, busy) else { return };
    if row.has(ROW_EMPTY_ONLY) && state.empty == 0 {
        return;
    }
    if row.outcome() == Outcome::Freed as u8 && handed_on(state) {
        return;
    }
    let now = now();
    close(state, busy, cpu, now);
    release_cpu(busy, cpu, skb, now);
    if !is_counted(state) {
        // It does not matter, or was counted when the filter rejected it.
    } else if state.identified == 0 {
        count(Counter::Filtered, 1);
    } else {
        let header = &mut state.record.header;
        header.end_ns = now;
        header.cpu = cpu as u16;
        header.drop_location = location;
        header.drop_reason = reason;
        if header.outcome != Outcome::Split as u8 {
            header.outcome = row.outcome();
        }
        send(state);
    }
    leave_place(state);
}

/// The way of an invented packet, for measuring what a probe costs.
#[inline(always)]
pub fn calibrate(row: Row) {
    const INVENTED: u64 = 64;
    let Some((busy, cpu)) = busy() else { return };
    let Some(state) = (match find_near(INVENTED, busy) {
        Some(state) => Some(state),
        None => claim(INVENTED),
    }) else {
        return;
    };
    let now = now();
    state.record.header.way_len = 0;
    close(state, busy, cpu, now);
    state.current = stage_bits(row.stage());
    state.cpu = cpu as u16;
    take_cpu(busy, cpu, INVENTED, state, now);
}
