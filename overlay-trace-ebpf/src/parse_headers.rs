//! Parsing a packet's headers: the innermost packet's addresses, and its encapsulation level.
//!
//! The headers of a packet from a NIC may lie outside the linear part. Nothing is read beyond the linear part, and the
//! first fragment where its page can be found. A packet whose headers cannot be read is tracked all the same, and
//! identified at the next point that can read them, or by the packet that GRO merges it into.

use core::ffi::c_void;

use overlay_trace_common::{
    abi::{PORTS_PER_WORD, TrackingPhase},
    addresses::{Gso, describe},
    flags::RecordFlags,
    headers::{
        AT_IP, AT_TAG, ETHERNET_HEADER, ETHERTYPE_QINQ, ETHERTYPE_VLAN, IPPROTO_TCP, Innermost, Memory,
        PLAIN_BYTES, Tunnel, Verdict, WINDOW_BYTES, WINDOW_ROOM, Window, plain, walk,
    },
    packet_sampling::is_sampled,
    path::{HOP_BITS, levels_up},
    record::{Counter, Flow},
};

use crate::{
    insn::{exposed, opaque},
    maps::{
        AWAITED, IN_FLIGHT, NOT_IP, PARSED, Pieces, REJECTED, STATES, State, TUNNEL_PORTS, UNPARSED,
        UNSAMPLED, count, setting, tracking_phase,
    },
    read::{Access, Copied, copied, copy, field, first_fragment, words},
};

/// Where levels are counted from until the headers have been read: each encapsulation that is removed meanwhile takes
/// one off.
const PROVISIONAL_LEVEL: u64 = 8;

/// A packet in the kernel's memory.
struct Packet {
    data: u64,
    /// `skb_shared_info`.
    shared: u64,
    pieces: *mut Pieces,
}

/// Reads or writes a field of [`Pieces`].
macro_rules! piece {
    ($packet:ident.$field:ident) => {{
        // SAFETY: a pointer to a map's memory; see `parse`. No reference to it is used meanwhile.
        unsafe { (&raw mut (*$packet.pieces).$field).read_volatile() }
    }};
    ($packet:ident.$field:ident = $number:expr) => {{
        let number = $number;
        // SAFETY: as above.
        unsafe { (&raw mut (*$packet.pieces).$field).write_volatile(number) }
    }};
}

impl Memory for Packet {
    #[inline(always)]
    fn read(&self, window: &mut Window, address: u64) -> bool {
        let target = &raw mut window.0 as *mut c_void;
        if piece!(self.fragment) == 0 {
            // SAFETY: the window has that size, and any bytes are a window.
            unsafe { copy(target, WINDOW_BYTES as u32, address) }
        } else {
            read_in_pieces(target, address, piece!(self.end), piece!(self.fragment))
        }
    }

    #[inline(always)]
    fn limit(&self) -> u64 {
        piece!(self.limit)
    }

    #[inline(always)]
    fn tail(&self) -> u64 {
        piece!(self.tail)
    }

    #[inline(always)]
    fn extend(&self) {
        if piece!(self.limit) < piece!(self.tail) && piece!(self.fragment) == 0 {
            // SAFETY: as above.
            extend(self.shared, unsafe { &mut *self.pieces });
        }
    }

    #[inline(always)]
    fn tunnel(&self, port: u16) -> Tunnel {
        tunnel_of(port)
    }

    #[inline(always)]
    fn any(&self, number: u64) -> u64 {
        piece!(self.any = number);
        piece!(self.any)
    }
}

/// The tunnel protocol of UDP packets to this port of the machine.
#[inline(always)]
pub fn tunnel_of(port: u16) -> Tunnel {
    let port = port as u32;
    match TUNNEL_PORTS.get(port / PORTS_PER_WORD) {
        Some(word) => Tunnel::from_bits(*word >> (port % PORTS_PER_WORD * 2)),
        None => Tunnel::None,
    }
}

/// Looks for the first fragment.
#[inline(never)]
fn extend(shared: u64, pieces: &mut Pieces) {
    let Some(fragment) = first_fragment(shared) else { return };
    pieces.fragment = fragment.address;
    pieces.limit += fragment.bytes;
}

