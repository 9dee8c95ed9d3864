//! The kernel programs of labs that are themselves made of such programs: a network of Cilium's shape. They have
//! nothing to do with tracing.
#![no_std]
#![no_main]

mod service;

use core::{ffi::c_void, mem::MaybeUninit};

use aya_ebpf::{
    bindings::{__sk_buff, BPF_F_ZERO_CSUM_TX, TC_ACT_OK, TC_ACT_SHOT, bpf_tunnel_key},
    helpers::generated::{
        bpf_redirect, bpf_redirect_neigh, bpf_redirect_peer, bpf_skb_change_type, bpf_skb_load_bytes,
        bpf_skb_set_tunnel_key, bpf_skb_store_bytes,
    },
};
use overlay_trace_common::lab::{LabNetwork, LabSettings};

/// Set by the loader before the programs are loaded.
#[unsafe(no_mangle)]
// SAFETY: integers, of which zero is a value.
pub static LAB: LabSettings = unsafe { core::mem::zeroed() };

const ETHERTYPE_IPV4: u32 = (0x0800u16).to_be() as u32;
const ETHERTYPE_IPV6: u32 = (0x86ddu16).to_be() as u32;
/// A tunnel's key without what came with Linux 6.0, the local address: all kernels take it.
const KEY_BYTES: u32 = core::mem::offset_of!(bpf_tunnel_key, __bindgen_anon_3) as u32;
/// The outer UDP header has no checksum, as ever with VXLAN.
const WITHOUT_CHECKSUM: u64 = BPF_F_ZERO_CSUM_TX as u64;
/// `skb->pkt_type` of what is for this machine.
const PACKET_HOST: u32 = 0;
/// Offset of the destination address in a frame with IPv4, and in one with IPv6.
const DESTINATION_V4: u32 = 30;
const DESTINATION_V6: u32 = 38;

/// Volatile, because the compiler sees only zeros.
fn settings() -> LabSettings {
    // SAFETY: a pointer to a variable that nobody writes while programs run.
    unsafe { core::ptr::read_volatile(&raw const LAB) }
}

/// Integers and arrays of integers: any bytes are a value.
trait Plain: Copy {}
impl Plain for u32 {}
impl Plain for [u32; 4] {}

/// The number at an offset of the frame, if the frame is so long.
#[inline(always)]
fn read<T: Plain>(skb: *mut __sk_buff, offset: u32) -> Option<T> {
    let mut bytes = MaybeUninit::<T>::uninit();
    let (to, length) = (bytes.as_mut_ptr() as *mut c_void, size_of::<T>() as u32);
    // SAFETY: the helper writes as many bytes as the variable has; `skb` is a program's context.
    let is_there = unsafe { bpf_skb_load_bytes(skb as *const c_void, offset, to, length) } == 0;
    // SAFETY: it has been filled, and any bytes are a value.
    if is_there { Some(unsafe { bytes.assume_init() }) } else { None }
}

/// Whether the frame goes to this network.
#[inline(always)]
fn leads_to(skb: *mut __sk_buff, network: &LabNetwork) -> bool {
    // SAFETY: `skb` is a program's context.
    match unsafe { (*skb).protocol } {
        ETHERTYPE_IPV4 => read(skb, DESTINATION_V4).is_some_and(|address| network.has_v4(address)),
        ETHERTYPE_IPV6 => read(skb, DESTINATION_V6).is_some_and(|address| network.has_v6(&address)),
        _ => false,
    }
}

/// At the node's end of a pod's device, for what the pod sends: straight to the device that leads to the other
/// node, past the node's own stack.
#[unsafe(no_mangle)]
#[unsafe(link_section = "classifier/from_container")]
extern "C" fn from_container(skb: *mut __sk_buff) -> i32 {
    let settings = settings();
    if !leads_to(skb, &settings.network) {
        return TC_ACT_OK;
    }
    if settings.is_tunnel == 0 {
        // SAFETY: a helper that takes numbers, and here no address of a neighbour.
        return unsafe { bpf_redirect_neigh(settings.out, core::ptr::null_mut(), 0, 0) } as i32;
    }
    // SAFETY: integers, of which zero is a value.
    let mut key: bpf_tunnel_key = unsafe { core::mem::zeroed() };
    key.tunnel_id = settings.vni;
    key.tunnel_ttl = 64;
    key.__bindgen_anon_1.remote_ipv4 = settings.remote;
    // SAFETY: the key has so many bytes; `skb` is the program's context.
    if unsafe { bpf_skb_set_tunnel_key(skb, &raw mut key, KEY_BYTES, WITHOUT_CHECKSUM) } != 0 {
        return TC_ACT_SHOT;
    }
    // SAFETY: a helper that takes numbers.
    unsafe { bpf_redirect(settings.out, 0) as i32 }
}

/// At the device that other nodes' packets come from: straight into the pod, past its device's queue.
#[unsafe(no_mangle)]
#[unsafe(link_section = "classifier/to_endpoint")]
extern "C" fn to_endpoint(skb: *mut __sk_buff) -> i32 {
    let settings = settings();
    if !leads_to(skb, &settings.network) {
        return TC_ACT_OK;
    }
    let addresses = [settings.pod_mac, settings.node_mac];
    let from = &raw const addresses as *const c_void;
    // SAFETY: the addresses have so many bytes; `skb` is the program's context.
    if unsafe { bpf_skb_store_bytes(skb, 0, from, 12, 0) } != 0 {
        return TC_ACT_SHOT;
    }
    // It came to the tunnel with another address; some kernels do not look again in the pod.
    // SAFETY: `skb` is the program's context.
    if unsafe { bpf_skb_change_type(skb, PACKET_HOST) } != 0 {
        return TC_ACT_SHOT;
    }
    // SAFETY: a helper that takes numbers.
    unsafe { bpf_redirect_peer(settings.pod_device, 0) as i32 }
}

#[unsafe(no_mangle)]
#[unsafe(link_section = "license")]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    loop {}
}
