//! Instructions that Rust has no words for, and placeholders that the loader replaces.
//!
//! The crate is also compiled for the host, by `cargo clippy`. Nothing is run there, and the instructions are left out.

use overlay_trace_common::probe_spec::{ARGUMENT_MARKER, ProbeSpec, RESULT_MARKER};

/// The probe's spec: a 64-bit immediate, [`SPEC_MARKER`](overlay_trace_common::probe_spec::SPEC_MARKER), which the
/// loader replaces.
#[inline(always)]
pub fn spec() -> ProbeSpec {
    let spec: u64;
    #[cfg(target_arch = "bpf")]
    // SAFETY: loads an immediate.
    unsafe {
        core::arch::asm!("{0} = 0x0eae7ace0b5e55ed ll", out(reg) spec, options(pure, nomem, nostack, preserves_flags))
    };
    #[cfg(not(target_arch = "bpf"))]
    {
        spec = overlay_trace_common::probe_spec::SPEC_MARKER;
    }
    ProbeSpec(spec)
}

/// A 64-bit word of a program's context, at a placeholder of its offset: the loader knows the offset.
#[inline(always)]
fn context_word<const MARKER: i16>(context: *const u64) -> u64 {
    let word: u64;
    #[cfg(target_arch = "bpf")]
    // SAFETY: a load from the context; the verifier refuses a program that reads beyond it.
    unsafe {
        core::arch::asm!(
            "{0} = *(u64 *)({1} + {offset})",
            out(reg) word, in(reg) context, offset = const MARKER, options(pure, readonly, nostack)
        )
    };
    #[cfg(not(target_arch = "bpf"))]
    {
        word = context as u64 + MARKER as u64;
    }
    word
}

/// The result of the function whose exit is probed: it lies behind the function's arguments. (Kernels before 5.17 have
/// no helper for it.)
#[inline(always)]
pub fn result(context: *const u64) -> u64 {
    context_word::<RESULT_MARKER>(context)
}

/// The packet argument of a probe whose program is shared by probes with different argument positions.
#[inline(always)]
pub fn packet_argument(context: *const u64) -> u64 {
    context_word::<ARGUMENT_MARKER>(context)
}

/// A copy of a number that the compiler treats as unknown: it must not replace a pointer that the verifier tracks by an
/// equal number that the verifier does not know.
pub use overlay_trace_common::path::opaque;

/// The low half of a pointer, as a number that may be computed with.
#[inline(always)]
pub fn low_half(pointer: u64) -> u32 {
    let low: u32;
    #[cfg(target_arch = "bpf")]
    // SAFETY: a move between two registers.
    unsafe {
        core::arch::asm!("{0} = {1}", out(wreg) low, in(wreg) pointer as u32, options(pure, nomem, nostack))
    };
    #[cfg(not(target_arch = "bpf"))]
    {
        low = pointer as u32;
    }
    low
}

/// Keeps the compiler from moving memory accesses across this point. x86-64 keeps the order of stores by itself.
#[inline(always)]
pub fn barrier() {
    // SAFETY: no instruction.
    unsafe { core::arch::asm!("", options(nostack)) };
}

/// Something that the compiler does not see reads and writes the value here: what was written to it has been stored, and
/// what is read of it is loaded anew.
#[inline(always)]
pub fn exposed<T>(value: &mut T) {
    #[cfg(target_arch = "bpf")]
    // SAFETY: no instruction. (An explicit register, since a template that names a register would leave a second line of
    // source for the next instruction, which the verifier refuses.)
    unsafe {
        core::arch::asm!("", in("r1") value as *mut T, options(nostack))
    };
    #[cfg(not(target_arch = "bpf"))]
    let _ = value;
}