/// Fills a window from a packet that lies in its linear part, which ends at `end`, and in a fragment.
#[inline(never)]
fn read_in_pieces(target: *mut c_void, address: u64, end: u64, fragment: u64) -> bool {
    // SAFETY: the window has that size and as much room behind it; any bytes are a window. What is read beyond the linear
    // part is overwritten, or lies behind the fragment's end, which the parser does not look at.
    unsafe {
        if address >= end {
            return copy(target, WINDOW_BYTES as u32, fragment + (address - end));
        }
        let linear = end - address;
        if linear >= WINDOW_BYTES as u64 {
            return copy(target, WINDOW_BYTES as u32, address);
        }
        // Opaque, so that the register that is bounded is the one that is used.
        let linear = opaque(linear) & (WINDOW_BYTES as u64 - 1);
        copy(target, WINDOW_ROOM as u32, address)
            && copy(target.byte_add(linear as usize), WINDOW_BYTES as u32, fragment)
    }
}

/// Notes in `pieces` where the packet lies: all that is read of the `sk_buff` itself. Where `ingress` says so, the headers
/// are taken from the beginning of its data on, else from its network header, which must be in place.
#[inline(always)]
fn gather<A: Access>(skb: u64, ingress: bool, pieces: &mut Pieces) {
    let data = A::word::<{ field!(skb_data) }>(skb);
    let head = A::word::<{ field!(skb_head) }>(skb);
    pieces.data = data;
    pieces.shared = head + A::half::<{ field!(skb_end) }>(skb) as u64;
    pieces.tail = data + A::half::<{ field!(skb_len) }>(skb) as u64;
    pieces.end = pieces.tail - A::half::<{ field!(skb_data_len) }>(skb) as u64;
    pieces.limit = pieces.end;
    pieces.fragment = 0;
    let ethertype = u16::from_be(A::quarter::<{ field!(skb_protocol) }>(skb));
    let is_tagged = ethertype == ETHERTYPE_VLAN || ethertype == ETHERTYPE_QINQ;
    (pieces.begins_with, pieces.beginning) = match (ingress, is_tagged) {
        (true, false) => (AT_IP, data),
        (true, true) => (AT_TAG, data),
        // The network header may have been set before or after the tag was inserted; the frame's start is known.
        (false, true) => (AT_TAG, data + ETHERNET_HEADER),
        (false, false) => {
            let offset = A::quarter::<{ field!(skb_network_header) }>(skb);
            (AT_IP, head + offset as u64)
        }
    };
}

impl Packet {
    #[inline(always)]
    fn new(pieces: *mut Pieces) -> Self {
        let packet = Packet { data: 0, shared: 0, pieces };
        Packet { data: piece!(packet.data), shared: piece!(packet.shared), pieces }
    }

    /// Finds the innermost IP packet.
    #[inline(always)]
    fn find(&self, what: u64, address: u64, window: &mut Window, found: &mut Innermost) -> Verdict {
        let is_linear =
            address + PLAIN_BYTES as u64 <= piece!(self.end) || piece!(self.end) == piece!(self.tail);
        // SAFETY: the window has at least that size, and any bytes are a window.
        let is_read = what == AT_IP
            && is_linear
            && unsafe { copy(&raw mut window.0 as *mut c_void, PLAIN_BYTES as u32, address) };
        if is_read && let Some(plain) = plain(self, address, window) {
            *found = plain;
            return Verdict::Found;
        }
        walk(self, what, address, window, found)
    }
}

/// Parses the headers of a packet whose place is known ([`gather`]). Reads the innermost addresses, and sets the level, of
/// which `raised` levels are those of the stage that the packet is about to enter. Returns the bytes of data before the
/// innermost packet.
#[inline(always)]
fn parse(ingress: bool, raised: u32, state: &mut State) -> (Verdict, u32) {
    let packet = Packet::new(&raw mut state.pieces);
    let (what, address) = (piece!(packet.begins_with), piece!(packet.beginning));
    // SAFETY: memory of the map, which is reached by this reference only.
    let window = unsafe { &mut (*packet.pieces).window };
    let mut found = Innermost::default();
    let verdict = packet.find(what, address, window, &mut found);
    if verdict != Verdict::Found {
        return (verdict, 0);
    }
    if found.depth != 0 && !ingress && starts_here(state) && !note_unknown_start(state) {
        state.rejected = IN_FLIGHT;
        return (verdict, 0);
    }
    set_level(state, found.depth, raised);
    let gso: u32 = copied(packet.shared, setting!(offsets.shared_gso_size));
    let gso = Gso { size: gso as u16, segments: (gso >> 16) as u16 };
    describe(&packet, &found, window, (packet.tail() - found.ip) as u32, gso, &mut state.record.header);
    (verdict, (found.ip - packet.data) as u32)
}

