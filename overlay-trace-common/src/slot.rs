//! Who owns a slot of the packet table.
//!
//! Before 5.12 kernel programs have one atomic operation, addition, which does not return the sum. It suffices for a
//! lock that is tried once ([`take`]): who adds one and then reads one is alone; who reads more takes its one back. Of
//! several that try at the same moment one gets the lock, or none.
//!
//! A slot changes its owner in three ways, and no two of them can happen at the same time:
//!
//! - a free slot (tag 0) is claimed under its lock `holder`, which the owner keeps ([`Slot::claim`]);
//! - a slot whose packet has not been seen for long goes to another packet ([`Slot::reclaim`]);
//! - the owner releases it ([`Slot::release`]).
//!
//! The last two are done under the lock `transfer`, and look again at what they rely on once they have it. A claim
//! writes `last_ns` before it writes the tag, so that a slot never looks stale to who sees its new tag.

/// A number in memory that several CPUs share. Loads acquire, stores release, and additions do both, as they do by
/// themselves on x86-64; that each of that is needed, and suffices, `tests/slot_memory_order.rs` shows.
pub trait Word {
    /// Reads the number.
    fn load(&self) -> u64;
    /// Writes the number.
    fn store(&self, value: u64);
    /// Adds to the number, wrapping around, atomically.
    fn add(&self, value: u64);
}

/// Takes a lock, unless somebody has it or tries to take it.
#[inline(always)]
pub fn take<W: Word>(lock: &W) -> bool {
    lock.add(1);
    let is_alone = lock.load() == 1;
    if !is_alone {
        give(lock);
    }
    is_alone
}

/// Gives a lock back.
#[inline(always)]
pub fn give<W: Word>(lock: &W) {
    lock.add(u64::MAX);
}

/// How often [`Slot::release`] tries to take the lock. Who has it is a few instructions from giving it back.
const RELEASE_TRIES: u32 = 4;

/// The words of a slot that say whose it is.
pub struct Slot<'s, W> {
    /// Key of the packet that the slot is taken for, 0 when it is free.
    pub tag: &'s W,
    /// Lock: held as long as the slot is taken.
    pub holder: &'s W,
    /// Lock: held while a taken slot changes its owner.
    pub transfer: &'s W,
    /// When the packet was last seen, in ns.
    pub last_ns: &'s W,
}

impl<W: Word> Slot<'_, W> {
    /// Claims a free slot for the packet `key`; false if it is not free, or another CPU tries it.
    #[inline(always)]
    pub fn claim(&self, key: u64, now: u64) -> bool {
        let is_ours = self.tag.load() == 0 && take(self.holder);
        if is_ours {
            self.last_ns.store(now);
            self.tag.store(key);
        }
        is_ours
    }

    /// Takes the slot over for the packet `key`, if its packet has not been seen for `stale_ns`. Returns false if the
    /// packet was seen since, or another CPU takes or releases the slot.
    #[inline(always)]
    pub fn reclaim(&self, key: u64, now: u64, stale_ns: u64) -> bool {
        if !self.is_stale(now, stale_ns) || !take(self.transfer) {
            return false;
        }
        let is_ours = self.is_stale(now, stale_ns);
        if is_ours {
            self.last_ns.store(now);
            self.tag.store(key);
        }
        give(self.transfer);
        is_ours
    }

    /// Gives the packet `key` another one, `hidden`, by which nobody looks for it; false if the slot is not that packet's any
    /// more, or another CPU takes, releases or hides it. Of several CPUs that try it, one at most succeeds.
    #[inline(always)]
    pub fn hide(&self, key: u64, hidden: u64) -> bool {
        if self.tag.load() != key || !take(self.transfer) {
            return false;
        }
        let is_ours = self.tag.load() == key;
        if is_ours {
            self.tag.store(hidden);
        }
        give(self.transfer);
        is_ours
    }

    /// Releases the slot of the packet `key`; false if it is not that packet's any more.
    ///
    /// If the lock is taken all the time that it is tried, the slot stays as it is, and is reclaimed once it is stale.
    #[inline(always)]
    pub fn release(&self, key: u64) -> bool {
        let mut tries = 0;
        while !take(self.transfer) {
            tries += 1;
            if tries == RELEASE_TRIES {
                return false;
            }
        }
        let is_ours = self.tag.load() == key;
        if is_ours {
            self.tag.store(0);
            give(self.holder);
        }
        give(self.transfer);
        is_ours
    }

    /// The tag is read first: a claim writes it last.
    #[inline(always)]
    fn is_stale(&self, now: u64, stale_ns: u64) -> bool {
        self.tag.load() != 0 && now.wrapping_sub(self.last_ns.load()) as i64 > stale_ns as i64
    }
}
