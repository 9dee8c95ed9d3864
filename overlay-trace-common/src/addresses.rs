//! The innermost packet's addresses, ports and length, from its headers.

use crate::flags::RecordFlags;
use crate::headers::{IPPROTO_ICMP, IPPROTO_ICMPV6, IPPROTO_TCP, IPPROTO_UDP, Innermost, Memory, Window};
use crate::record::RecordHeader;

/// Flags of a TCP header.
const TCP_SYN: u8 = 2;
const TCP_RST: u8 = 4;
/// Bytes of a UDP header.
const UDP_HEADER: u32 = 8;

/// What `skb_shared_info` says of a packet that stands for several on the wire.
#[derive(Clone, Copy, Debug, Default)]
pub struct Gso {
    /// `gso_size`: payload bytes of each packet on the wire; 0 if the packet is one itself.
    pub size: u16,
    /// `gso_segs`: their number; 0 in packets that a guest or a program behind a tap gave (`SKB_GSO_DODGY`).
    pub segments: u16,
}

impl Gso {
    /// The number of packets on the wire, of which the packet's payload has so many bytes.
    #[inline(always)]
    pub const fn on_wire(self, payload: u32) -> u16 {
        if self.size == 0 || payload == 0 && self.segments == 0 {
            1
        } else if self.segments != 0 {
            self.segments
        } else {
            payload.div_ceil(self.size as u32) as u16
        }
    }
}

/// Writes a packet's addresses, length and number of segments into its record. The window holds the bytes at
/// [`Innermost::window`]. `rest` is the number of bytes from the packet's IP header to its end.
#[inline(always)]
pub fn describe<M: Memory>(
    memory: &M,
    found: &Innermost,
    window: &mut Window,
    rest: u32,
    gso: Gso,
    header: &mut RecordHeader,
) {
    if found.window != found.ip && !memory.read(window, found.ip) {
        return;
    }
    let first: u8 = window.at(0);
    header.flow.version = first >> 4;
    header.flow.protocol = found.protocol;
    if first >> 4 == 4 {
        header.flow.ip_id = window.short(4);
        set(&mut header.flow.source, window.at::<u32>(12));
        set(&mut header.flow.destination, window.at::<u32>(16));
        header.bytes = window.short(2) as u32;
    } else {
        set(&mut header.flow.source, [window.at::<u64>(8), window.at::<u64>(16)]);
        set(&mut header.flow.destination, [window.at::<u64>(24), window.at::<u64>(32)]);
        header.bytes = window.short(4) as u32 + 40;
    }
    // On the transmit path the length field is not written yet; it also cannot hold the length of a GSO packet.
    if gso.size != 0 || header.bytes <= 40 {
        header.bytes = rest;
    }
    header.segments = 1;
    if found.is_later_fragment {
        return;
    }
    let before = (found.transport - found.ip) as u32;
    let end = found.transport + WITNESS_END;
    if end > memory.limit() {
        memory.extend();
    }
    let part = Transport {
        length: header.bytes.wrapping_sub(before),
        is_all_readable: end <= memory.limit() || memory.limit() >= memory.tail(),
    };
    let own = match before {
        20 => ports(header, window, 20, part),
        _ if memory.read(window, found.transport) => ports(header, window, 0, part),
        _ => return,
    };
    let length = part.length;
    header.segments = gso.on_wire(length.saturating_sub(own));
}

/// Writes an address in whole words.
#[inline(always)]
fn set<T: Copy>(address: &mut [u8; 16], value: T) {
    const { assert!(size_of::<T>() <= 16) };
    // SAFETY: at most the 16 bytes of the address are written, as the assertion says; alignment is not needed.
    unsafe { (address.as_mut_ptr() as *mut T).write_unaligned(value) }
}

/// Whether an ICMP type is an echo request or reply, of IPv4 or IPv6.
#[inline(always)]
const fn is_echo(kind: u8) -> bool {
    matches!(kind, 0 | 8 | 128 | 129)
}

/// Bytes from the transport header on that are looked at.
const WITNESS_END: u64 = 28;

/// A transport header and what follows it.
#[derive(Clone, Copy)]
struct Transport {
    /// Bytes of the header and of the data.
    length: u32,
    /// Whether the window holds all of it, as far as it is looked at.
    is_all_readable: bool,
}

/// The first eight bytes at a place in the window, as a number in network byte order: those behind the `length` bytes are not the packet's.
#[inline(always)]
fn first_bytes(window: &Window, at: usize, length: u32) -> u64 {
    let bytes = (u32::from_be(window.at(at)) as u64) << 32 | u32::from_be(window.at(at + 4)) as u64;
    match length {
        0 => 0,
        1..8 => bytes & !(u64::MAX >> (length * 8)),
        _ => bytes,
    }
}

/// Reads the transport header at the window's offset `at`. Returns the header's bytes.
#[inline(always)]
fn ports(header: &mut RecordHeader, window: &Window, at: usize, part: Transport) -> u32 {
    let length = part.length;
    let flow = &mut header.flow;
    match flow.protocol {
        IPPROTO_TCP | IPPROTO_UDP => {
            flow.source_port = window.short(at);
            flow.destination_port = window.short(at + 2);
        }
        IPPROTO_ICMP | IPPROTO_ICMPV6 if is_echo(window.at(at)) => {
            flow.source_port = window.short(at + 4);
            flow.destination_port = flow.source_port;
        }
        _ => {}
    }
    if flow.protocol != IPPROTO_TCP {
        header.witness = match flow.protocol {
            _ if !part.is_all_readable => 0,
            IPPROTO_UDP => first_bytes(window, at + 8, length.saturating_sub(8)),
            IPPROTO_ICMP | IPPROTO_ICMPV6 => first_bytes(window, at + 4, length.saturating_sub(4)),
            _ => 0,
        };
        return UDP_HEADER;
    }
    flow.sequence = u32::from_be(window.at(at + 4));
    let flags: u8 = window.at(at + 13);
    let own = (window.at::<u8>(at + 12) >> 4) as u32 * 4;
    let option = if own as u64 >= WITNESS_END { u32::from_be(window.at(at + 24)) } else { 0 };
    if part.is_all_readable {
        header.witness = (u32::from_be(window.at(at + 8)) as u64) << 32 | option as u64;
    }
    let is_empty = length <= own;
    let mut marks = if is_empty { RecordFlags::NO_DATA } else { RecordFlags::NONE };
    if flags & TCP_SYN != 0 {
        marks |= RecordFlags::SYN;
    } else if flags & TCP_RST == 0 && window.at::<u16>(at + 14) == 0 {
        marks |= RecordFlags::ZERO_WINDOW;
    }
    header.flags |= marks;
    own
}