/// The packet's level is known: `depth` encapsulations are in its headers.
#[inline(always)]
fn set_level(state: &mut State, depth: u64, raised: u32) {
    let position = state.tracked.account.position;
    if state.parsed == AWAITED {
        settle_level(state, (depth as u32 + raised).wrapping_sub(position >> HOP_BITS));
    } else if depth != 0 && state.record.header.flags.has(RecordFlags::FROM_DEVICE) {
        // What it waited for at its NIC has been written.
        let level = position >> HOP_BITS;
        settle_level(state, (levels_up(position, depth) >> HOP_BITS).wrapping_sub(level));
    } else {
        state.move_to(levels_up(position, depth));
    }
    state.parsed = PARSED;
}

/// The level of a packet whose headers were awaited is by so much higher, or lower, than it was counted so far.
#[inline(always)]
fn settle_level(state: &mut State, change: u32) {
    let number = state.tracked.number;
    exposed(state);
    shift_levels(number, change);
    exposed(state);
}

/// Shifts all levels of the path of the packet with this number. A global function, as [`parse_gathered`] is.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn shift_levels(number: u32, change: u32) -> u32 {
    let Some(state) = STATES.get_ptr_mut(number) else { return 0 };
    // SAFETY: an entry of the map. The caller uses no reference to it meanwhile (`exposed`).
    let state = unsafe { &mut *state };
    state.tracked.account.shift_levels(&mut state.record.path, change);
    0
}

/// Identifies a packet by its headers; see `parse`. A packet that the header filter rejects, or that is not IP, stays
/// known, but is not tracked. Returns the bytes of data before the innermost packet.
#[inline(always)]
pub fn identify<A: Access>(skb: u64, ingress: bool, raised: u32, state: &mut State) -> u32 {
    let from = if ingress { FROM_DATA } else { 0 };
    parse_at::<A>(skb, from | IDENTIFIES, raised, state) as u32
}

/// What [`parse_gathered`] does: it takes the headers from the beginning of the packet's data on; and identifies the packet
/// by them.
const FROM_DATA: u32 = 1;
const IDENTIFIES: u32 = 2;
/// In its result: headers were found.
const IS_FOUND: u64 = 1 << 32;

/// Parses the headers of a packet, as `how` says. Returns the bytes of data before the innermost packet, and whether there
/// is one ([`IS_FOUND`]).
#[inline(always)]
fn parse_at<A: Access>(skb: u64, how: u32, raised: u32, state: &mut State) -> u64 {
    gather::<A>(skb, how & FROM_DATA != 0, &mut state.pieces);
    let number = state.tracked.number;
    exposed(state);
    let result = parse_gathered(number, raised, how);
    exposed(state);
    result
}

/// Parses the headers of the packet with this number in the packet table, whose place is known ([`gather`]). A global
/// function: the verifier follows it once for a program, and not again from each state in which it may be called. So it has
/// numbers as arguments (pointers to memory are allowed since 5.12).
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn parse_gathered(number: u32, raised: u32, how: u32) -> u64 {
    let Some(state) = STATES.get_ptr_mut(number) else { return 0 };
    // SAFETY: an entry of the map. The caller has a handle of it, but uses no reference meanwhile (`exposed`).
    let state = unsafe { &mut *state };
    let (verdict, before) = parse(how & FROM_DATA != 0, raised, state);
    if how & IDENTIFIES != 0 {
        conclude_identity(verdict, state);
    }
    before as u64 | if verdict == Verdict::Found { IS_FOUND } else { 0 }
}

