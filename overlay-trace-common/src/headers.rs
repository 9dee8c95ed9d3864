//! The walk through a packet's headers to the innermost IP packet. Pure: the kernel side runs it over the
//! kernel's memory, tests run it over bytes.
//!
//! It is a chain of steps, each of which looks at one window of bytes and says what stands where next. That
//! keeps it small for the kernel's verifier, which follows each kind of step once per round, and it makes an
//! ordinary packet cost one window and nothing else.

/// Bytes of a window: an IPv6 header and a TCP header.
pub const WINDOW_BYTES: usize = 64;

/// As many of them as [`plain`] looks at: the headers of IPv4 and TCP.
pub const PLAIN_BYTES: usize = 40;

/// The rounds of a walk: what is nested deeper than they lead is not looked at. Two or three lead through an
/// encapsulation.
const ROUNDS: u32 = 24;

/// A few bytes of a packet.
#[repr(C, align(8))]
pub struct Window(pub [u64; WINDOW_BYTES / 8]);

impl Window {
    /// The number at an offset that its size divides, in memory order.
    ///
    /// # Panics
    ///
    /// If the number does not lie in the window. (Offsets are constants: nothing of this is left in kernel programs.)
    #[inline(always)]
    pub fn at<T: Integer>(&self, offset: usize) -> T {
        assert!(offset + size_of::<T>() <= WINDOW_BYTES && offset.is_multiple_of(size_of::<T>()));
        // SAFETY: the number lies in the window and is aligned, as was asserted; any bytes are an integer. Volatile,
        // since on the kernel side a helper wrote them.
        unsafe { (self.0.as_ptr() as *const u8).add(offset).cast::<T>().read_volatile() }
    }

    /// The 16-bit number at an offset, from network byte order.
    #[inline(always)]
    pub fn short(&self, offset: usize) -> u16 {
        u16::from_be(self.at(offset))
    }
}

/// The integers that a [`Window`] can be read as: for each of them any bytes are a value.
pub trait Integer: Copy {}
impl Integer for u8 {}
impl Integer for u16 {}
impl Integer for u32 {}
impl Integer for u64 {}

/// The memory that holds a packet, and the machine's tunnel ports.
pub trait Memory {
    /// Fills the window from an address; false if that cannot be read.
    fn read(&self, window: &mut Window, address: u64) -> bool;
    /// The address behind the last byte of the packet that lies in one piece.
    fn end(&self) -> u64;
    /// What a UDP packet to this port carries.
    fn tunnel(&self, port: u16) -> Tunnel;
    /// The same number, but one that might be any: the kernel's verifier follows each value that it knows
    /// through all that comes after, and gives up on a program with too many of them.
    #[inline(always)]
    fn any(&self, number: u64) -> u64 {
        number
    }
}

/// What UDP packets to a port carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Tunnel {
    None = 0,
    /// VXLAN, or VXLAN-GPE, which its header says.
    Vxlan = 1,
    Geneve = 2,
    /// IPv4 without anything in between, as flannel's `udp` has it.
    Ip = 3,
}

impl Tunnel {
    /// From the two bits that stand for it.
    #[inline(always)]
    pub const fn from_bits(bits: u64) -> Tunnel {
        match bits & 3 {
            1 => Tunnel::Vxlan,
            2 => Tunnel::Geneve,
            3 => Tunnel::Ip,
            _ => Tunnel::None,
        }
    }
}

/// The innermost IP packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Innermost {
    /// Address of its IP header.
    pub ip: u64,
    /// Address of what follows the header, its options and its extension headers.
    pub transport: u64,
    /// The protocol of that.
    pub protocol: u8,
    /// A fragment other than the first: what stands at `transport` is no header.
    pub is_later_fragment: bool,
    /// How many encapsulations are around it.
    pub depth: u64,
    /// What the window holds: the bytes from here on.
    pub window: u64,
}

