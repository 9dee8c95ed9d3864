//! Ends of paths that no tracepoint shows. The set `device` finds them by what it can see: sequence numbers, and the
//! state of sockets; and it notices where a path cannot go on.
//!
//! Where a task has a TCP socket locked, its segments go to the socket's backlog, which joins a segment to the one
//! before it and frees it. When the task unlocks the socket, `tcp_probe` shows the joined segment, with the range of
//! sequence numbers of all. (Where a new packet has the address of a freed one before that, the freed one ends as merged,
//! where its softirq left it: see `packet_table::missed_end`.) Segments of a handshake, and the last ones of a connection, are freed where the socket's
//! state changes.

use overlay_trace_common::{
    cpu::Context,
    flags::{ProbeFlags, RecordFlags},
    headers::{IPPROTO_TCP, IPV4_HEADER, IPV6_HEADER},
    path::HOP_BITS,
    probe_spec::ProbeSpec,
    record::{Flow, Outcome},
    stage_map::{RECEIVE, TCP_BACKLOG_WAIT},
};

use crate::{
    account::{close, conclude, conclude_left, here, is_left, seen_here},
    maps::{PARSED, SEGMENT_ENTRIES, SEGMENTS, State, setting},
    packet_table::{Packet, Table, hide, release_hidden, show},
    read::{copied, now, words},
};

/// The most segments that are looked for behind one: a segment that others are joined to has room for 17 fragments.
const JOINED_MAX: usize = 20;
/// The most segments with one sequence number that are looked at.
const SAME_NUMBER_MAX: usize = 12;
/// In a TCP header: the byte that begins with the header's length in words.
const DATA_OFFSET: u32 = 12;

/// The entry of [`SEGMENTS`] for a sequence number.
#[inline(always)]
fn entry_of(sequence: u32) -> Option<*mut u32> {
    const SHIFT: u32 = 32 - SEGMENT_ENTRIES.trailing_zeros();
    SEGMENTS.get_ptr_mut(sequence.wrapping_mul(0x9e37_79b1) >> SHIFT)
}

/// The number in the packet table of what may be the last segment with this sequence number.
#[inline(always)]
fn last_with(sequence: u32) -> u32 {
    // SAFETY: an entry of the map, a number.
    entry_of(sequence).map_or(0, |entry| unsafe { entry.read_volatile() })
}

/// Remembers a segment whose headers have been parsed.
#[inline(always)]
pub fn note(state: &mut State) {
    let flow = &state.record.header.flow;
    if flow.protocol != IPPROTO_TCP {
        return;
    }
    if let Some(entry) = entry_of(flow.sequence) {
        // SAFETY: an entry of the map, a number. Of two CPUs that write it at the same time one wins: it is a hint.
        unsafe {
            state.segment_before = entry.read_volatile();
            entry.write_volatile(state.tracked.number);
        }
    }
}

/// Whether what is freed at the packet's address is another packet, after the packet's end was missed.
#[inline(always)]
pub fn is_another_one(skb: u64, spec: ProbeSpec, state: &State) -> bool {
    is_left(state) && !spec.has(ProbeFlags::IN_TCP) && !is_same(skb, state)
}

/// Whether the packet's IP header is that of the packet that is known under its address.
#[inline(never)]
pub fn is_same(skb: u64, state: &State) -> bool {
    let flow = &state.record.header.flow;
    if state.parsed != PARSED || state.tracked.account.position >> HOP_BITS != 0 {
        return true;
    }
    let header: u16 = copied(skb, setting!(offsets.skb_network_header));
    let head: u64 = copied(skb, setting!(offsets.skb_head));
    let ip = head + header as u64;
    if flow.version == 4 {
        let id: u16 = copied(ip, 4);
        return u16::from_be(id) == flow.ip_id;
    }
    let source: [u64; 2] = copied(ip, 8);
    (source[0], source[1]) == words(&flow.source)
}

