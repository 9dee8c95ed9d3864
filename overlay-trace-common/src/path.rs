//! A packet's path: the accounting that gives every nanosecond one owner, and its encoding in 32-bit words.
//!
//! The code is pure: the kernel side calls it with real clocks and addresses, tests with synthetic ones. It uses raw
//! indices and few branches because the kernel's verifier has to accept it.
//!
//! A path is a sequence of 32-bit words, each with a code in its top byte and a value below:
//!
//! | code | value | meaning |
//! |---|---|---|
//! | a stage, below [`CODE_POSITION`] | ns | a span: the packet was in this stage for so long, at its current position |
//! | [`CODE_POSITION`] | level (4 bits above), hop (16 bits) | the packet is now at this position; a path starts at position 0 |
//! | [`CODE_MORE`] | count | the next span, or completion, is longer by this count times 2^24 ns |
//! | [`CODE_CPU`] | number | the packet is now on this CPU; absent in recordings of early versions |
//! | [`CODE_COMPLETION`] | ns | the last word: how long after its path's end the driver freed the packet; no part of the sum |
//!
//! A span belongs to the CPU that saw the packet at the span's end: time in a queue belongs to the CPU that dequeues.
//! When a sender's task migrates in the middle of a stage, the part before belongs to the first CPU.

mod span;

pub use span::{Span, Spans, completion, spans};

/// The most words that are written while a packet is in flight. What comes later is added to one last span of stage
/// `other`, and the record is marked [`RecordFlags::PATH_FULL`](crate::flags::RecordFlags::PATH_FULL).
pub const PATH_WORDS_MAX: usize = 248;
/// Words of the longest path: the last span of a full one takes two more. An even number.
pub const PATH_WORDS: usize = PATH_WORDS_MAX + 2;

pub const CODE_POSITION: u8 = 0xf0;
pub const CODE_MORE: u8 = 0xf1;
pub const CODE_CPU: u8 = 0xf2;
pub const CODE_COMPLETION: u8 = 0xf4;

/// Bits of a word below its code.
pub const VALUE_BITS: u32 = 24;
pub const VALUE_MASK: u32 = (1 << VALUE_BITS) - 1;
/// Bits of a position below its level.
pub const HOP_BITS: u32 = 16;
pub const HOP_MASK: u32 = (1 << HOP_BITS) - 1;
/// One level, in a position.
pub const LEVEL_ONE: u32 = 1 << HOP_BITS;
const LEVEL_MAX: u32 = 15;

/// The longest time of one span, in ns: 78 hours. What is longer goes to the last span as well.
pub const NS_MAX: u64 = (1 << (2 * VALUE_BITS)) - 1;

/// A word.
#[inline(always)]
pub const fn word(code: u8, value: u32) -> u32 {
    (code as u32) << VALUE_BITS | value
}

/// A position: the number of encapsulation headers around the packet, and its hop.
#[inline(always)]
pub const fn position(level: u32, hop: u32) -> u32 {
    level << HOP_BITS | hop & HOP_MASK
}

/// The position one encapsulation level up; the same at the highest level.
#[inline(always)]
pub const fn one_level_up(position: u32) -> u32 {
    if position >> HOP_BITS >= LEVEL_MAX { position } else { position + LEVEL_ONE }
}

/// The position so many levels up, at most at the highest level.
#[inline(always)]
pub const fn levels_up(position: u32, levels: u64) -> u32 {
    let free = (LEVEL_MAX - (position >> HOP_BITS & LEVEL_MAX)) as u64;
    position + if levels > free { free } else { levels } as u32 * LEVEL_ONE
}

/// The position one encapsulation level down; the same at level 0.
#[inline(always)]
pub const fn one_level_down(position: u32) -> u32 {
    if position >> HOP_BITS == 0 { position } else { position - LEVEL_ONE }
}

/// A position, or the word of one, so many levels higher.
#[inline(always)]
const fn shifted(position: u32, change: u32) -> u32 {
    let level = (position >> HOP_BITS).wrapping_add(change) & LEVEL_MAX;
    position & !(LEVEL_MAX << HOP_BITS) | level << HOP_BITS
}

/// The accounting of a packet in flight. After each call `last_ns - start` is the sum of all spans.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Account {
    /// Up to here the packet's time has an owner, in ns of the records' clock.
    pub last_ns: u64,
    /// Since when the packet has been waiting inside its stage; 0 if it has not.
    pub interrupted_ns: u64,
    /// Time that did not fit in the path, in ns.
    pub overflow_ns: u64,
    /// Words written so far.
    pub length: u32,
    /// Those of them that are not spans.
    pub controls: u16,
    /// The CPU that the packet is on.
    pub cpu: u16,
    /// The packet's position.
    pub position: u32,
    /// The open stage.
    pub stage: u8,
    /// The stage that an exit returns to.
    pub before: u8,
    /// The stage that the packet is waiting in since `interrupted_ns`.
    pub interrupted_by: u8,
    pub _pad: u8,
}

