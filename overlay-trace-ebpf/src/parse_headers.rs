//! Parsing a packet's headers: the innermost packet's addresses, and its encapsulation level.

use core::{ffi::c_void, marker::PhantomData, mem::MaybeUninit};

use overlay_trace_common::{
    abi::{PORTS_PER_WORD, TrackingPhase},
    addresses::describe,
    flags::RecordFlags,
    headers::{
        AT_IP, AT_TAG, ETHERTYPE_QINQ, ETHERTYPE_VLAN, Memory, PLAIN_BYTES, Tunnel, WINDOW_BYTES, Window,
        plain, walk,
    },
    path::{PATH_WORDS, levels_up},
    record::Flow,
};

use crate::{
    maps::{State, TUNNEL_PORTS, setting, tracking_phase},
    read::{Access, copied, copy, field},
};

const ETHERNET_HEADER: u64 = 14;

/// A packet in the kernel's memory.
struct Packet<A> {
    skb: u64,
    data: u64,
    /// A word of a map: a number that is written there and read again is unknown to the verifier.
    scratch: *mut u64,
    access: PhantomData<A>,
}

impl<A: Access> Memory for Packet<A> {
    #[inline(always)]
    fn read(&self, window: &mut Window, address: u64) -> bool {
        // SAFETY: the window has that size, and any bytes are a window.
        unsafe { copy(&raw mut window.0 as *mut c_void, WINDOW_BYTES as u32, address) }
    }

    #[inline(always)]
    fn end(&self) -> u64 {
        let elsewhere = A::half::<{ field!(skb_data_len) }>(self.skb);
        self.tail() - elsewhere as u64
    }

    #[inline(always)]
    fn tunnel(&self, port: u16) -> Tunnel {
        let port = port as u32;
        match TUNNEL_PORTS.get(port / PORTS_PER_WORD) {
            Some(word) => Tunnel::from_bits(*word >> (port % PORTS_PER_WORD * 2)),
            None => Tunnel::None,
        }
    }

    #[inline(always)]
    fn any(&self, number: u64) -> u64 {
        any(self.scratch, number)
    }
}

#[inline(always)]
fn any(scratch: *mut u64, number: u64) -> u64 {
    // SAFETY: a pointer to two words at the end of a packet's path; see `parse`. No reference to them is used meanwhile.
    unsafe {
        scratch.write_volatile(number);
        scratch.read_volatile()
    }
}

impl<A: Access> Packet<A> {
    #[inline(always)]
    fn new(skb: u64, scratch: *mut u64) -> Self {
        let data = any(scratch, A::word::<{ field!(skb_data) }>(skb));
        Packet { skb, data, scratch, access: PhantomData }
    }

    /// Where the packet would end if it lay in one piece.
    #[inline(always)]
    fn tail(&self) -> u64 {
        self.data + A::half::<{ field!(skb_len) }>(self.skb) as u64
    }

    /// The kind of the packet's first header, and its address.
    #[inline(always)]
    fn beginning(&self, head: u64, ingress: bool) -> (u64, u64) {
        let ethertype = u16::from_be(A::quarter::<{ field!(skb_protocol) }>(self.skb));
        let is_tagged = ethertype == ETHERTYPE_VLAN || ethertype == ETHERTYPE_QINQ;
        match (ingress, is_tagged) {
            (true, false) => (AT_IP, self.data),
            (true, true) => (AT_TAG, self.data),
            // The network header may have been set before or after the tag was inserted; the frame's start is known.
            (false, true) => (AT_TAG, self.data + ETHERNET_HEADER),
            (false, false) => {
                let offset = A::quarter::<{ field!(skb_network_header) }>(self.skb);
                (AT_IP, head + offset as u64)
            }
        }
    }
}

/// Parses the headers of a packet whose network header is in place: reads the innermost addresses, and raises the level
/// by the number of encapsulations. Returns false if it is not an IP packet.
#[inline(always)]
pub fn parse<A: Access>(skb: u64, ingress: bool, state: &mut State) -> bool {
    // The last two words of a path are written only when the path is over.
    let scratch = &raw mut state.record.path[PATH_WORDS - 2] as *mut u64;
    let packet = Packet::<A>::new(skb, scratch);
    let head = any(scratch, A::word::<{ field!(skb_head) }>(skb));
    let (what, address) = packet.beginning(head, ingress);
    let mut window = MaybeUninit::uninit();
    // SAFETY: any bytes are a window, and it is looked at only after it has been filled.
    let window: &mut Window = unsafe { &mut *window.as_mut_ptr() };
    // SAFETY: the window has at least that size, and any bytes are a window.
    let is_read =
        what == AT_IP && unsafe { copy(&raw mut window.0 as *mut c_void, PLAIN_BYTES as u32, address) };
    let plain = if is_read { plain(&packet, address, window) } else { None };
    let Some(found) = plain.or_else(|| walk(&packet, what, address, window)) else { return false };
    if found.depth != 0 && !ingress && starts_here(state) && !note_unknown_start(state) {
        return false;
    }
    state.move_to(levels_up(state.tracked.account.position, found.depth));
    state.parsed = 1;
    let end = A::half::<{ field!(skb_end) }>(skb);
    let segments: u16 = copied(head + end as u64, setting!(offsets.shared_gso_segs));
    let header = &mut state.record.header;
    header.segments = if segments == 0 { 1 } else { segments };
    let rest = (packet.tail() - found.ip) as u32;
    describe(&packet, &found, window, rest, header);
    true
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
    let address = words(&setting!(filter.address));
    version == flow.version && (address == words(&flow.source) || address == words(&flow.destination))
}

#[inline(always)]
fn words(address: &[u8; 16]) -> (u64, u64) {
    let address = address.as_ptr() as *const u64;
    // SAFETY: the 16 bytes are two numbers of 8 bytes; alignment is not needed.
    unsafe { (address.read_unaligned(), address.add(1).read_unaligned()) }
}