/// What stands at the address of a step.
pub const AT_IP: u64 = 0;
/// A VLAN tag: its two bytes and the EtherType behind them.
pub const AT_TAG: u64 = 1;
const AT_ETHERNET: u64 = 2;
const AT_VXLAN: u64 = 3;
const AT_GENEVE: u64 = 4;
const AT_GRE: u64 = 5;
const AT_UDP: u64 = 6;
const AT_EXTENSION: u64 = 7;
/// Perhaps an IP packet: nothing but the port says so.
const AT_PERHAPS_IP: u64 = 8;
/// Nothing to look into: the packet that was found last is the innermost.
const AT_END: u64 = 9;
/// The innermost packet is not IP.
const AT_FOREIGN: u64 = 10;

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
const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86dd;
/// Ethernet inside something else.
const ETHERTYPE_BRIDGED: u16 = 0x6558;

const IPV4_HEADER: u64 = 20;
const IPV6_HEADER: u64 = 40;
const UDP_HEADER: u64 = 8;
const TUNNEL_HEADER: u64 = 8;
const ETHERNET_HEADER: u64 = 14;

/// What comes next.
#[derive(Clone, Copy)]
struct Step {
    what: u64,
    address: u64,
    /// 1 if it is inside one more encapsulation.
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

/// What most packets are, and the walk would find in more instructions: IPv4 without options, whole, with TCP, or
/// with UDP to a port that no tunnel has. The window holds what stands at the address.
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

/// Walks from an address where an IP header or a VLAN tag stands to the innermost IP packet; nothing if that
/// is not IP.
#[inline(always)]
pub fn walk<M: Memory>(memory: &M, what: u64, address: u64, window: &mut Window) -> Option<Innermost> {
    let mut found = Innermost::default();
    let mut next = step(what, address);
    let mut round = 0;
    loop {
        if !memory.read(window, next.address) {
            break;
        }
        found.window = next.address;
        next = look(memory, window, next, &mut found);
        round += 1;
        if next.what >= AT_END || round == ROUNDS {
            break;
        }
        found.depth += next.deeper;
        blur(memory, &mut found);
        next.what = memory.any(next.what);
        // The beginning is in one piece, or the kernel could not have come here with the packet.
        if next.address + IPV4_HEADER > memory.end() {
            break;
        }
    }
    let is_ip = memory.any((found.ip != 0 && next.what != AT_FOREIGN) as u64);
    blur(memory, &mut found);
    (is_ip != 0).then_some(found)
}

/// Leaves of what was found only what is to be known.
#[inline(always)]
fn blur<M: Memory>(memory: &M, found: &mut Innermost) {
    let both = memory.any(found.protocol as u64 | (found.is_later_fragment as u64) << 8);
    found.protocol = both as u8;
    found.is_later_fragment = both >> 8 != 0;
    found.depth = memory.any(found.depth);
}

/// Looks at what a step has come to.
#[inline(always)]
fn look<M: Memory>(memory: &M, window: &Window, here: Step, found: &mut Innermost) -> Step {
    let at = here.address;
    match here.what {
        AT_IP => ip(memory, window, at, found),
        AT_TAG => of_type(window.short(2), at + 4),
        AT_ETHERNET => of_type(window.short(12), at + ETHERNET_HEADER),
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
        return udp(memory, port, found.transport);
    }
    behind(found)
}

/// What follows the headers of an IP packet.
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

/// The header must say that there is a network identifier; with GPE it also says what is inside.
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

/// Version 0; the length of the options is in words of 4 bytes.
#[inline(always)]
fn geneve(window: &Window, at: u64) -> Step {
    let first: u8 = window.at(0);
    if first >> 6 != 0 {
        return END;
    }
    within(window.short(2), at + TUNNEL_HEADER + (first as u64 & 0x3f) * 4)
}

/// Version 0 without a source route; checksum, key and sequence number take 4 bytes each.
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

/// What a tunnel's header says that it carries.
#[inline(always)]
fn within(ethertype: u16, address: u64) -> Step {
    match ethertype {
        ETHERTYPE_BRIDGED => inside(AT_ETHERNET, address),
        ETHERTYPE_IPV4 | ETHERTYPE_IPV6 => inside(AT_IP, address),
        _ => FOREIGN,
    }
}
