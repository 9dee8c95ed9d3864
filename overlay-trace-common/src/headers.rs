//! Parsing a packet's headers down to the innermost IP packet. Pure: the kernel side runs it on kernel memory, tests run
//! it on bytes.
//!
//! The parser is a chain of steps. Each step reads one window of bytes and returns the kind and the address of the next
//! header. That keeps the program small for the kernel's verifier, which follows each kind of step once per round, and
//! an ordinary packet costs one window.

mod window;

pub use window::{Integer, Memory, Tunnel, WINDOW_BYTES, WINDOW_ROOM, Window};

/// Bytes of a window that are used of a packet that [`plain`] finds: the headers of IPv4 and TCP, and the first words of
/// TCP's options.
pub const PLAIN_BYTES: usize = 48;

/// Maximum number of steps. Deeper nesting is not parsed; an encapsulation takes two or three steps.
const ROUNDS: u32 = 24;

/// What the parser knows of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Its innermost IP packet.
    Found,
    /// The innermost packet is not IP.
    NotIp,
    /// A header lies where it cannot be read: in a fragment, outside the linear part.
    Unreadable,
}

/// The innermost IP packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Innermost {
    /// Address of its IP header.
    pub ip: u64,
    /// Address of the transport header, behind options and extension headers.
    pub transport: u64,
    /// The transport protocol.
    pub protocol: u8,
    /// A fragment other than the first: there is no header at `transport`.
    pub is_later_fragment: bool,
    /// Number of encapsulations around it.
    pub depth: u64,
    /// Address of the bytes that the window holds.
    pub window: u64,
}

/// Kinds of steps: the header at the step's address.
pub const AT_IP: u64 = 0;
/// A VLAN tag: its two bytes and the EtherType behind them.
pub const AT_TAG: u64 = 1;
/// An Ethernet header.
pub const AT_ETHERNET: u64 = 2;
const AT_VXLAN: u64 = 3;
const AT_GENEVE: u64 = 4;
const AT_GRE: u64 = 5;
const AT_UDP: u64 = 6;
const AT_EXTENSION: u64 = 7;
/// Perhaps an IP packet: only the port says so.
const AT_PERHAPS_IP: u64 = 8;
/// Nothing to parse: the packet that was found last is the innermost one.
const AT_END: u64 = 9;
/// The innermost packet is not IP.
const AT_FOREIGN: u64 = 10;
/// The next header cannot be read.
const AT_UNREADABLE: u64 = 11;

pub const IPPROTO_ICMP: u8 = 1;
pub const IPPROTO_TCP: u8 = 6;
pub const IPPROTO_UDP: u8 = 17;
pub const IPPROTO_ICMPV6: u8 = 58;
const IPPROTO_IPIP: u8 = 4;
const IPPROTO_IPV6: u8 = 41;
const IPPROTO_GRE: u8 = 47;
const IPPROTO_HOP_BY_HOP: u8 = 0;
const IPPROTO_ROUTING: u8 = 43;
const IPPROTO_FRAGMENT: u8 = 44;
const IPPROTO_AUTHENTICATION: u8 = 51;
const IPPROTO_OPTIONS: u8 = 60;

/// EtherTypes of VLAN tags.
pub const ETHERTYPE_VLAN: u16 = 0x8100;
pub const ETHERTYPE_QINQ: u16 = 0x88a8;
const ETHERTYPE_OLD_QINQ: u16 = 0x9100;
pub const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86dd;
/// Ethernet inside something else.
const ETHERTYPE_BRIDGED: u16 = 0x6558;

/// Bytes of an IPv4 header without options.
pub const IPV4_HEADER: u64 = 20;
/// Bytes of an IPv6 header without extensions.
pub const IPV6_HEADER: u64 = 40;
const UDP_HEADER: u64 = 8;
const TUNNEL_HEADER: u64 = 8;
/// Bytes of an Ethernet header without tags.
pub const ETHERNET_HEADER: u64 = 14;
/// A TCP header up to the window.
const TCP_FIELDS: u64 = 16;
/// A VXLAN header, and the header of the frame in it.
const VXLAN_FIELDS: u64 = TUNNEL_HEADER + ETHERNET_HEADER;

/// The next step.
#[derive(Clone, Copy)]
struct Step {
    what: u64,
    address: u64,
    /// 1 if it is inside another encapsulation.
    deeper: u64,
}

#[inline(always)]
const fn step(what: u64, address: u64) -> Step {
    Step { what, address, deeper: 0 }
}

#[inline(always)]
const fn inside(what: u64, address: u64) -> Step {
    Step { what, address, deeper: 1 }
}

const END: Step = step(AT_END, 0);
const FOREIGN: Step = step(AT_FOREIGN, 0);
const UNREADABLE: Step = step(AT_UNREADABLE, 0);

/// Whether the packet has bytes up to `end` that cannot be read.
#[inline(always)]
fn is_unreadable<M: Memory>(memory: &M, end: u64) -> bool {
    end > memory.limit() && memory.limit() < memory.tail()
}