/// What follows for a packet from its headers.
#[inline(always)]
fn conclude_identity(verdict: Verdict, state: &mut State) {
    match verdict {
        Verdict::Found if state.rejected == IN_FLIGHT => uncount(state),
        Verdict::Found if !passes(&state.record.header.flow) => {
            reject(state, REJECTED, Counter::Filtered);
        }
        Verdict::Found if !is_sampled(&state.record.header, setting!(sample)) => {
            reject(state, UNSAMPLED, Counter::Unsampled);
        }
        Verdict::Found => {
            if state.record.header.flags.has(RecordFlags::UNKNOWN_START) {
                count(Counter::UnknownStart, 1);
            }
        }
        Verdict::NotIp => reject(state, NOT_IP, Counter::NotIp),
        Verdict::Unreadable => {
            if state.parsed == UNPARSED {
                state.parsed = AWAITED;
                state.record.header.bytes = (state.pieces.tail - state.pieces.data) as u32;
                state.move_to(levels_up(state.tracked.account.position, PROVISIONAL_LEVEL));
            }
        }
    }
}

/// The packet is not IP, or the header filter rejects it. It stays known, so that it is counted once.
#[inline(always)]
pub fn reject(state: &mut State, why: u8, counter: Counter) {
    if state.is_counted() {
        count(counter, 1);
    }
    state.rejected = why;
}

/// The packet was in flight when the recording began.
#[inline(always)]
fn uncount(state: &State) {
    if state.matched != 0 {
        count(Counter::Started, u64::MAX);
    }
}

/// Identifies a packet whose headers were awaited, at the end of its path: what the kernel has read of them lies in the
/// linear part by now.
#[inline(never)]
pub fn identify_late<A: Access>(skb: u64, state: &mut State) {
    identify::<A>(skb, false, 0, state);
}

/// Identifies a packet whose headers were awaited by those of `keeper`, with which GRO has merged it: the kernel has
/// compared them. Of the packet's own are its length and its place in the stream.
#[inline(never)]
pub fn identify_merged<A: Access>(keeper: u64, state: &mut State) {
    let bytes = state.record.header.bytes;
    let before = identify::<A>(keeper, true, 0, state);
    if state.parsed == PARSED {
        let header = &mut state.record.header;
        header.bytes = bytes - before;
        header.segments = 1;
        header.flow.ip_id = 0;
        if header.flow.protocol != IPPROTO_TCP {
            header.witness = 0;
        }
        if header.flow.sequence != 0 {
            // The data of the packets before it, and the headers, are as long as the keeper without it.
            header.flow.sequence += A::half::<{ field!(skb_len) }>(keeper) - bytes;
        }
    }
}

/// Parses the headers of a packet that was just put together of its fragments: `head` is the first one, and has the
/// whole packet now.
#[inline(always)]
pub fn identify_reassembled(head: u64, state: &mut State) {
    let bytes: u32 = copied(head, setting!(offsets.skb_len));
    if state.parsed == AWAITED {
        let before = identify::<Copied>(head, true, 0, state);
        if state.parsed == PARSED {
            state.record.header.bytes = bytes - before;
        }
        return;
    }
    // Now there is a header of the whole packet; but its addresses may have been translated since it was made.
    let (flow, position) = (state.record.header.flow, state.tracked.account.position);
    let is_known = state.record.header.flags.has(RecordFlags::CHILD);
    let result = parse_at::<Copied>(head, FROM_DATA, 0, state);
    if result & IS_FOUND != 0 && is_known {
        state.record.header.flow = flow;
    }
    if state.tracked.account.position == position {
        // It is not encapsulated, and the length in its header is still that of the first fragment.
        state.record.header.bytes = bytes;
    }
    state.move_to(position);
}

/// Whether this is the first probe hit on the packet, and it was taken for a new packet.
#[inline(always)]
fn starts_here(state: &State) -> bool {
    state.record.header.flags.is_empty() && state.tracked.account.spans() == 0
}

/// A packet that is already encapsulated was in flight before. False while such packets are not picked up.
#[inline(always)]
fn note_unknown_start(state: &mut State) -> bool {
    state.record.header.flags = RecordFlags::UNKNOWN_START;
    tracking_phase() >= TrackingPhase::All as u64
}

/// Whether the header filter selects the packet.
#[inline(always)]
pub fn passes(flow: &Flow) -> bool {
    let protocol = setting!(filter.protocol);
    let port = setting!(filter.port);
    let version = setting!(filter.address_version);
    if protocol != 0 && protocol != flow.protocol {
        return false;
    }
    if port != 0 && port != flow.source_port && port != flow.destination_port {
        return false;
    }
    if version == 0 {
        return true;
    }
    let [first, second] = setting!(filter.address);
    let is_wanted = |address| words(address) == (first, second);
    version == flow.version && (is_wanted(&flow.source) || is_wanted(&flow.destination))
}
