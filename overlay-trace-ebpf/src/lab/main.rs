//! The kernel programs of labs that are themselves made of such programs: a network of Cilium's shape. They have
//! nothing to do with tracing.
#![no_std]
#![no_main]

mod service;

use core::ffi::c_void;

use aya_ebpf::{
    bindings::{__sk_buff, BPF_F_ZERO_CSUM_TX, TC_ACT_OK, TC_ACT_SHOT, bpf_tunnel_key},
    helpers::generated::{
        bpf_redirect, bpf_redirect_neigh, bpf_redirect_peer, bpf_skb_change_type, bpf_skb_load_bytes,
        bpf_skb_set_tunnel_key, bpf_skb_store_bytes,
    },
};
use overlay_trace_common::lab::LabSettings;

/// Set by the loader before the programs are loaded.
#[unsafe(no_mangle)]
pub static LAB: LabSettings = unsafe { core::mem::zeroed() };

const ETHERTYPE_IPV4: u32 = (0x0800u16).to_be() as u32;
/// A tunnel's key without what came with Linux 6.0, the local address: all kernels take it.
const KEY_BYTES: u32 = core::mem::offset_of!(bpf_tunnel_key, __bindgen_anon_3) as u32;
/// The outer UDP header has no checksum, as ever with VXLAN.
const WITHOUT_CHECKSUM: u64 = BPF_F_ZERO_CSUM_TX as u64;
/// `skb->pkt_type` of what is for this machine.
const PACKET_HOST: u32 = 0;
/// Offset of the destination address in a frame with IPv4.
const DESTINATION: u32 = 30;

/// Volatile, because the compiler sees only zeros.
fn settings() -> LabSettings {
    unsafe { core::ptr::read_volatile(&raw const LAB) }
}

/// The frame's IPv4 destination, 0 if there is none.
fn destination(skb: *mut __sk_buff) -> u32 {
    let mut address = 0u32;
    let is_ip = unsafe { (*skb).protocol } == ETHERTYPE_IPV4;
    let to = &raw mut address as *mut c_void;
    let read = is_ip && unsafe { bpf_skb_load_bytes(skb as *const c_void, DESTINATION, to, 4) } == 0;
    if read { address } else { 0 }
}

/// At the node's end of a pod's device, for what the pod sends: straight to the device that leads to the other
/// node, past the node's own stack.
#[unsafe(no_mangle)]
#[unsafe(link_section = "classifier/from_container")]
pub extern "C" fn from_container(skb: *mut __sk_buff) -> i32 {
    let (to, settings) = (destination(skb), settings());
    if to == 0 || to & settings.mask != settings.network {
        return TC_ACT_OK as i32;
    }
    if settings.is_tunnel == 0 {
        return unsafe { bpf_redirect_neigh(settings.out, core::ptr::null_mut(), 0, 0) } as i32;
    }
    let mut key: bpf_tunnel_key = unsafe { core::mem::zeroed() };
    key.tunnel_id = settings.vni;
    key.tunnel_ttl = 64;
    key.__bindgen_anon_1.remote_ipv4 = settings.remote;
    if unsafe { bpf_skb_set_tunnel_key(skb, &raw mut key, KEY_BYTES, WITHOUT_CHECKSUM) } != 0 {
        return TC_ACT_SHOT as i32;
    }
    unsafe { bpf_redirect(settings.out, 0) as i32 }
}

/// At the device that other nodes' packets come from: straight into the pod, past its device's queue.
#[unsafe(no_mangle)]
#[unsafe(link_section = "classifier/to_endpoint")]
pub extern "C" fn to_endpoint(skb: *mut __sk_buff) -> i32 {
    let (to, settings) = (destination(skb), settings());
    if to == 0 || to != settings.pod {
        return TC_ACT_OK as i32;
    }
    let addresses = [settings.pod_mac, settings.node_mac];
    let from = &raw const addresses as *const c_void;
    if unsafe { bpf_skb_store_bytes(skb, 0, from, 12, 0) } != 0 {
        return TC_ACT_SHOT as i32;
    }
    // It came to the tunnel with another address; some kernels do not look again in the pod.
    if unsafe { bpf_skb_change_type(skb, PACKET_HOST) } != 0 {
        return TC_ACT_SHOT as i32;
    }
    unsafe { bpf_redirect_peer(settings.pod_device, 0) as i32 }
}

#[unsafe(no_mangle)]
#[unsafe(link_section = "license")]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    loop {}
}
