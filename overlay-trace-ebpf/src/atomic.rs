//! What only one CPU may get, by means that every kernel has.
//!
//! Before 5.12 the kernel knows one atomic operation, addition, and it does not tell the sum. It is enough
//! for a lock that is tried once: who has added one and then reads one is alone; who reads more takes it
//! back. Of several that try at the same moment one gets it, or none.

use aya_ebpf::bindings::BPF_NOEXIST;

use crate::maps::{HOP_COUNT, HOP_NUMBERS};

/// How many numbers others may take while one is being looked for.
const NUMBERS_TRIED: u32 = 16;

/// Takes what the word stands for, unless somebody has it or tries for it.
#[inline(always)]
pub fn take(word: *mut u64) -> bool {
    add(word, 1);
    let alone = unsafe { word.read_volatile() } == 1;
    if !alone {
        give(word);
    }
    alone
}

/// Gives back what was taken.
#[inline(always)]
pub fn give(word: *mut u64) {
    add(word, u64::MAX);
}

#[inline(always)]
fn add(word: *mut u64, number: u64) {
    unsafe { core::arch::asm!("lock *(u64 *)({0} + 0) += {1}", in(reg) word, in(reg) number) };
}

/// The next number of a hop, from 1; no two are the same, and none is left out.
#[inline(always)]
pub fn next_hop() -> Option<u64> {
    let count = HOP_COUNT.get_ptr_mut(0)?;
    let mut number = unsafe { count.read_volatile() };
    let mut tried = 0;
    while tried < NUMBERS_TRIED {
        tried += 1;
        number += 1;
        // Of those that try the same number the kernel lets one insert it.
        if HOP_NUMBERS.insert(number as u32, 1u8, BPF_NOEXIST as u64).is_ok() {
            add(count, 1);
            return Some(number);
        }
    }
    None
}