/// Bytes of a transport header that are read.
#[inline(always)]
const fn transport_bytes(protocol: u8) -> u64 {
    match protocol {
        IPPROTO_TCP => TCP_FIELDS,
        IPPROTO_UDP | IPPROTO_ICMP | IPPROTO_ICMPV6 => UDP_HEADER,
        _ => 0,
    }
}

/// A shortcut for most packets: IPv4 without options, not fragmented, with TCP, or with UDP to a port without tunnel.
/// The window holds the bytes at the address.
#[inline(always)]
pub fn plain<M: Memory>(memory: &M, address: u64, window: &Window) -> Option<Innermost> {
    const FIRST_BYTE: u8 = 0x45;
    /// The flag "more fragments", and the fragment's offset.
    const FRAGMENT: u16 = 0x3fff;
    let protocol = window.at::<u8>(9);
    let is_plain = window.at::<u8>(0) == FIRST_BYTE
        && window.short(6) & FRAGMENT == 0
        && (protocol == IPPROTO_TCP
            || protocol == IPPROTO_UDP && memory.tunnel(window.short(22)) == Tunnel::None);
    is_plain.then_some(Innermost {
        ip: address,
        transport: address + IPV4_HEADER,
        protocol,
        is_later_fragment: false,
        depth: 0,
        window: address,
    })
}

/// Parses from an IP header or a VLAN tag at `address` to the innermost IP packet, which is written to `found`.
#[inline(always)]
pub fn walk<M: Memory>(
    memory: &M,
    what: u64,
    address: u64,
    window: &mut Window,
    found: &mut Innermost,
) -> Verdict {
    let mut next = step(what, address);
    let mut round = 0;
    loop {
        if next.address + WINDOW_BYTES as u64 > memory.limit() {
            memory.extend();
            // What is not there at all only looked like a tunnel, unless nothing was found yet.
            if found.ip != 0 && next.address + IPV4_HEADER > memory.tail() {
                break;
            }
            if is_unreadable(memory, next.address + IPV4_HEADER) {
                next = UNREADABLE;
                break;
            }
        }
        found.depth += next.deeper;
        if !memory.read(window, next.address) {
            next = UNREADABLE;
            break;
        }
        found.window = next.address;
        next = look(memory, window, next, found);
        blur(memory, found);
        next = Step {
            what: memory.any(next.what),
            address: memory.any(next.address),
            deeper: memory.any(next.deeper),
        };
        round += 1;
        // Last, with nothing behind it: to verifiers up to at least 6.1 only a jump may lead back to a loop's start, and
        // the compiler may put what comes last right before the start, without one.
        if next.what >= AT_END || round == ROUNDS {
            break;
        }
    }
    let mut verdict = next.what;
    if found.ip == 0 && verdict != AT_UNREADABLE {
        verdict = AT_FOREIGN;
    } else if !found.is_later_fragment
        && is_unreadable(memory, found.transport + transport_bytes(found.protocol))
    {
        verdict = AT_UNREADABLE;
    }
    let verdict = memory.any(verdict);
    blur(memory, found);
    match verdict {
        AT_FOREIGN => Verdict::NotIp,
        AT_UNREADABLE => Verdict::Unreadable,
        _ => Verdict::Found,
    }
}

/// Makes what was found unknown to the verifier.
#[inline(always)]
fn blur<M: Memory>(memory: &M, found: &mut Innermost) {
    let both = memory.any(found.protocol as u64 | (found.is_later_fragment as u64) << 8);
    found.protocol = both as u8;
    found.is_later_fragment = both >> 8 != 0;
    found.depth = memory.any(found.depth);
    found.ip = memory.any(found.ip);
    found.transport = memory.any(found.transport);
    found.window = memory.any(found.window);
}

/// Parses the header of a step.
#[inline(always)]
fn look<M: Memory>(memory: &M, window: &Window, here: Step, found: &mut Innermost) -> Step {
    let at = here.address;
    match here.what {
        AT_IP => ip(memory, window, at, found),
        AT_TAG => of_type(window.short(2), at + 4),
        AT_ETHERNET => of_type(window.short(12), at + ETHERNET_HEADER),
        AT_VXLAN if is_unreadable(memory, at + VXLAN_FIELDS) => UNREADABLE,
        AT_VXLAN => vxlan(window, at),
        AT_GENEVE => geneve(window, at),
        AT_GRE => gre(window, at),
        AT_UDP => udp(memory, window.short(2), at),
        AT_EXTENSION => extension(window, at, found),
        AT_PERHAPS_IP => match window.at::<u8>(0) {
            // IPv4 without options: letters would pass for IPv6.
            0x45 => inside(AT_IP, at),
            _ => END,
        },
        _ => END,
    }
}

#[inline(always)]
fn of_type(ethertype: u16, address: u64) -> Step {
    match ethertype {
        ETHERTYPE_IPV4 | ETHERTYPE_IPV6 => step(AT_IP, address),
        ETHERTYPE_VLAN | ETHERTYPE_QINQ | ETHERTYPE_OLD_QINQ => step(AT_TAG, address),
        _ => FOREIGN,
    }
}

