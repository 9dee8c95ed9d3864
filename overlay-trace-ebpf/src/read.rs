//! Reading the kernel's structures.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::{bpf_ktime_get_ns, bpf_probe_read_kernel};

use crate::maps::SETTINGS;

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

/// The records' clock, in ns.
#[inline(always)]
pub fn now() -> u64 {
    // SAFETY: a helper without arguments that every program may call.
    unsafe { bpf_ktime_get_ns() }
}
