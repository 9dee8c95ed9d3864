//! Reading the kernel's structures.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::{bpf_ktime_get_ns, bpf_probe_read_kernel};
use overlay_trace_common::row::FIELD_MARKER;

use crate::maps::SETTINGS;

/// Which field of [`Offsets`](overlay_trace_common::kernel::Offsets) is meant.
macro_rules! field {
    ($field:ident) => {{ core::mem::offset_of!(overlay_trace_common::kernel::Offsets, $field) / 4 }};
}
pub(crate) use field;

/// How a program may read kernel memory: programs with typed arguments (fentry, tp_btf) load directly, which costs
/// one instruction, into which the loader puts the field's offset; kprobes go through a helper.
pub trait Access {
    /// The pointer or 64-bit number in this field of what is at `base`.
    fn word<const FIELD: usize>(base: u64) -> u64;
    /// The 32-bit number in this field of what is at `base`.
    fn half<const FIELD: usize>(base: u64) -> u32;
    /// The 16-bit number in this field of what is at `base`.
    fn quarter<const FIELD: usize>(base: u64) -> u16;
}

pub struct Direct;
pub struct Copied;

/// A load that the loader completes.
macro_rules! load {
    ($size:literal $base:ident) => {{
        let value: u64;
        unsafe {
            core::arch::asm!(
                concat!("{0} = *(", $size, " *)({1} + {offset})"),
                out(reg) value, in(reg) $base, offset = const FIELD_MARKER + FIELD as i16,
                options(pure, readonly, nostack)
            )
        };
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
    unsafe { (&raw const SETTINGS.offsets as *const u32).add(field).read_volatile() }
}

/// The number at `base + offset`, 0 if it cannot be read.
#[inline(always)]
pub fn copied<T: Copy>(base: u64, offset: u32) -> T {
    let mut value: T = unsafe { core::mem::zeroed() };
    copy(&raw mut value as *mut c_void, size_of::<T>() as u32, base + offset as u64);
    value
}

/// Copies kernel memory; the target is zeroed if it cannot be read.
#[inline(always)]
pub fn copy(target: *mut c_void, bytes: u32, source: u64) -> bool {
    unsafe { bpf_probe_read_kernel(target, bytes, source as *const c_void) == 0 }
}

/// The records' clock, in ns.
#[inline(always)]
pub fn now() -> u64 {
    unsafe { bpf_ktime_get_ns() }
}

/// A copy of a number that the compiler does not know to be the same: a typed pointer of which the
/// verifier keeps track must not be replaced by an equal number that it does not know.
#[inline(always)]
pub fn opaque(number: u64) -> u64 {
    let copy: u64;
    unsafe { core::arch::asm!("{0} = {1}", out(reg) copy, in(reg) number, options(pure, nomem, nostack)) };
    copy
}

/// The low half of a pointer, as a number that may be computed with.
#[inline(always)]
pub fn low_half(pointer: u64) -> u32 {
    let low: u32;
    unsafe {
        core::arch::asm!("{0} = {1}", out(wreg) low, in(wreg) pointer as u32, options(pure, nomem, nostack))
    };
    low
}
