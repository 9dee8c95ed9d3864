//! How a packet's way begins, and what was noted before there was a packet.

use aya_ebpf::helpers::generated::bpf_get_current_task;
use overlay_trace_common::{
    record::{FLAG_FROM_DEVICE, FLAG_UNKNOWN_START, HEADER_BYTES, RecordHeader},
    row::*,
    stage::Action,
    stage_map::{CGROUP_PROGRAM, OTHER, SOCKET_SEND, TCP_SEND},
    way::later,
};

use crate::{
    event::reach,
    hop,
    maps::{NOTES, Role, SEND_NOTES, SendNote, State, setting},
    read::{Access, field, low_half, now, opaque},
};

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
pub fn begin<A: Access>(skb: u64, row: Row, state: &mut State, number: u32, now: u64) {
    reset(state, number, now);
    if row.action() == Action::Adopt as u8 {
        state.record.header.flags = if row.has(ROW_INGRESS) { FLAG_FROM_DEVICE } else { FLAG_UNKNOWN_START };
    } else {
        let sock = A::word::<{ field!(skb_sk) }>(skb);
        born::<A>(sock, row, state, now);
    }
}

#[inline(always)]
pub fn reset(state: &mut State, number: u32, now: u64) {
    state.followed.account.begin(&mut state.record.way, now, OTHER, number);
    state.clear_marks();
    state.at = Role::new(setting!(transmit_default), false, false);
    let none = opaque(0);
    state.device = none;
    state.sock = none;
    state.copy = none;
    state.children = none as u16;
    state.arrived = none as u8;
    clear(&mut state.record.header);
    state.record.header.start_ns = now;
    state.record.header.segments = 1;
    number_anew(state);
}

/// Gives a new packet its number. It is counted where nobody else counts: an interrupt would come between the
/// steps of counting in what is the CPU's.
#[inline(always)]
pub fn number_anew(state: &mut State) {
    state.births += 1;
    state.record.header.id = (state.followed.number as u64) << 40 | state.births;
}

/// The packet was made by a socket of this machine: what was noted of the send call is its beginning.
#[inline(always)]
fn born<A: Access>(sock: u64, row: Row, state: &mut State, now: u64) {
    if sock == 0 {
        return;
    }
    state.sock = opaque(sock);
    let net = A::word::<{ field!(sock_net) }>(sock);
    if net != 0 {
        if let Some(entry) = hop::of_net(net) {
            state.followed.account.go(&mut state.record.way, entry.hop as u32);
            reach(state, entry);
        }
    }
    if !row.has(ROW_NOTED) {
        return;
    }
    let Some(note) = send_note(sock) else { return };
    if note.sock != opaque(sock) || note.task != task() {
        return;
    }
    let sent = if note.transmit_ns != 0 { note.transmit_ns } else { now };
    let called = if note.call_ns != 0 { note.call_ns } else { sent };
    let sent = later(sent, called);
    let now = later(now, sent);
    state.record.header.start_ns = called;
    state.followed.account.last_ns = now;
    if note.call_ns != 0 {
        push_call(note, state, called, sent);
    }
    if note.transmit_ns != 0 {
        state.followed.account.push(&mut state.record.way, TCP_SEND, now - sent);
    }
    note.sock = 0;
}

/// The time of a send call, from `called` to `sent`, of which programs of the cgroup may have had a part.
#[inline(always)]
fn push_call(note: &SendNote, state: &mut State, called: u64, sent: u64) {
    let (account, way) = (&mut state.followed.account, &mut state.record.way);
    let begun = note.program_ns;
    let ended = begun + note.programmed_ns;
    if begun < called || ended > sent || begun == ended {
        return account.push(way, SOCKET_SEND, sent - called);
    }
    account.push(way, SOCKET_SEND, begun - called);
    account.push(way, CGROUP_PROGRAM, ended - begun);
    account.push(way, SOCKET_SEND, sent - ended);
}

/// The task that this CPU runs, or has interrupted.
#[inline(always)]
pub fn task() -> u64 {
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
    if row.stage() == CGROUP_PROGRAM {
        // A call that is no send call, as connect, makes no packet of its own.
        if known {
            note.program_ns = now;
        }
        return;
    }
    if row.stage() == TCP_SEND {
        if !known {
            note.call_ns = 0;
        }
        note.transmit_ns = now;
    } else {
        note.call_ns = now;
        note.transmit_ns = 0;
        note.program_ns = 0;
        note.programmed_ns = 0;
    }
    note.sock = key;
    note.task = task;
}

/// What was noted is over: the cgroup's programs have looked at the call; or the call itself, and what was not
/// sent in it will not be its packet.
#[inline(always)]
pub fn noted(sock: u64, row: Row) {
    let Some(note) = send_note(sock) else { return };
    if note.sock != opaque(sock) || note.task != task() {
        return;
    }
    if row.stage() != CGROUP_PROGRAM {
        note.sock = 0;
    } else if note.program_ns != 0 {
        note.programmed_ns = now() - note.program_ns;
    }
}
