//! Reading a packet by the classifier's own means: `bpf_skb_load_bytes` reads the linear part and fragments alike.

use core::{ffi::c_void, mem::MaybeUninit};

use aya_ebpf::{bindings::__sk_buff, helpers::generated::bpf_skb_load_bytes};
use overlay_trace_common::{
    addresses::{Gso, describe},
    headers::{
        AT_ETHERNET, AT_IP, ETHERNET_HEADER, ETHERTYPE_IPV4, Innermost, Memory, Tunnel, Verdict,
        WINDOW_BYTES, Window, plain, walk,
    },
    tc::Hook,
};

use crate::{insn::opaque, parse_headers::tunnel_of, tc::Scratch};

/// The address of the packet's `sk_buff`, as a number. The context of a classifier is that address; with CAP_PERFMON a
/// program may store it (`allow_ptr_leaks` of the verifier).
#[inline(always)]
pub fn address(packet: *mut __sk_buff, scratch: *mut u64) -> u64 {
    any(scratch, packet as u64)
}

/// A copy of a number that the verifier does not know.
#[inline(always)]
fn any(scratch: *mut u64, number: u64) -> u64 {
    // SAFETY: a pointer to a word of the map `TC_SCRATCH`, to which no reference is used meanwhile.
    unsafe {
        scratch.write_volatile(number);
        scratch.read_volatile()
    }
}

/// A field of the context: one load at a constant offset, which is all that the verifier accepts.
macro_rules! context_field {
    ($packet:expr, $field:ident) => {{
        // SAFETY: the pointer is the classifier's context.
        unsafe { (&raw const (*$packet).$field).read_volatile() }
    }};
}

/// The index of the device through which the packet came into the namespace; 0 if it was made there.
#[inline(always)]
pub fn received_through(packet: *mut __sk_buff) -> u32 {
    context_field!(packet, ingress_ifindex)
}

/// A packet; addresses in it are offsets from the start of its data.
struct Packet {
    packet: *mut __sk_buff,
    length: u64,
    scratch: *mut u64,
}

impl Memory for Packet {
    #[inline(always)]
    fn read(&self, window: &mut Window, address: u64) -> bool {
        // What the verifier learns from the comparisons here is of no use later, and differs from round to round.
        let address = self.any(address);
        // The helper reads all of the bytes or none.
        let rest = self.length.wrapping_sub(address);
        let wanted = if rest < WINDOW_BYTES as u64 { rest } else { WINDOW_BYTES as u64 };
        // The verifier learns from this comparison that the length is from 1 to the window's.
        let last = opaque(wanted.wrapping_sub(1));
        if address >= self.length || last >= WINDOW_BYTES as u64 {
            return false;
        }
        let mut word = 0;
        while word < WINDOW_BYTES / 8 {
            // SAFETY: a word of the window. What is not read is zero.
            unsafe { (&raw mut window.0 as *mut u64).add(word).write_volatile(0) };
            word += 1;
        }
        load(self.packet, address, &raw mut window.0 as *mut c_void, last as u32 + 1)
    }

    #[inline(always)]
    fn limit(&self) -> u64 {
        self.length
    }

    #[inline(always)]
    fn tail(&self) -> u64 {
        self.length
    }

    #[inline(always)]
    fn tunnel(&self, port: u16) -> Tunnel {
        tunnel_of(port)
    }

    #[inline(always)]
    fn any(&self, number: u64) -> u64 {
        any(self.scratch, number)
    }
}

#[inline(always)]
fn load(packet: *mut __sk_buff, offset: u64, target: *mut c_void, bytes: u32) -> bool {
    // SAFETY: the helper checks the offset; the callers' targets have so many bytes, of which any are a value.
    unsafe { bpf_skb_load_bytes(packet as *const c_void, offset as u32, target, bytes) == 0 }
}

/// Parses the headers of a packet at a hook into `scratch.header`, and returns the number of encapsulations around the
/// innermost packet; or says why there is nothing to parse.
#[inline(always)]
pub fn parse(packet: *mut __sk_buff, hook: &Hook, scratch: &mut Scratch) -> Result<u32, Verdict> {
    let length = any(&raw mut scratch.word, context_field!(packet, len) as u64);
    let protocol = u16::from_be(context_field!(packet, protocol) as u16);
    let memory = Packet { packet, length, scratch: &raw mut scratch.word };
    let (what, address) = match (hook.has_ethernet != 0, protocol) {
        (false, _) => (AT_IP, 0),
        (true, ETHERTYPE_IPV4) => (AT_IP, ETHERNET_HEADER),
        // The EtherType in the frame decides.
        (true, _) => (AT_ETHERNET, 0),
    };
    let (what, address) = (memory.any(what), memory.any(address));
    let mut window = MaybeUninit::uninit();
    // SAFETY: any bytes are a window, and it is looked at only after it has been filled.
    let window: &mut Window = unsafe { &mut *window.as_mut_ptr() };
    let found =
        if what == AT_IP && memory.read(window, address) { plain(&memory, address, window) } else { None };
    let found = match found {
        Some(found) => found,
        None => {
            let mut found = Innermost::default();
            let verdict = walk(&memory, what, address, window, &mut found);
            if verdict != Verdict::Found {
                return Err(verdict);
            }
            found
        }
    };
    let gso = Gso {
        size: context_field!(packet, gso_size) as u16,
        segments: context_field!(packet, gso_segs) as u16,
    };
    describe(&memory, &found, window, (length - found.ip) as u32, gso, &mut scratch.header);
    Ok(found.depth as u32)
}
