//! The innermost packet's addresses and its level, from its headers.

use core::{ffi::c_void, marker::PhantomData, mem::MaybeUninit};

use overlay_trace_common::{
    addresses::describe,
    headers::{
        AT_IP, AT_TAG, ETHERTYPE_QINQ, ETHERTYPE_VLAN, Memory, PLAIN_BYTES, Tunnel, WINDOW_BYTES, Window,
        plain, walk,
    },
    kernel::{ARMED_ALL, PORTS_PER_WORD},
    record::{FLAG_UNKNOWN_START, Flow},
    way::{WAY_WORDS, levels_more},
};

use crate::{
    maps::{State, TUNNEL_PORTS, setting},
    read::{Access, copied, copy, field},
    state::armed,
};

const ETHERNET_HEADER: u64 = 14;

/// A packet in the kernel's memory.
struct Packet<A> {
    skb: u64,
    data: u64,
    /// A word of a map: what is written there and read again can be anything to the verifier.
    scratch: *mut u64,
    access: PhantomData<A>,
}

impl<A: Access> Memory for Packet<A> {
    #[inline(always)]
    fn read(&self, window: &mut Window, address: u64) -> bool {
        copy(&raw mut window.0 as *mut c_void, WINDOW_BYTES as u32, address)
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
    // SAFETY: both callers have it from a state.
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

    /// What stands where the packet's headers begin, and where that is.
    #[inline(always)]
    fn beginning(&self, head: u64, ingress: bool) -> (u64, u64) {
        let ethertype = u16::from_be(A::quarter::<{ field!(skb_protocol) }>(self.skb));
        let is_tagged = ethertype == ETHERTYPE_VLAN || ethertype == ETHERTYPE_QINQ;
        match (ingress, is_tagged) {
            (true, false) => (AT_IP, self.data),
            (true, true) => (AT_TAG, self.data),
            // Whether the tag was there when the network header was set is not known; the frame is.
            (false, true) => (AT_TAG, self.data + ETHERNET_HEADER),
            (false, false) => {
                let offset = A::quarter::<{ field!(skb_network_header) }>(self.skb);
                (AT_IP, head + offset as u64)
            }
        }
    }
}

/// Reads the addresses of a packet whose IP header is in place; its level grows by the encapsulations
/// found around it. Returns false if it is no IP packet.
#[inline(always)]
pub fn identify<A: Access>(skb: u64, ingress: bool, state: &mut State) -> bool {
    // The last two words of a way are written only when the way is over.
    let scratch = &raw mut state.record.way[WAY_WORDS - 2] as *mut u64;
    let packet = Packet::<A>::new(skb, scratch);
    let head = any(scratch, A::word::<{ field!(skb_head) }>(skb));
    let (what, address) = packet.beginning(head, ingress);
    let mut window = MaybeUninit::uninit();
    // SAFETY: any bytes are a window, and it is looked at only after it has been filled.
    let window: &mut Window = unsafe { &mut *window.as_mut_ptr() };
    let is_read = what == AT_IP && copy(&raw mut window.0 as *mut c_void, PLAIN_BYTES as u32, address);
    let plain = if is_read { plain(&packet, address, window) } else { None };
    let Some(found) = plain.or_else(|| walk(&packet, what, address, window)) else { return false };
    if found.depth != 0 && !ingress && is_born_here(state) && !note_unknown_start(state) {
        return false;
    }
    let account = &mut state.followed.account;
    let place = levels_more(account.place, found.depth);
    account.go(&mut state.record.way, place);
    state.identified = 1;
    let end = A::half::<{ field!(skb_end) }>(skb);
    let segments: u16 = copied(head + end as u64, setting!(offsets.shared_gso_segs));
    let header = &mut state.record.header;
    header.segments = if segments == 0 { 1 } else { segments };
    let rest = (packet.tail() - found.ip) as u32;
    describe(&packet, &found, window, rest, header);
    true
}

/// Whether this is the first that is seen of the packet, and it was taken for new.
#[inline(always)]
fn is_born_here(state: &State) -> bool {
    state.record.header.flags == 0 && state.followed.account.segments() == 0
}

/// A packet that has headers around it was on its way before. False while such packets are not yet taken up.
#[inline(always)]
fn note_unknown_start(state: &mut State) -> bool {
    state.record.header.flags = FLAG_UNKNOWN_START;
    armed() >= ARMED_ALL
}

/// Whether the filter lets the packet pass.
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
    unsafe { (address.read_unaligned(), address.add(1).read_unaligned()) }
}