/// TCP takes a segment up: `tcp_probe`. If it comes out of the socket's backlog, those that were joined to it there end
/// with it.
#[inline(always)]
pub fn taken_up(mut packet: Packet<'static>, sock: u64, skb: u64) -> Packet<'static> {
    let owned: u32 = copied(sock, setting!(offsets.sock_owned));
    if owned != 0 {
        fetched(&mut packet);
        end_joined(&packet, skb);
    }
    packet
}

/// The packet comes out of its socket's backlog.
#[inline(always)]
fn fetched(state: &mut State) {
    if state.tracked.account.interrupted_ns != 0 {
        state.tracked.account.interrupted_by = TCP_BACKLOG_WAIT;
    }
}

/// Ends the segments that were joined to `keeper`: those with the sequence numbers that it has beyond its own.
#[inline(never)]
fn end_joined(keeper: &Packet, skb: u64) {
    let data: u64 = copied(skb, setting!(offsets.skb_data));
    let offset: u16 = copied(data, DATA_OFFSET);
    let headers = ip_header(keeper) + (offset as u32 >> 4 & 15) * 4;
    let end: u32 = copied(skb, setting!(offsets.skb_cb) + 4);
    let mut wanted = keeper.record.header.flow.sequence.wrapping_add(payload(keeper, headers));
    let mut number = last_with(wanted);
    let mut joined = 0;
    while joined < JOINED_MAX {
        // Not behind the range; the difference of two numbers of a window is small.
        if end.wrapping_sub(wanted) as i32 <= -1 {
            return;
        }
        let next = end_one(keeper.tracked.number, number, wanted, end, headers);
        if next == NO_MORE {
            return;
        }
        number = next as u32;
        let length = (next >> 32) as u32;
        if length != 0 {
            wanted = wanted.wrapping_add(length);
            number = last_with(wanted);
        }
        joined += 1;
    }
}

/// The result of [`end_one`] where no segment was joined.
const NO_MORE: u64 = u64::MAX;

/// Ends the segment with this number in the packet table, if it was joined to `keeper`. Returns the length of its data
/// (high half) and the number of the segment that had its sequence number before (low half). A global function: the
/// verifier follows it once for a program, and not again for each segment that may be joined.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn end_one(keeper: u32, number: u32, wanted: u32, end: u32, headers: u32) -> u64 {
    // SAFETY: the caller has a handle of the keeper only, and uses it for reading its number meanwhile.
    let table = unsafe { Table::open() };
    let Some(keeper) = table.numbered(keeper) else { return NO_MORE };
    let Some(mut segment) = keeper.other(number) else { return NO_MORE };
    let state = &mut *segment;
    if !is_waiting(state, wanted) || !is_of_flow(&state.record.header.flow, &keeper.record.header.flow) {
        return NO_MORE;
    }
    let length = payload(state, headers);
    // Of segments without data all have the same number; those that a CPU is busy with have not been joined.
    let is_on_its_way = length == 0 && state.tracked.account.interrupted_ns == 0;
    if is_on_its_way || end.wrapping_sub(wanted.wrapping_add(length)) as i32 <= -1 {
        return NO_MORE;
    }
    let before = state.segment_before;
    if !hide(state) {
        return NO_MORE;
    }
    if !is_waiting(state, wanted) {
        show(state);
        return NO_MORE;
    }
    conclude_here(state);
    (length as u64) << 32 | before as u64
}

/// TCP takes the packet, which is hidden, up now: its path ends, as delivered.
#[inline(always)]
fn conclude_here(state: &mut State) {
    let context = Context { now: now(), ..here() };
    seen_here(state, context);
    fetched(state);
    close(state, context);
    context.cpu.drop_current(state.tracked.skb);
    conclude(state, context, Outcome::Delivered as u8);
    release_hidden(state);
}

/// Whether it is a segment with this sequence number that has come up from its device and has not ended.
#[inline(always)]
fn is_waiting(state: &State, sequence: u32) -> bool {
    let flow = &state.record.header.flow;
    state.tracked.skb != 0
        && state.tracked.account.stage == RECEIVE
        && flow.sequence == sequence
        && flow.protocol == IPPROTO_TCP
}

