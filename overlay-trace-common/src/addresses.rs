//! The innermost packet's addresses, ports and length, from its headers.

use crate::flags::RecordFlags;
use crate::headers::{IPPROTO_ICMP, IPPROTO_ICMPV6, IPPROTO_TCP, IPPROTO_UDP, Innermost, Memory, Window};
use crate::record::RecordHeader;

/// Flags of a TCP header.
const TCP_SYN: u8 = 2;
const TCP_RST: u8 = 4;

/// Writes a packet's addresses and length into its record. The window holds the bytes at [`Innermost::window`]. `rest`
/// is the number of bytes from the packet's IP header to its end.
#[inline(always)]
pub fn describe<M: Memory>(
    memory: &M,
    found: &Innermost,
    window: &mut Window,
    rest: u32,
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
    if header.segments > 1 || header.bytes <= 40 {
        header.bytes = rest;
    }
    if found.is_later_fragment {
        return;
    }
    let before = (found.transport - found.ip) as u32;
    match before {
        20 => ports(header, window, 20, header.bytes - 20),
        40 if first >> 4 == 6 => ports(header, window, 40, header.bytes - 40),
        _ => {
            if memory.read(window, found.transport) {
                ports(header, window, 0, header.bytes.wrapping_sub(before));
            }
        }
    }
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

/// Reads the transport header at the window's offset `at`; header and data have `length` bytes.
#[inline(always)]
fn ports(header: &mut RecordHeader, window: &Window, at: usize, length: u32) {
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
        return;
    }
    flow.sequence = u32::from_be(window.at(at + 4));
    let flags: u8 = window.at(at + 13);
    let is_empty = length <= (window.at::<u8>(at + 12) >> 4) as u32 * 4;
    let mut marks = if is_empty { RecordFlags::NO_DATA } else { RecordFlags::NONE };
    if flags & TCP_SYN != 0 {
        marks |= RecordFlags::SYN;
    } else if flags & TCP_RST == 0 && window.at::<u16>(at + 14) == 0 {
        marks |= RecordFlags::ZERO_WINDOW;
    }
    header.flags |= marks;
}
