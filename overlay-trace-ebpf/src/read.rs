//! Reading the kernel's structures.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::{bpf_ktime_get_ns, bpf_probe_read_kernel};

use crate::maps::{SETTINGS, setting};

/// The index of a field of [`Offsets`](overlay_trace_common::abi::Offsets).
macro_rules! field {
    ($field:ident) => {{ core::mem::offset_of!(overlay_trace_common::abi::Offsets, $field) / 4 }};
}
pub(crate) use field;

/// How a program reads kernel memory.
pub trait Access {
    /// The pointer or 64-bit number in this field of the structure at `base`.
    fn word<const FIELD: usize>(base: u64) -> u64;
    /// The 32-bit number in this field of the structure at `base`.
    fn half<const FIELD: usize>(base: u64) -> u32;
    /// The 16-bit number in this field of the structure at `base`.
    fn quarter<const FIELD: usize>(base: u64) -> u16;
}

/// Programs with typed arguments (fentry, tp_btf) load directly, by one instruction; the loader writes the field's
/// offset into it.
pub struct Direct;

/// Kprobes have to call a helper.
pub struct Copied;

/// A load of which the loader completes the offset.
macro_rules! load {
    ($size:literal $base:ident) => {{
        let value: u64;
        #[cfg(target_arch = "bpf")]
        // SAFETY: the verifier accepts the load only if it knows the structure at the pointer and the field's offset;
        // an address that faults reads as 0.
        unsafe {
            core::arch::asm!(
                concat!("{0} = *(", $size, " *)({1} + {offset})"),
                out(reg) value, in(reg) $base,
                offset = const overlay_trace_common::probe_spec::FIELD_MARKER + FIELD as i16,
                options(pure, readonly, nostack)
            )
        };
        #[cfg(not(target_arch = "bpf"))]
        {
            value = $base + FIELD as u64;
        }
        value
    }};
}

impl Access for Direct {
    #[inline(always)]
    fn word<const FIELD: usize>(base: u64) -> u64 {
        load!("u64" base)
    }
    #[inline(always)]
    fn half<const FIELD: usize>(base: u64) -> u32 {
        load!("u32" base) as u32
    }
    #[inline(always)]
    fn quarter<const FIELD: usize>(base: u64) -> u16 {
        load!("u16" base) as u16
    }
}

impl Access for Copied {
    #[inline(always)]
    fn word<const FIELD: usize>(base: u64) -> u64 {
        copied(base, offset_of_field(FIELD))
    }
    #[inline(always)]
    fn half<const FIELD: usize>(base: u64) -> u32 {
        copied(base, offset_of_field(FIELD))
    }
    #[inline(always)]
    fn quarter<const FIELD: usize>(base: u64) -> u16 {
        copied(base, offset_of_field(FIELD))
    }
}

#[inline(always)]
fn offset_of_field(field: usize) -> u32 {
    // SAFETY: `Offsets` consists of numbers of type u32, of which `field!` gives an index.
    unsafe { (&raw const SETTINGS.offsets as *const u32).add(field).read_volatile() }
}

/// Integers and arrays of integers: any bytes are a value.
pub trait Plain: Copy {}
impl Plain for u8 {}
impl Plain for u16 {}
impl Plain for u32 {}
impl Plain for u64 {}
impl Plain for [u64; 2] {}

/// The number at `base + offset`, 0 if it cannot be read.
#[inline(always)]
pub fn copied<T: Plain>(base: u64, offset: u32) -> T {
    // SAFETY: zeros are a value of the type.
    let mut value: T = unsafe { core::mem::zeroed() };
    // SAFETY: the target has that size, and any bytes are a value of its type.
    unsafe { copy(&raw mut value as *mut c_void, size_of::<T>() as u32, base + offset as u64) };
    value
}

/// An address of which the verifier does not know any more that it is one, as arguments of global functions must be. It
/// follows a value to the stack and back, but not through a helper.
#[inline(always)]
pub fn as_number(address: u64) -> u64 {
    copied(&raw const address as u64, 0)
}

/// Sixteen bytes, an address or a text, as two numbers, which are compared faster.
#[inline(always)]
pub fn words(bytes: &[u8; 16]) -> (u64, u64) {
    let bytes = bytes.as_ptr() as *const u64;
    // SAFETY: the 16 bytes are two numbers of 8 bytes; alignment is not needed.
    unsafe { (bytes.read_unaligned(), bytes.add(1).read_unaligned()) }
}

/// Copies kernel memory; the target is zeroed if it cannot be read.
///
/// # Safety
///
/// The target may be overwritten with any bytes, as many as that.
#[inline(always)]
pub unsafe fn copy(target: *mut c_void, bytes: u32, source: u64) -> bool {
    // SAFETY: the helper checks the source; the target is the caller's promise.
    unsafe { bpf_probe_read_kernel(target, bytes, source as *const c_void) == 0 }
}

/// Bytes of a page on x86-64.
const PAGE_BYTES: u64 = 4096;

/// A packet's first fragment.
pub struct Fragment {
    pub address: u64,
    pub bytes: u64,
}

/// The first fragment of a packet whose `skb_shared_info` is at `shared`; `None` if it cannot be read. Its page is mapped
/// where all memory is: the place follows from the number of its `struct page` (`page_address`).
#[inline(always)]
pub fn first_fragment(shared: u64) -> Option<Fragment> {
    let page_struct_bytes = setting!(page_struct_bytes) as u64;
    let number: u8 = copied(shared, setting!(offsets.shared_nr_frags));
    if page_struct_bytes == 0 || number == 0 {
        return None;
    }
    let [page, place]: [u64; 2] = copied(shared, setting!(offsets.shared_frags));
    // A device's own memory (`net_iov`, from 6.10 on) has this bit set.
    if page == 0 || page & 1 != 0 {
        return None;
    }
    let pages: u64 = copied(setting!(vmemmap_base), 0);
    let memory: u64 = copied(setting!(page_offset_base), 0);
    let page = (page - pages) / page_struct_bytes;
    let address = memory + page * PAGE_BYTES + (place >> 32);
    Some(Fragment { address, bytes: place & u32::MAX as u64 })
}

/// The records' clock, in ns.
#[inline(always)]
pub fn now() -> u64 {
    // SAFETY: a helper without arguments that every program may call.
    unsafe { bpf_ktime_get_ns() }
}
