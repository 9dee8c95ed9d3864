//! The innermost packet's addresses and its level, from its headers.

use core::{ffi::c_void, mem::MaybeUninit};

use overlay_trace_common::{record::Flow, way::LEVEL_ONE};

use crate::{
    maps::{State, setting},
    read::{Access, copied, copy, opaque},
};

const IPPROTO_ICMP: u8 = 1;
const IPPROTO_IPIP: u8 = 4;
const IPPROTO_TCP: u8 = 6;
const IPPROTO_UDP: u8 = 17;
const IPPROTO_ICMPV6: u8 = 58;
/// Ports of VXLAN: flannel and the Linux default, the IANA number, Weave.
const VXLAN_PORTS: [u16; 3] = [8472, 4789, 6784];
const UDP_HEADER: u64 = 8;
const VXLAN_HEADER: u64 = 8;
const ETHERNET_HEADER: u64 = 14;
/// How many headers around the innermost packet are looked through.
const DEPTH_MAX: u64 = 3;

/// The first 64 bytes from the IP header on, as far as they can be read.
struct Head(MaybeUninit<[u64; 8]>);

impl Head {
    /// The number at an offset that its size divides, as it lies in memory.
    #[inline(always)]
    fn at<T: Copy>(&self, offset: usize) -> T {
        unsafe { (self.0.as_ptr() as *const u8).add(offset).cast::<T>().read_volatile() }
    }

    /// The 16-bit number at an offset, from network byte order.
    #[inline(always)]
    fn short(&self, offset: usize) -> u16 {
        u16::from_be(self.at(offset))
    }

    #[inline(always)]
    fn read(&mut self, address: u64) -> bool {
        copy(self.0.as_mut_ptr() as *mut c_void, 64, address)
    }
}

/// Reads the addresses of a packet whose IP header is in place; its level grows by the encapsulations
/// found around it. Returns false if it is no IP packet.
#[inline(always)]
pub fn identify<A: Access>(skb: u64, ingress: bool, state: &mut State) -> bool {
    let head = opaque(A::word(skb, setting!(offsets.skb_head)));
    let mut at: u64 = if ingress {
        opaque(A::word(skb, setting!(offsets.skb_data)))
    } else {
        head + A::quarter(skb, setting!(offsets.skb_network_header)) as u64
    };
    let mut bytes = Head(MaybeUninit::uninit());
    let mut depth = 0u64;
    loop {
        if !bytes.read(at) {
            return false;
        }
        let inner = inner_offset(&bytes);
        if inner == 0 || depth == DEPTH_MAX {
            break;
        }
        at += inner;
        depth += 1;
    }
    let place = state.followed.account.place + depth as u32 * LEVEL_ONE;
    state.followed.account.go(&mut state.record.way, place);
    state.identified = 1;
    let end = A::half(skb, setting!(offsets.skb_end));
    let segments: u16 = copied(head + end as u64, setting!(offsets.shared_gso_segs));
    state.record.header.segments = if segments == 0 { 1 } else { segments };
    let length = A::half(skb, setting!(offsets.skb_len));
    fill(&bytes, length, state)
}

/// Where the next packet begins inside this one, 0 if there is none.
#[inline(always)]
fn inner_offset(bytes: &Head) -> u64 {
    if bytes.at::<u8>(0) != 0x45 {
        return 0;
    }
    match bytes.at::<u8>(9) {
        IPPROTO_IPIP => 20,
        IPPROTO_UDP if VXLAN_PORTS.contains(&bytes.short(22)) => {
            20 + UDP_HEADER + VXLAN_HEADER + ETHERNET_HEADER
        }
        _ => 0,
    }
}

#[inline(always)]
fn fill(bytes: &Head, length: u32, state: &mut State) -> bool {
    let header = &mut state.record.header;
    let first: u8 = bytes.at(0);
    let transport = match first >> 4 {
        4 => {
            header.flow.protocol = bytes.at(9);
            header.flow.ip_id = bytes.short(4);
            set(&mut header.flow.source, bytes.at::<u32>(12));
            set(&mut header.flow.destination, bytes.at::<u32>(16));
            header.bytes = bytes.short(2) as u32;
            20
        }
        6 => {
            header.flow.protocol = bytes.at(6);
            set(&mut header.flow.source, [bytes.at::<u64>(8), bytes.at::<u64>(16)]);
            set(&mut header.flow.destination, [bytes.at::<u64>(24), bytes.at::<u64>(32)]);
            header.bytes = bytes.short(4) as u32 + 40;
            40
        }
        _ => return false,
    };
    header.flow.version = first >> 4;
    // The length field is not yet written on the way out, and cannot hold that of a GSO packet.
    if header.segments > 1 || header.bytes <= 40 {
        header.bytes = length;
    }
    if first == 0x45 {
        state.empty = ports(&mut header.flow, bytes, 20, header.bytes) as u8;
    } else if transport == 40 {
        state.empty = ports(&mut header.flow, bytes, 40, header.bytes) as u8;
    }
    true
}

/// Writes an address as whole words.
#[inline(always)]
fn set<T>(address: &mut [u8; 16], value: T) {
    unsafe { (address.as_mut_ptr() as *mut T).write_unaligned(value) }
}

/// Reads the transport's header, and says whether it is a TCP segment without data.
#[inline(always)]
fn ports(flow: &mut Flow, bytes: &Head, transport: usize, length: u32) -> bool {
    match flow.protocol {
        IPPROTO_TCP | IPPROTO_UDP => {
            flow.source_port = bytes.short(transport);
            flow.destination_port = bytes.short(transport + 2);
        }
        IPPROTO_ICMP | IPPROTO_ICMPV6 => {
            flow.source_port = bytes.short(transport + 4);
            flow.destination_port = flow.source_port;
        }
        _ => {}
    }
    if flow.protocol != IPPROTO_TCP {
        return false;
    }
    flow.sequence = u32::from_be(bytes.at(transport + 4));
    let header = (bytes.at::<u8>(transport + 12) >> 4) as u32 * 4;
    length <= transport as u32 + header
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
