//! Reading the kernel's structures.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::{bpf_ktime_get_ns, bpf_probe_read_kernel};

/// How a program may read kernel memory: programs with typed arguments (fentry, tp_btf) load directly,
/// which costs one instruction; kprobes go through a helper.
pub trait Access {
    /// The pointer or 64-bit number at `base + offset`.
    fn word(base: u64, offset: u32) -> u64;
    /// The 32-bit number at `base + offset`.
    fn half(base: u64, offset: u32) -> u32;
    /// The 16-bit number at `base + offset`.
    fn quarter(base: u64, offset: u32) -> u16;
    /// The two 64-bit numbers at `base + offset`.
    fn pair(base: u64, offset: u32) -> [u64; 2];
}

pub struct Direct;
pub struct Copied;

impl Access for Direct {
    #[inline(always)]
    fn word(base: u64, offset: u32) -> u64 {
        unsafe { core::ptr::read_volatile((base + offset as u64) as *const u64) }
    }
    #[inline(always)]
    fn half(base: u64, offset: u32) -> u32 {
        unsafe { core::ptr::read_volatile((base + offset as u64) as *const u32) }
    }
    #[inline(always)]
    fn quarter(base: u64, offset: u32) -> u16 {
        unsafe { core::ptr::read_volatile((base + offset as u64) as *const u16) }
    }
    #[inline(always)]
    fn pair(base: u64, offset: u32) -> [u64; 2] {
        [Self::word(base, offset), Self::word(base, offset + 8)]
    }
}

impl Access for Copied {
    #[inline(always)]
    fn word(base: u64, offset: u32) -> u64 {
        copied(base, offset)
    }
    #[inline(always)]
    fn half(base: u64, offset: u32) -> u32 {
        copied(base, offset)
    }
    #[inline(always)]
    fn quarter(base: u64, offset: u32) -> u16 {
        copied(base, offset)
    }
    #[inline(always)]
    fn pair(base: u64, offset: u32) -> [u64; 2] {
        copied(base, offset)
    }
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