/// Whether both are of one flow: addresses, ports and protocol are the same.
#[inline(always)]
fn is_of_flow(one: &Flow, other: &Flow) -> bool {
    let (one, other) = (one as *const Flow as *const u64, other as *const Flow as *const u64);
    let mut word = 0;
    while word < 4 {
        // SAFETY: both addresses are the first four words of a flow, at a multiple of eight bytes in a record.
        if unsafe { one.add(word).read_unaligned() != other.add(word).read_unaligned() } {
            return false;
        }
        word += 1;
    }
    // SAFETY: the ports are the next four bytes.
    unsafe { (one.add(4) as *const u32).read_unaligned() == (other.add(4) as *const u32).read_unaligned() }
}

/// Bytes of the packet's IP header without options.
#[inline(always)]
fn ip_header(state: &State) -> u32 {
    if state.record.header.flow.version == 4 { IPV4_HEADER as u32 } else { IPV6_HEADER as u32 }
}

/// Bytes of the segment's data, if it has so many bytes of headers.
#[inline(always)]
fn payload(state: &State, headers: u32) -> u32 {
    let is_empty = state.record.header.flags.has(RecordFlags::NO_DATA);
    let bytes = state.record.header.bytes + state.gro_grown;
    if is_empty || bytes < headers { 0 } else { bytes - headers }
}

/// A connection's state changes: `inet_sock_set_state`. TCP does that for the segment that it is processing. Of those
/// that have come up with its sequence number it is the first one that its softirq has not left; those that were left
/// were processed before, in a state in which nothing shows it.
#[inline(always)]
pub fn state_changed(table: Table, sock: u64, protocol: u16, state: u32) {
    if protocol != IPPROTO_TCP as u16 || TAKES_SEGMENT >> (state & 31) & 1 == 0 {
        return;
    }
    let next: u32 = copied(sock, setting!(offsets.tcp_rcv_nxt));
    end_first(&table, next);
    // SYN and FIN have a number of their own, which the socket counts already, or not yet.
    end_first(&table, next.wrapping_sub(1));
}

/// States that a segment brings about, by their numbers in `net/tcp_states.h`: established, FIN_WAIT2, TIME_WAIT, CLOSE,
/// CLOSE_WAIT, CLOSING.
const TAKES_SEGMENT: u32 = 1 << 1 | 1 << 5 | 1 << 6 | 1 << 7 | 1 << 8 | 1 << 11;

/// Ends the first of the segments with this sequence number that have come up, and those that were left before.
#[inline(never)]
fn end_first(table: &Table, sequence: u32) {
    let mut number = last_with(sequence);
    let mut first = NONE;
    let mut seen = 0;
    while seen < SAME_NUMBER_MAX {
        let next = end_left(number, sequence);
        if next == NO_MORE {
            break;
        }
        // An entry that was used again can lead back to itself.
        if next as u32 == number {
            break;
        }
        if next >> 32 == 0 {
            first = number;
        }
        number = next as u32;
        seen += 1;
    }
    if first != NONE
        && let Some(mut segment) = table.numbered(first)
        && hide(&mut segment)
    {
        conclude_here(&mut segment);
    }
}

/// No number of a packet.
const NONE: u32 = u32::MAX;

/// Ends the segment with this number in the packet table, if its softirq has left it: where it was left. Returns whether
/// it did so (high half) and the number of the segment that had the sequence number before (low half). A global function,
/// as [`end_one`] is.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn end_left(number: u32, sequence: u32) -> u64 {
    // SAFETY: the caller has no handle of a packet.
    let table = unsafe { Table::open() };
    let Some(mut segment) = table.numbered(number) else { return NO_MORE };
    if !is_waiting(&segment, sequence) || segment.is_rejected() {
        return NO_MORE;
    }
    let before = segment.segment_before;
    if !is_left(&segment) {
        return before as u64;
    }
    if !hide(&mut segment) {
        return before as u64;
    }
    conclude_left(&mut segment, Outcome::Delivered as u8);
    release_hidden(&mut segment);
    1 << 32 | before as u64
}
