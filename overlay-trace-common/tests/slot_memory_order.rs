//! The slots of the packet table under a weak memory order, as arm64 has it: loom tries the executions that C11 allows when
//! loads acquire, stores release and additions do both. What an owner writes to its packet's state is then never seen, or
//! written, by another one at the same time.

use loom::{
    cell::UnsafeCell,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::*},
    },
    thread,
};
use overlay_trace_common::slot::{Slot, Word};

const NOW: u64 = 1000;
const STALE_NS: u64 = 100;

struct Ordered(AtomicU64);

impl Word for Ordered {
    fn load(&self) -> u64 {
        self.0.load(Acquire)
    }

    fn store(&self, value: u64) {
        self.0.store(value, Release);
    }

    fn add(&self, value: u64) {
        self.0.fetch_add(value, AcqRel);
    }
}

/// The words of a slot, and the state of its packet, which only the owner touches.
struct Shared {
    tag: Ordered,
    holder: Ordered,
    transfer: Ordered,
    last_ns: Ordered,
    state: UnsafeCell<u64>,
}

impl Shared {
    /// A slot that a packet has since a long time, or that is free.
    fn new(tag: u64) -> Arc<Shared> {
        let word = |value| Ordered(AtomicU64::new(value));
        Arc::new(Shared {
            tag: word(tag),
            holder: word((tag != 0) as u64),
            transfer: word(0),
            last_ns: word(0),
            state: UnsafeCell::new(0),
        })
    }

    fn slot(&self) -> Slot<'_, Ordered> {
        let Shared { tag, holder, transfer, last_ns, .. } = self;
        Slot { tag, holder, transfer, last_ns }
    }

    /// The owner of the slot works on its packet's state: loom fails where another one does at the same time, or where what
    /// it did before is not seen.
    fn work(&self, key: u64) {
        // SAFETY: the slot's owner alone gets here; that this is so is what loom checks.
        self.state.with_mut(|state| unsafe { *state = key });
    }
}

/// Claims the slot for a packet; if it gets it, works on it and releases it.
fn pass(shared: &Shared, key: u64) -> bool {
    let is_ours = shared.slot().claim(key, NOW);
    if is_ours {
        shared.work(key);
        shared.slot().release(key);
    }
    is_ours
}

#[test]
fn a_free_slot_has_one_owner_at_a_time() {
    loom::model(|| {
        let shared = Shared::new(0);
        let other = {
            let shared = shared.clone();
            thread::spawn(move || pass(&shared, 64))
        };
        pass(&shared, 128);
        other.join().unwrap();
        // What the packets before have left is seen. A slot that could not be released while another CPU was about to give
        // back its lock keeps its packet until that is stale.
        assert!(pass(&shared, 192) || shared.tag.load() != 0);
    });
}

#[test]
fn of_two_that_take_over_a_stale_slot_one_at_most_gets_it() {
    loom::model(|| {
        let shared = Shared::new(64);
        let take = |shared: &Shared, key| {
            let is_ours = shared.slot().reclaim(key, NOW, STALE_NS);
            if is_ours {
                shared.work(key);
            }
            is_ours
        };
        let other = {
            let shared = shared.clone();
            thread::spawn(move || take(&shared, 128))
        };
        let here = take(&shared, 192);
        assert!(!(here && other.join().unwrap()));
    });
}

#[test]
fn a_slot_that_was_just_claimed_is_never_taken_over() {
    loom::model(|| {
        let shared = Shared::new(0);
        let other = {
            let shared = shared.clone();
            thread::spawn(move || {
                let is_ours = shared.slot().reclaim(128, NOW, STALE_NS);
                if is_ours {
                    shared.work(128);
                }
                is_ours
            })
        };
        assert!(shared.slot().claim(64, NOW));
        shared.work(64);
        assert!(!other.join().unwrap());
    });
}

#[test]
fn of_those_that_hide_a_packet_to_end_it_one_at_most_does() {
    loom::model(|| {
        let shared = Shared::new(64);
        let end = |shared: &Shared, hidden| {
            let is_ours = shared.slot().hide(64, hidden);
            if is_ours {
                shared.work(hidden);
                shared.slot().release(hidden);
            }
            is_ours
        };
        let other = {
            let shared = shared.clone();
            thread::spawn(move || end(&shared, 65))
        };
        let here = end(&shared, 66);
        assert!(!(here && other.join().unwrap()));
    });
}