#[inline(always)]
fn ip<M: Memory>(memory: &M, window: &Window, at: u64, found: &mut Innermost) -> Step {
    let first: u8 = window.at(0);
    let (header, protocol, port) = match first >> 4 {
        6 if is_unreadable(memory, at + IPV6_HEADER) => return UNREADABLE,
        4 => ((first as u64 & 15) * 4, window.at(9), window.short(22)),
        6 => (IPV6_HEADER, window.at(6), window.short(42)),
        _ => return FOREIGN,
    };
    if header < IPV4_HEADER {
        return FOREIGN;
    }
    found.ip = at;
    found.transport = at + header;
    found.protocol = protocol;
    // The lower 13 bits are the fragment's offset.
    found.is_later_fragment = first >> 4 == 4 && window.short(6) & 0x1fff != 0;
    if protocol == IPPROTO_UDP
        && !found.is_later_fragment
        && (header == IPV4_HEADER || header == IPV6_HEADER && first >> 4 == 6)
    {
        if is_unreadable(memory, found.transport + UDP_HEADER) {
            return UNREADABLE;
        }
        return udp(memory, port, found.transport);
    }
    behind(found)
}

/// The step behind the headers of an IP packet.
#[inline(always)]
fn behind(found: &Innermost) -> Step {
    if found.is_later_fragment {
        return END;
    }
    match found.protocol {
        IPPROTO_IPIP | IPPROTO_IPV6 => inside(AT_IP, found.transport),
        IPPROTO_GRE => step(AT_GRE, found.transport),
        IPPROTO_UDP => step(AT_UDP, found.transport),
        IPPROTO_HOP_BY_HOP
        | IPPROTO_ROUTING
        | IPPROTO_FRAGMENT
        | IPPROTO_AUTHENTICATION
        | IPPROTO_OPTIONS => step(AT_EXTENSION, found.transport),
        _ => END,
    }
}

#[inline(always)]
fn udp<M: Memory>(memory: &M, port: u16, at: u64) -> Step {
    match memory.tunnel(port) {
        Tunnel::Vxlan => step(AT_VXLAN, at + UDP_HEADER),
        Tunnel::Geneve => step(AT_GENEVE, at + UDP_HEADER),
        Tunnel::Ip => step(AT_PERHAPS_IP, at + UDP_HEADER),
        Tunnel::None => END,
    }
}

/// An extension header of IPv6, or an authentication header.
#[inline(always)]
fn extension(window: &Window, at: u64, found: &mut Innermost) -> Step {
    let length = window.at::<u8>(1) as u64;
    let bytes = match found.protocol {
        IPPROTO_FRAGMENT => {
            found.is_later_fragment = window.short(2) & 0xfff8 != 0;
            8
        }
        IPPROTO_AUTHENTICATION => (length + 2) * 4,
        _ => (length + 1) * 8,
    };
    found.protocol = window.at(0);
    found.transport = at + bytes;
    behind(found)
}

/// The flag I (a network identifier is present) must be set; with GPE the header has a next-protocol field.
#[inline(always)]
fn vxlan(window: &Window, at: u64) -> Step {
    const HAS_IDENTIFIER: u8 = 0x08;
    const IS_GPE: u8 = 0x04;
    let (flags, inner) = (window.at::<u8>(0), at + TUNNEL_HEADER);
    if flags & HAS_IDENTIFIER == 0 {
        return END;
    }
    if flags & IS_GPE == 0 {
        let frame = of_type(window.short(20), inner + ETHERNET_HEADER);
        return Step { deeper: 1, ..frame };
    }
    match window.at::<u8>(3) {
        1 | 2 => inside(AT_IP, inner),
        3 => inside(AT_ETHERNET, inner),
        _ => FOREIGN,
    }
}

/// Geneve version 0; the options' length is in words of 4 bytes.
#[inline(always)]
fn geneve(window: &Window, at: u64) -> Step {
    let first: u8 = window.at(0);
    if first >> 6 != 0 {
        return END;
    }
    within(window.short(2), at + TUNNEL_HEADER + (first as u64 & 0x3f) * 4)
}

/// GRE version 0 without routing; checksum, key and sequence number take 4 bytes each.
#[inline(always)]
fn gre(window: &Window, at: u64) -> Step {
    const CHECKSUM: u16 = 0x8000;
    const KEY: u16 = 0x2000;
    const SEQUENCE: u16 = 0x1000;
    let flags = window.short(0);
    if flags & !(CHECKSUM | KEY | SEQUENCE) != 0 {
        return END;
    }
    let optional = (flags >> 15) as u64 + (flags >> 13 & 1) as u64 + (flags >> 12 & 1) as u64;
    within(window.short(2), at + 4 + optional * 4)
}

/// The step inside a tunnel, by the EtherType in its header.
#[inline(always)]
fn within(ethertype: u16, address: u64) -> Step {
    match ethertype {
        ETHERTYPE_BRIDGED => inside(AT_ETHERNET, address),
        ETHERTYPE_IPV4 | ETHERTYPE_IPV6 => inside(AT_IP, address),
        _ => FOREIGN,
    }
}
