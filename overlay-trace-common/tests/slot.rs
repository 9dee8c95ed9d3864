//! The slots of the packet table have one owner at a time: all interleavings of what several CPUs do to a slot are
//! enumerated, and then two threads do it on two CPUs.

use std::{
    cell::{Cell, RefCell},
    collections::HashSet,
    thread,
};

use overlay_trace_common::{
    shared::Shared,
    slot::{Slot, Word},
};

const STALE_NS: u64 = 100;
const NOW: u64 = 1000;
/// The packet that has the slot in the beginning.
const OLD: u64 = 64;

use Operation::*;

/// The words of a slot: tag, holder, transfer, last_ns.
type Memory = [u64; 4];

/// What a CPU does to the slot.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Operation {
    Claim(u64),
    Reclaim(u64),
    /// Releases the packet without having seen it before.
    Release(u64),
    /// As the end of a path does: the packet is seen, and then released.
    SeeAndRelease(u64),
    /// [`Slot::reclaim`] without its lock.
    ReclaimUnlocked(u64),
}

/// The slot's memory as one CPU sees it, when it has made so many accesses: the results of those are replayed, the next
/// access is made, and the rest of the operation comes to nothing.
struct Replay<'a> {
    memory: &'a Cell<Memory>,
    results: &'a RefCell<Vec<u64>>,
    position: Cell<usize>,
    is_stopped: Cell<bool>,
}

impl Replay<'_> {
    fn access(&self, access: impl FnOnce(&mut Memory) -> u64) -> u64 {
        let mut results = self.results.borrow_mut();
        let position = self.position.replace(self.position.get() + 1);
        if let Some(result) = results.get(position) {
            return *result;
        }
        if position > results.len() || self.is_stopped.get() {
            self.is_stopped.set(true);
            return 0;
        }
        let mut memory = self.memory.get();
        let result = access(&mut memory);
        self.memory.set(memory);
        results.push(result);
        self.is_stopped.set(true);
        result
    }
}

struct ReplayedWord<'a> {
    replay: &'a Replay<'a>,
    index: usize,
}

impl Word for ReplayedWord<'_> {
    fn load(&self) -> u64 {
        self.replay.access(|memory| memory[self.index])
    }

    fn store(&self, value: u64) {
        self.replay.access(|memory| {
            memory[self.index] = value;
            0
        });
    }

    fn add(&self, value: u64) {
        self.replay.access(|memory| {
            memory[self.index] = memory[self.index].wrapping_add(value);
            0
        });
    }
}

fn apply<W: Word>(slot: &Slot<W>, operation: Operation) -> bool {
    match operation {
        Operation::Claim(key) => slot.claim(key, NOW),
        Operation::Reclaim(key) => slot.reclaim(key, NOW, STALE_NS),
        Operation::Release(key) => slot.release(key),
        Operation::SeeAndRelease(key) => {
            slot.last_ns.store(NOW);
            slot.release(key)
        }
        Operation::ReclaimUnlocked(key) => {
            let is_stale = slot.tag.load() != 0 && NOW.wrapping_sub(slot.last_ns.load()) > STALE_NS;
            if is_stale {
                slot.last_ns.store(NOW);
                slot.tag.store(key);
            }
            is_stale
        }
    }
}

/// Makes one more access of the operation; gives the operation's result if it is over.
fn step(operation: Operation, memory: &Cell<Memory>, results: &mut Vec<u64>) -> Option<bool> {
    let cell = RefCell::new(std::mem::take(results));
    let replay = Replay { memory, results: &cell, position: Cell::new(0), is_stopped: Cell::new(false) };
    let word = |index| ReplayedWord { replay: &replay, index };
    let (tag, holder, transfer, last_ns) = (word(0), word(1), word(2), word(3));
    let slot = Slot { tag: &tag, holder: &holder, transfer: &transfer, last_ns: &last_ns };
    let result = apply(&slot, operation);
    let made = replay.position.get();
    *results = cell.into_inner();
    // It came to its end with the accesses that have been made, and none was left out.
    (made == results.len()).then_some(result)
}

type State = (Memory, Vec<(Vec<u64>, Option<bool>)>);

/// Calls `check` with the memory and the results at the end of every interleaving; gives the number of states that were met.
fn interleavings(memory: Memory, operations: &[Operation], check: &mut dyn FnMut(&Memory, &[bool])) -> usize {
    let mut seen: HashSet<State> = HashSet::new();
    let mut pending: Vec<State> = vec![(memory, vec![(Vec::new(), None); operations.len()])];
    while let Some(state) = pending.pop() {
        if !seen.insert(state.clone()) {
            continue;
        }
        let results: Option<Vec<bool>> = state.1.iter().map(|(_, result)| *result).collect();
        if let Some(results) = results {
            check(&state.0, &results);
        }
        for (cpu, operation) in operations.iter().enumerate() {
            if state.1[cpu].1.is_some() {
                continue;
            }
            let mut next = state.clone();
            let memory = Cell::new(next.0);
            next.1[cpu].1 = step(*operation, &memory, &mut next.1[cpu].0);
            next.0 = memory.get();
            pending.push(next);
        }
    }
    seen.len()
}

