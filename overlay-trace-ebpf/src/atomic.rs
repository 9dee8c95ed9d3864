//! Atomic instructions that the target has and `core::sync::atomic` does not offer for it.

/// Atomically writes `value` if the word is 0, and says whether it was.
#[inline(always)]
pub fn replace_zero(word: *mut u64, value: u64) -> bool {
    let mut old = 0u64;
    unsafe {
        core::arch::asm!("r0 = cmpxchg_64({0} + 0, r0, {1})", in(reg) word, in(reg) value, inout("r0") old)
    };
    old == 0
}

/// Atomically adds, and returns the number before.
#[inline(always)]
pub fn fetch_add(word: *mut u64, number: u64) -> u64 {
    let mut old = number;
    unsafe {
        core::arch::asm!("{1} = atomic_fetch_add((u64 *)({0} + 0), {1})", in(reg) word, inout(reg) old)
    };
    old
}
