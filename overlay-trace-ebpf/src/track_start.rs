//! The start of a packet's path, and the send calls that are noted before the packet exists.

use aya_ebpf::helpers::generated::bpf_get_current_task;
use overlay_trace_common::{
    cpu::Context,
    flags::{ProbeFlags, RecordFlags},
    path::later,
    probe_spec::ProbeSpec,
    record::{HEADER_BYTES, RecordHeader},
    stage::Action,
    stage_map::{CGROUP_PROGRAM, OTHER, SOCKET_SEND, TCP_SEND},
};

use crate::{
    hop,
    insn::{low_half, opaque},
    maps::{NOTES, Role, SEND_NOTES, SendNote, State, setting},
    read::{Access, field, now},
};

/// Zeroes a header word by word; the target's `memset` goes byte by byte.
#[inline(always)]
pub fn clear(header: &mut RecordHeader) {
    const { assert!(HEADER_BYTES.is_multiple_of(8) && align_of::<RecordHeader>() == 8) };
    let words = header as *mut RecordHeader as *mut u64;
    let mut word = 0;
    while word < HEADER_BYTES / 8 {
        // SAFETY: the header consists of so many words, of integers, of which zero is a value.
        unsafe { words.add(word).write_volatile(0) };
        word += 1;
    }
}

/// Starts a packet's path, or picks the packet up mid-path.
#[inline(always)]
pub fn start<A: Access>(skb: u64, spec: ProbeSpec, state: &mut State, context: Context) {
    reset(state, context);
    if spec.action() == Action::PickUp as u8 {
        let is_ingress = spec.has(ProbeFlags::INGRESS);
        state.record.header.flags =
            if is_ingress { RecordFlags::FROM_DEVICE } else { RecordFlags::UNKNOWN_START };
    } else {
        let sock = A::word::<{ field!(skb_sk) }>(skb);
        start_at_socket::<A>(sock, spec, state, context.now);
    }
}

/// Makes the state that of a new packet.
#[inline(always)]
pub fn reset(state: &mut State, context: Context) {
    state.tracked.account.start(&mut state.record.path, context.now, OTHER, context.number);
    state.clear_marks();
    state.device_role = Role::new(setting!(transmit_default), false, false, false);
    // Opaque: the compiler would turn adjacent zeros into a call of memset, which writes byte by byte.
    let none = opaque(0);
    state.device = none;
    state.sock = none;
    state.clone = none;
    state.handed_ns.set(none);
    state.segment_before = none as u32;
    state.gro_grown = none as u32;
    state.children = none as u16;
    state.arrived = none as u8;
    clear(&mut state.record.header);
    state.record.header.start_ns = context.now;
    state.record.header.segments = 1;
    renumber(state);
}

/// Gives a new packet its id. Its parts are counted per table entry: a counter of the CPU could be changed by an
/// interrupt in the middle of counting.
#[inline(always)]
pub fn renumber(state: &mut State) {
    state.uses += 1;
    state.record.header.id = (state.tracked.number as u64) << 40 | state.uses;
}

/// A socket of this machine made the packet: its path starts at the noted send call.
#[inline(always)]
fn start_at_socket<A: Access>(sock: u64, spec: ProbeSpec, state: &mut State, now: u64) {
    if sock == 0 {
        return;
    }
    state.sock = opaque(sock);
    let net = A::word::<{ field!(sock_net) }>(sock);
    if net != 0
        && let Some(hop) = hop::of_net(net)
    {
        state.move_to(hop.hop.get() as u32);
        state.reach(hop);
    }
    if !spec.has(ProbeFlags::HAS_SEND_NOTE) {
        return;
    }
    let Some(note) = send_note(sock) else { return };
    if !is_of(note, opaque(sock), task()) {
        return;
    }
    let (transmit_ns, call_ns) = (note.transmit_ns.get(), note.call_ns.get());
    let sent = if transmit_ns != 0 { transmit_ns } else { now };
    let called = if call_ns != 0 { call_ns } else { sent };
    let sent = later(sent, called);
    let now = later(now, sent);
    state.record.header.start_ns = called;
    state.tracked.account.last_ns = now;
    if call_ns != 0 {
        push_call(note, state, called, sent);
    }
    if transmit_ns != 0 {
        state.push(TCP_SEND, now - sent);
    }
    note.sock.set(0);
}

/// Appends the time of a send call, from `called` to `sent`, of which programs of the cgroup may have taken a part.
#[inline(always)]
fn push_call(note: &SendNote, state: &mut State, called: u64, sent: u64) {
    let started = note.program_ns.get();
    let ended = started + note.programmed_ns.get();
    if started < called || ended > sent || started == ended {
        return state.push(SOCKET_SEND, sent - called);
    }
    state.push(SOCKET_SEND, started - called);
    state.push(CGROUP_PROGRAM, ended - started);
    state.push(SOCKET_SEND, sent - ended);
}

/// The task that this CPU runs, or has interrupted.
#[inline(always)]
pub fn task() -> u64 {
    // SAFETY: a helper without arguments that every program may call.
    unsafe { bpf_get_current_task() }
}

#[inline(always)]
fn send_note(sock: u64) -> Option<&'static SendNote> {
    let hash = (low_half(sock) >> 6) ^ (task() as u32 >> 6).wrapping_mul(31);
    // SAFETY: an entry of the map, which stays where it is; it consists of shared cells.
    SEND_NOTES.get_ptr(hash & (NOTES - 1)).map(|note| unsafe { &*note })
}

#[inline(always)]
fn is_of(note: &SendNote, sock: u64, task: u64) -> bool {
    note.sock.get() == sock && note.task.get() == task
}

/// A task begins to send from a socket, or another step of that.
#[inline(always)]
pub fn note(sock: u64, spec: ProbeSpec) {
    let Some(note) = send_note(sock) else { return };
    let (key, task, now) = (opaque(sock), task(), now());
    let is_known = is_of(note, key, task);
    if spec.stage() == CGROUP_PROGRAM {
        // Other calls than send calls, as connect, make no packet of their own.
        if is_known {
            note.program_ns.set(now);
        }
        return;
    }
    if spec.stage() == TCP_SEND {
        if !is_known {
            note.call_ns.set(0);
        }
        note.transmit_ns.set(now);
    } else {
        note.call_ns.set(now);
        note.transmit_ns.set(0);
        note.program_ns.set(0);
        note.programmed_ns.set(0);
    }
    note.sock.set(key);
    note.task.set(task);
}

/// A noted step is over: the programs of the cgroup have run; or the send call itself, and a packet that is sent later
/// does not belong to it.
#[inline(always)]
pub fn note_end(sock: u64, spec: ProbeSpec) {
    let Some(note) = send_note(sock) else { return };
    if !is_of(note, opaque(sock), task()) {
        return;
    }
    let program_ns = note.program_ns.get();
    if spec.stage() != CGROUP_PROGRAM {
        note.sock.set(0);
    } else if program_ns != 0 {
        note.programmed_ns.set(now() - program_ns);
    }
}
