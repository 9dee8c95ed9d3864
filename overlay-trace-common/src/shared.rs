//! Memory that several programs use at once.
//!
//! A kernel program can be interrupted by another one on its CPU, and programs on other CPUs use the same maps. So a
//! `&mut` to such memory would promise what nobody can keep. [`Shared`] is a cell for one number: it may be read and
//! written through a shared reference.

use core::cell::UnsafeCell;

/// A number that programs in interrupts and on other CPUs may read and write at any time.
///
/// Numbers of up to eight bytes are read and written by one instruction, so a value is old or new, never a mixture.
#[derive(Default)]
#[repr(transparent)]
pub struct Shared<T>(UnsafeCell<T>);

// SAFETY: all access is by value, by one instruction each (see above); nobody gets a reference to the inside.
unsafe impl<T: Copy + Send> Sync for Shared<T> {}

impl<T: Copy> Shared<T> {
    /// A cell that holds this value.
    pub const fn new(value: T) -> Shared<T> {
        Shared(UnsafeCell::new(value))
    }

    /// The value, which the compiler may have read a little earlier. For what only this CPU writes.
    #[inline(always)]
    pub fn get(&self) -> T {
        // SAFETY: the pointer is valid, and there are no references to the inside.
        unsafe { *self.0.get() }
    }

    /// Sets the value, which the compiler may write a little later. For what only this CPU writes.
    #[inline(always)]
    pub fn set(&self, value: T) {
        // SAFETY: the pointer is valid, and there are no references to the inside.
        unsafe { *self.0.get() = value }
    }
}

impl Shared<u64> {
    /// The cell around a number in a map.
    ///
    /// # Safety
    ///
    /// The pointer is valid and aligned for the lifetime `'a`, and no reference to the number is used meanwhile.
    #[inline(always)]
    pub unsafe fn at<'a>(number: *mut u64) -> &'a Shared<u64> {
        // SAFETY: `Shared` has the layout of what it holds; the rest is the caller's promise.
        unsafe { &*number.cast() }
    }
}

/// In kernel programs: the accesses that 5.10 has. Volatile, so that they stay in their order, as READ_ONCE and
/// WRITE_ONCE of the kernel.
#[cfg(target_arch = "bpf")]
impl crate::slot::Word for Shared<u64> {
    #[inline(always)]
    fn load(&self) -> u64 {
        // SAFETY: the pointer is valid and aligned.
        unsafe { self.0.get().read_volatile() }
    }

    #[inline(always)]
    fn store(&self, value: u64) {
        // SAFETY: the pointer is valid and aligned.
        unsafe { self.0.get().write_volatile(value) }
    }

    #[inline(always)]
    fn add(&self, value: u64) {
        // SAFETY: BPF_XADD on eight bytes, to which the pointer is valid and aligned.
        unsafe {
            core::arch::asm!("lock *(u64 *)({0} + 0) += {1}", in(reg) self.0.get(), in(reg) value, options(nostack))
        }
    }
}

/// Elsewhere, where tests run the same code on threads: atomic operations.
#[cfg(not(target_arch = "bpf"))]
mod atomic {
    use core::sync::atomic::{AtomicU64, Ordering::SeqCst};

    use super::Shared;
    use crate::slot::Word;

    impl Shared<u64> {
        fn atomic(&self) -> &AtomicU64 {
            // SAFETY: the pointer is valid and aligned as long as the cell is there; what is used by several threads
            // is used through this function only.
            unsafe { AtomicU64::from_ptr(self.0.get()) }
        }
    }

    impl Word for Shared<u64> {
        fn load(&self) -> u64 {
            self.atomic().load(SeqCst)
        }

        fn store(&self, value: u64) {
            self.atomic().store(value, SeqCst);
        }

        fn add(&self, value: u64) {
            self.atomic().fetch_add(value, SeqCst);
        }
    }
}
