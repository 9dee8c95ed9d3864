//! The innermost packet's addresses and its level, from its headers.

use core::ffi::c_void;

use overlay_trace_common::record::Flow;

use crate::{
    maps::{State, setting},
    read::{copied, copy},
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
const DEPTH_MAX: u8 = 3;

/// The first 64 bytes from the IP header on, as far as they can be read.
type Head = [u8; 64];

/// Reads the addresses of a packet whose IP header is in place; its level grows by the encapsulations
/// found around it. Returns false if it is no IP packet.
#[inline(always)]
pub fn identify(skb: u64, ingress: bool, state: &mut State) -> bool {
    let head: u64 = copied(skb, setting!(offsets.skb_head));
    let mut at: u64 = if ingress {
        copied(skb, setting!(offsets.skb_data))
    } else {
        let network: u16 = copied(skb, setting!(offsets.skb_network_header));
        head + network as u64
    };
    let mut bytes: Head = [0; 64];
    let mut depth = 0u8;
    loop {
        if !copy(&raw mut bytes as *mut c_void, 64, at) {
            return false;
        }
        let inner = inner_offset(&bytes);
        if inner == 0 || depth == DEPTH_MAX {
            break;
        }
        at += inner;
        depth += 1;
    }
    state.current += (depth as u64) << 48;
    state.identified = 1;
    let end: u32 = copied(skb, setting!(offsets.skb_end));
    let segments: u16 = copied(head + end as u64, setting!(offsets.shared_gso_segs));
    state.record.header.segments = if segments == 0 { 1 } else { segments };
    let length: u32 = copied(skb, setting!(offsets.skb_len));
    fill(&bytes, length, state)
}

/// Where the next packet begins inside this one, 0 if there is none.
#[inline(always)]
fn inner_offset(bytes: &Head) -> u64 {
    if bytes[0] != 0x45 {
        return 0;
    }
    match bytes[9] {
        IPPROTO_IPIP => 20,
        IPPROTO_UDP => {
            let port = u16::from_be_bytes([bytes[22], bytes[23]]);
            if VXLAN_PORTS.contains(&port) { 20 + UDP_HEADER + VXLAN_HEADER + ETHERNET_HEADER } else { 0 }
        }
        _ => 0,
    }
}

#[inline(always)]
fn fill(bytes: &Head, length: u32, state: &mut State) -> bool {
    let header = &mut state.record.header;
    let flow = &mut header.flow;
    match bytes[0] >> 4 {
        4 => {
            flow.version = 4;
            flow.protocol = bytes[9];
            flow.ip_id = u16::from_be_bytes([bytes[4], bytes[5]]);
            flow.source[..4].copy_from_slice(&bytes[12..16]);
            flow.destination[..4].copy_from_slice(&bytes[16..20]);
            header.bytes = u16::from_be_bytes([bytes[2], bytes[3]]) as u32;
            if bytes[0] & 15 == 5 {
                ports(flow, &bytes[20..40]);
            }
        }
        6 => {
            flow.version = 6;
            flow.protocol = bytes[6];
            flow.source.copy_from_slice(&bytes[8..24]);
            flow.destination.copy_from_slice(&bytes[24..40]);
            header.bytes = u16::from_be_bytes([bytes[4], bytes[5]]) as u32 + 40;
            ports(flow, &bytes[40..60]);
        }
        _ => return false,
    }
    // The length field is not yet written on the way out, and cannot hold that of a GSO packet.
    if header.segments > 1 || header.bytes <= 40 {
        header.bytes = length;
    }
    state.empty = is_empty(&header.flow, header.bytes, bytes) as u8;
    true
}

/// Whether it is a TCP segment without data.
#[inline(always)]
fn is_empty(flow: &Flow, length: u32, bytes: &Head) -> bool {
    let ip = if flow.version == 4 { 20 } else { 40 };
    let tcp = (bytes[ip as usize + 12] >> 4) as u32 * 4;
    flow.protocol == IPPROTO_TCP && length <= ip + tcp
}

#[inline(always)]
fn ports(flow: &mut Flow, transport: &[u8]) {
    match flow.protocol {
        IPPROTO_TCP | IPPROTO_UDP => {
            flow.source_port = u16::from_be_bytes([transport[0], transport[1]]);
            flow.destination_port = u16::from_be_bytes([transport[2], transport[3]]);
            if flow.protocol == IPPROTO_TCP {
                flow.sequence =
                    u32::from_be_bytes([transport[4], transport[5], transport[6], transport[7]]);
            }
        }
        IPPROTO_ICMP | IPPROTO_ICMPV6 => {
            flow.source_port = u16::from_be_bytes([transport[4], transport[5]]);
            flow.destination_port = flow.source_port;
        }
        _ => {}
    }
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
    let address = address.as_ptr() as *const [u8; 8];
    unsafe { (u64::from_ne_bytes(*address), u64::from_ne_bytes(*address.add(1))) }
}