/// Room for the words of a path.
pub type Words = [u32; PATH_WORDS];

impl Account {
    /// Starts a path at `now` on a CPU, at an unknown position.
    #[inline(always)]
    pub fn start(&mut self, words: &mut Words, now: u64, stage: u8, cpu: u32) {
        // Opaque: the compiler turns adjacent zeros into a call of memset, which writes byte by byte.
        let none = opaque(0);
        self.last_ns = now;
        self.interrupted_ns = none;
        self.overflow_ns = none;
        self.position = none as u32;
        self.stage = stage;
        self.before = stage;
        // SAFETY: there is a first word.
        unsafe { put(words, 0, word(CODE_CPU, cpu)) };
        self.length = 1;
        self.controls = 1;
        self.cpu = cpu as u16;
    }

    /// Spans of the path so far.
    #[inline(always)]
    pub fn spans(&self) -> u32 {
        self.length - self.controls as u32
    }

    /// The common case of [`close`](Account::close). Returns false if that is needed: the packet was interrupted, the
    /// span is long, the path is full, or the clock ran backwards.
    #[inline(always)]
    pub fn close_fast(&mut self, words: &mut Words, now: u64) -> bool {
        let ns = now.wrapping_sub(self.last_ns);
        let length = opaque(self.length as u64);
        let is_fast = self.interrupted_ns == 0 && ns >> VALUE_BITS == 0 && length < PATH_WORDS_MAX as u64;
        if is_fast {
            // SAFETY: the length was just compared with PATH_WORDS_MAX, which is less than PATH_WORDS.
            unsafe { put(words, length, word(self.stage, ns as u32)) };
            self.length = length as u32 + 1;
            self.last_ns = now;
        }
        is_fast
    }

    /// Assigns the time up to `now` to the open stage. If the packet was interrupted, the time is split: the stage
    /// until the interruption, the interruption until `resumed_ns`, and the stage again until `now`, on CPU `cpu`.
    ///
    /// Time never runs backwards for a packet: the clocks of two CPUs differ by some nanoseconds, and an interrupt may
    /// come between the reading of the clock and this call.
    #[cfg_attr(target_arch = "bpf", inline(never))]
    pub fn close(&mut self, words: &mut Words, now: u64, resumed_ns: u64, cpu: u32) {
        let from = self.last_ns;
        let now = later(now, from);
        let first = self.interrupted_ns;
        self.last_ns = now;
        self.interrupted_ns = 0;
        let stage = self.stage;
        if first == 0 {
            return self.push(words, stage, now - from);
        }
        let first = earlier(later(first, from), now);
        let last = earlier(later(resumed_ns, first), now);
        // No part of it ran on the former CPU, or that part is unknown.
        if last == first || first == from {
            self.move_to_cpu(words, cpu);
        }
        if last == first {
            return self.push(words, stage, now - from);
        }
        self.push(words, stage, first - from);
        self.move_to_cpu(words, cpu);
        let by = self.interrupted_by;
        self.push(words, by, last - first);
        // An empty rest is not written: the next span starts it.
        if now > last {
            self.push(words, stage, now - last);
        }
    }

    /// Counts another call of the open stage: a span of 0 ns is written, and the span that stays open has the time of
    /// both calls. So the clock need not be read between consecutive calls, as of the tables of iptables. Returns false
    /// where it must be read: the packet was interrupted, or the path is full.
    #[inline(always)]
    pub fn repeat(&mut self, words: &mut Words) -> bool {
        let length = opaque(self.length as u64);
        if self.interrupted_ns != 0 || length >= PATH_WORDS_MAX as u64 {
            return false;
        }
        // SAFETY: the length is less than PATH_WORDS_MAX.
        unsafe { put(words, length, word(self.stage, 0)) };
        self.length = length as u32 + 1;
        true
    }

    /// The packet waits from `now` on in the stage `by`, until [`close`](Account::close) gets a `resumed_ns`.
    #[inline(always)]
    pub fn interrupt(&mut self, now: u64, by: u8) {
        if self.interrupted_ns == 0 {
            self.interrupted_ns = now;
            self.interrupted_by = by;
        }
    }

    /// Enters a stage and remembers the current one for the exit.
    #[inline(always)]
    pub fn enter(&mut self, stage: u8) {
        self.before = self.stage;
        self.stage = stage;
    }

    /// Moves the packet to a position.
    #[inline(always)]
    pub fn move_to(&mut self, words: &mut Words, position: u32) {
        if position == self.position {
            return;
        }
        self.position = position;
        let length = opaque(self.length as u64);
        if length < PATH_WORDS_MAX as u64 {
            // SAFETY: the length is less than PATH_WORDS_MAX.
            unsafe { put(words, length, word(CODE_POSITION, position)) };
            self.length = length as u32 + 1;
            self.controls += 1;
        }
    }