/// What must hold when all operations are over, whatever their order was.
fn check(operations: &[Operation], was_taken: bool, memory: &Memory, results: &[bool]) {
    let [tag, holder, transfer, _] = *memory;
    let of = |kind: fn(&Operation) -> Option<u64>| -> Vec<u64> {
        operations
            .iter()
            .zip(results)
            .filter(|(_, is_done)| **is_done)
            .filter_map(|(at, _)| kind(at))
            .collect()
    };
    let owners = of(|operation| match operation {
        Operation::Claim(key) | Operation::Reclaim(key) => Some(*key),
        _ => None,
    });
    let claims = of(|operation| matches!(operation, Operation::Claim(_)).then_some(0)).len();
    let reclaims = owners.len() - claims;
    let released = of(|operation| match operation {
        Operation::Release(key) | Operation::SeeAndRelease(key) => Some(*key),
        _ => None,
    });
    let what = format!("{operations:?} {results:?} {memory:?}");
    assert!(owners.len() <= 1, "two owners: {what}");
    assert!(released.len() <= 1, "released twice: {what}");
    assert!(claims <= usize::from(!was_taken) + released.len(), "claimed while it was taken: {what}");
    assert!(reclaims == 0 || released.is_empty(), "reclaimed and released: {what}");
    assert_eq!(transfer, 0, "the lock was not given back: {what}");
    let expected = match (owners.first(), was_taken && released.is_empty()) {
        (Some(key), _) => (*key, 1),
        (None, true) => (OLD, 1),
        (None, false) => (0, 0),
    };
    assert_eq!((tag, holder), expected, "{what}");
}

fn check_all(memory: Memory, operations: &[Operation]) -> usize {
    let was_taken = memory[0] != 0;
    interleavings(memory, operations, &mut |end, results| check(operations, was_taken, end, results))
}

const STALE: Memory = [OLD, 1, 0, NOW - STALE_NS - 1];
const FREE: Memory = [0, 0, 0, 1];

#[test]
fn of_cpus_that_reclaim_a_stale_slot_one_gets_it_at_most() {
    assert!(check_all(STALE, &[Reclaim(128), Reclaim(192)]) > 50);
    assert!(check_all(STALE, &[Reclaim(128), Reclaim(192), Reclaim(256)]) > 500);
}

#[test]
fn a_slot_is_either_reclaimed_or_released() {
    for release in [Release(OLD), SeeAndRelease(OLD)] {
        check_all(STALE, &[Reclaim(128), release]);
        check_all(STALE, &[Reclaim(128), Reclaim(192), release]);
    }
}

#[test]
fn a_slot_that_is_released_goes_to_one_cpu() {
    for release in [Release(OLD), SeeAndRelease(OLD)] {
        check_all(STALE, &[release, Claim(128), Claim(192)]);
        check_all(STALE, &[release, Claim(128), Reclaim(192)]);
        check_all(STALE, &[release, SeeAndRelease(OLD), Claim(128)]);
    }
}

#[test]
fn a_slot_that_was_just_claimed_is_not_stale() {
    check_all(FREE, &[Claim(128), Reclaim(192)]);
    check_all(FREE, &[Claim(128), Claim(192), Reclaim(256)]);
}

#[test]
fn alone_every_operation_succeeds() {
    for (memory, operation) in
        [(STALE, Reclaim(128)), (STALE, Release(OLD)), (STALE, SeeAndRelease(OLD)), (FREE, Claim(128))]
    {
        interleavings(memory, &[operation], &mut |_, results| assert_eq!(results, [true], "{operation:?}"));
    }
    let fresh = [OLD, 1, 0, NOW];
    for (memory, operation) in
        [(fresh, Reclaim(128)), (fresh, Claim(128)), (FREE, Reclaim(128)), (STALE, Release(128))]
    {
        interleavings(memory, &[operation], &mut |end, results| {
            assert_eq!((results, *end), (&[false][..], memory), "{operation:?}");
        });
    }
}

/// The enumeration finds what it looks for: without the lock two CPUs get the slot.
#[test]
fn without_the_lock_two_cpus_get_the_slot() {
    let mut worst = 0;
    interleavings(STALE, &[ReclaimUnlocked(128), ReclaimUnlocked(192)], &mut |_, results| {
        worst = worst.max(results.iter().filter(|is_done| **is_done).count());
    });
    assert_eq!(worst, 2);
}

/// Two threads on (at best) two CPUs, at the same time, on the words that kernel programs use.
#[test]
fn of_two_threads_that_reclaim_a_slot_one_gets_it_at_most() {
    const ROUNDS: u64 = 50_000;
    let words: [Shared<u64>; 4] = STALE.map(Shared::new);
    let slot = Slot { tag: &words[0], holder: &words[1], transfer: &words[2], last_ns: &words[3] };
    let (arrived, won) = (Shared::new(0u64), Shared::new(0u64));
    thread::scope(|scope| {
        for thread in 0..2u64 {
            let (slot, arrived, won) = (&slot, &arrived, &won);
            scope.spawn(move || {
                for round in 1..=ROUNDS {
                    // Both begin a round together.
                    arrived.add(1);
                    while arrived.load() < 2 * round {
                        std::hint::spin_loop();
                    }
                    // In each round the time is so late that the slot is stale again.
                    if slot.reclaim(64 * (round + 1) + thread, NOW + round * 2 * STALE_NS, STALE_NS) {
                        won.add(1);
                        assert_eq!(slot.tag.load(), 64 * (round + 1) + thread, "another thread has it too");
                    }
                }
            });
        }
    });
    assert!(won.load() <= ROUNDS, "{} times in {ROUNDS} rounds", won.load());
    // Both can be too early for each other; but not always.
    assert!(won.load() > ROUNDS / 10, "{} times in {ROUNDS} rounds", won.load());
    assert_eq!((words[1].load(), words[2].load()), (1, 0));
}