    /// All positions so far are by `change` levels higher (or lower, as a two's complement) than they were written.
    #[inline(always)]
    pub fn shift_levels(&mut self, words: &mut Words, change: u32) {
        let mut index = 0;
        while index < PATH_WORDS_MAX && index < self.length as usize {
            // SAFETY: the index is less than PATH_WORDS_MAX.
            unsafe {
                let place = (words as *mut Words as *mut u32).add(index);
                let found = place.read();
                if found >> VALUE_BITS == CODE_POSITION as u32 {
                    place.write(shifted(found, change));
                }
            }
            index += 1;
        }
        self.position = shifted(self.position, change);
    }

    /// Moves the packet to a CPU.
    #[inline(always)]
    pub fn move_to_cpu(&mut self, words: &mut Words, cpu: u32) {
        if cpu == self.cpu as u32 {
            return;
        }
        self.cpu = cpu as u16;
        let length = opaque(self.length as u64);
        if length < PATH_WORDS_MAX as u64 {
            // SAFETY: the length is less than PATH_WORDS_MAX.
            unsafe { put(words, length, word(CODE_CPU, cpu)) };
            self.length = length as u32 + 1;
            self.controls += 1;
        }
    }

    /// Appends the span of a finished stage.
    #[inline(always)]
    pub fn push(&mut self, words: &mut Words, stage: u8, ns: u64) {
        if ns > NS_MAX {
            self.overflow_ns += ns - NS_MAX;
        }
        let ns = earlier(ns, NS_MAX);
        let more = (ns >> VALUE_BITS) as u32;
        let length = opaque(self.length as u64);
        // Write both words or neither.
        if length >= PATH_WORDS_MAX as u64 - 1 {
            self.overflow_ns += ns;
            return;
        }
        if more == 0 {
            // SAFETY: the length is less than PATH_WORDS_MAX - 1.
            unsafe { put(words, length, word(stage, ns as u32)) };
            self.length = length as u32 + 1;
        } else {
            // SAFETY: the length is less than PATH_WORDS_MAX - 1, and so is the next index less than PATH_WORDS.
            unsafe {
                put(words, length, word(CODE_MORE, more));
                put(words, length + 1, word(stage, ns as u32 & VALUE_MASK));
            }
            self.length = length as u32 + 2;
            self.controls += 1;
        }
    }

    /// Notes that the driver freed the packet so many ns after the path's end. Without effect where the path is full.
    #[inline(always)]
    pub fn complete(&mut self, words: &mut Words, ns: u64) {
        let ns = earlier(ns, NS_MAX);
        let length = opaque(self.length as u64);
        if length >= PATH_WORDS_MAX as u64 - 1 {
            return;
        }
        // SAFETY: the length is less than PATH_WORDS_MAX - 1, and so is the next index less than PATH_WORDS.
        unsafe {
            put(words, length, word(CODE_MORE, (ns >> VALUE_BITS) as u32));
            put(words, length + 1, word(CODE_COMPLETION, ns as u32 & VALUE_MASK));
        }
        self.length = length as u32 + 2;
        self.controls += 2;
    }

    /// Ends the path: time that did not fit becomes one last span of stage `other`. Returns the number of words, and
    /// whether the path was full.
    #[inline(always)]
    pub fn finish(&mut self, words: &mut Words, other: u8) -> (u64, bool) {
        let length = opaque(self.length as u64);
        if self.overflow_ns == 0 || length > PATH_WORDS_MAX as u64 {
            return (length, false);
        }
        let ns = earlier(self.overflow_ns, NS_MAX);
        // SAFETY: the length is at most PATH_WORDS_MAX, and PATH_WORDS is larger by two.
        unsafe {
            put(words, length, word(CODE_MORE, (ns >> VALUE_BITS) as u32));
            put(words, length + 1, word(other, ns as u32 & VALUE_MASK));
        }
        (length + 2, true)
    }
}

/// Writes a word without a bounds check, which would leave a panic in the kernel program.
///
/// # Safety
///
/// `at` is less than [`PATH_WORDS`].
#[inline(always)]
unsafe fn put(words: &mut Words, at: u64, word: u32) {
    // SAFETY: the index is within the array, says the caller.
    unsafe { (words as *mut Words as *mut u32).add(at as usize).write(word) };
}

#[inline(always)]
pub const fn later(one: u64, other: u64) -> u64 {
    if one > other { one } else { other }
}

#[inline(always)]
pub const fn earlier(one: u64, other: u64) -> u64 {
    if one < other { one } else { other }
}

/// A copy of a number that the compiler treats as unknown. The verifier tracks registers: the register that is checked
/// must be the one that is used.
#[inline(always)]
pub fn opaque(number: u64) -> u64 {
    #[cfg(target_arch = "bpf")]
    {
        let copy: u64;
        // SAFETY: a move between two registers.
        unsafe {
            core::arch::asm!("{0} = {1}", out(reg) copy, in(reg) number, options(pure, nomem, nostack))
        };
        copy
    }
    #[cfg(not(target_arch = "bpf"))]
    number
}
