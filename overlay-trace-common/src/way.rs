//! A packet's way: the accounting that gives every nanosecond one owner, and the words that it is kept in.
//!
//! All of this is pure: the kernel side calls it with clocks and addresses of its own, the tests with
//! invented ones. The target's verifier is why it is written with raw indices and few branches.
//!
//! A way is a sequence of 32-bit words, each with a code in its top byte and a value below:
//!
//! | code | value | meaning |
//! |---|---|---|
//! | a stage, below [`CODE_PLACE`] | ns | a segment: so long was the packet in this stage, at the place it is at |
//! | [`CODE_PLACE`] | level (4 bits above), hop (16 bits) | the packet is now at this place; a way begins at place 0 |
//! | [`CODE_MORE`] | count | the next segment took so many times 2^24 ns more |
//! | [`CODE_CPU`] | number | the packet is now on this CPU; recordings of before this was told do not have it |
//!
//! A segment is of the CPU that the packet turned up on at its end: what lay in a queue is of the CPU that took it
//! out. What a sender did before it lost one CPU and got another is of the first one.

/// The most words that are written while a packet is under way. What comes later is added to one last
/// segment of stage `other`, and the record is marked
/// [`FLAG_WAY_FULL`](crate::record::FLAG_WAY_FULL).
pub const WAY_MAX: usize = 248;
/// Words of the longest way: the last segment of an overfull one takes two more. An even number.
pub const WAY_WORDS: usize = WAY_MAX + 2;

pub const CODE_PLACE: u8 = 0xf0;
pub const CODE_MORE: u8 = 0xf1;
pub const CODE_CPU: u8 = 0xf2;

/// Bits of a word below its code.
pub const VALUE_BITS: u32 = 24;
pub const VALUE_MASK: u32 = (1 << VALUE_BITS) - 1;
/// Bits of a place below its level.
pub const HOP_BITS: u32 = 16;
pub const HOP_MASK: u32 = (1 << HOP_BITS) - 1;
/// One level, in a place.
pub const LEVEL_ONE: u32 = 1 << HOP_BITS;
const LEVEL_MAX: u32 = 15;

/// The longest time of one segment, in ns: 78 hours. What is longer goes to the last segment as well.
pub const NS_MAX: u64 = (1 << (2 * VALUE_BITS)) - 1;

/// A word.
#[inline(always)]
pub const fn word(code: u8, value: u32) -> u32 {
    (code as u32) << VALUE_BITS | value
}

/// A place: how many encapsulation headers are around the packet, and the hop that it is at.
#[inline(always)]
pub const fn place(level: u32, hop: u32) -> u32 {
    level << HOP_BITS | hop & HOP_MASK
}

/// The place one level up, if there is one.
#[inline(always)]
pub const fn one_level_more(place: u32) -> u32 {
    if place >> HOP_BITS >= LEVEL_MAX { place } else { place + LEVEL_ONE }
}

/// The place so many levels up, or as many as there are.
#[inline(always)]
pub const fn levels_more(place: u32, levels: u64) -> u32 {
    let free = (LEVEL_MAX - (place >> HOP_BITS & LEVEL_MAX)) as u64;
    place + if levels > free { free } else { levels } as u32 * LEVEL_ONE
}

/// The place one level down, if there is one.
#[inline(always)]
pub const fn one_level_less(place: u32) -> u32 {
    if place >> HOP_BITS == 0 { place } else { place - LEVEL_ONE }
}

/// What the accounting knows of a packet under way. `last_ns - start = sum of all segments` holds after
/// each call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Account {
    /// Up to here the packet's time has an owner, in ns of the records' clock.
    pub last_ns: u64,
    /// Since when the packet has been waiting inside its stage; 0 if it has not.
    pub interrupted_ns: u64,
    /// Time that found no place in the way, in ns.
    pub overflow_ns: u64,
    /// Words of the way so far.
    pub length: u32,
    /// Those of them that are no segments.
    pub controls: u16,
    /// The CPU that the packet is on.
    pub cpu: u16,
    /// The place that the packet is at.
    pub place: u32,
    /// The stage that is open.
    pub stage: u8,
    /// The stage that an exit goes back to.
    pub before: u8,
    /// The stage that the packet is waiting in since `interrupted_ns`.
    pub interrupted_by: u8,
    pub _pad: u8,
}

/// Room for the words of a way.
pub type Words = [u32; WAY_WORDS];

impl Account {
    /// Begins a way at `now` on a CPU, at an unknown place.
    #[inline(always)]
    pub fn begin(&mut self, words: &mut Words, now: u64, stage: u8, cpu: u32) {
        // Not known to be zero: zeroes side by side become a call that writes them byte by byte.
        let none = opaque(0);
        self.last_ns = now;
        self.interrupted_ns = none;
        self.overflow_ns = none;
        self.place = none as u32;
        self.stage = stage;
        self.before = stage;
        put(words, 0, word(CODE_CPU, cpu));
        self.length = 1;
        self.controls = 1;
        self.cpu = cpu as u16;
    }

    /// Segments of the way so far.
    #[inline(always)]
    pub fn segments(&self) -> u32 {
        self.length - self.controls as u32
    }

    /// Gives the time up to `now` to the open stage, as [`close`](Account::close) does. Returns false where it takes
    /// more: the packet was interrupted, took long, the way is full, or the clock ran backwards.
    #[inline(always)]
    pub fn close_plainly(&mut self, words: &mut Words, now: u64) -> bool {
        let ns = now.wrapping_sub(self.last_ns);
        let length = opaque(self.length as u64);
        let is_plain = self.interrupted_ns == 0 && ns >> VALUE_BITS == 0 && length < WAY_MAX as u64;
        if is_plain {
            put(words, length, word(self.stage, ns as u32));
            self.length = length as u32 + 1;
            self.last_ns = now;
        }
        is_plain
    }

    /// Gives the time up to `now` to the open stage. If the packet was interrupted, the stage has it until
    /// then, the interruption until `resumed_ns`, and the stage the rest, on the CPU `cpu`.
    ///
    /// Time never runs backwards for a packet: the clocks of two CPUs can differ by some nanoseconds, and an
    /// interrupt may come between the reading of the clock and this.
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
        // Nothing of it was on the CPU before, or it is not known what.
        if last == first || first == from {
            self.run_on(words, cpu);
        }
        if last == first {
            return self.push(words, stage, now - from);
        }
        self.push(words, stage, first - from);
        self.run_on(words, cpu);
        let by = self.interrupted_by;
        self.push(words, by, last - first);
        // Nothing yet of the rest: the segment that comes next begins it.
        if now > last {
            self.push(words, stage, now - last);
        }
    }

    /// The stage that is open begins once more: a segment without time is written, and the one that stays open
    /// has the time of both. Where a stage's calls follow each other, as tables of iptables do, the clock
    /// need not be read between them. Returns false where it must: the packet was interrupted, or the way is
    /// full.
    #[inline(always)]
    pub fn again(&mut self, words: &mut Words) -> bool {
        let length = opaque(self.length as u64);
        if self.interrupted_ns != 0 || length >= WAY_MAX as u64 {
            return false;
        }
        put(words, length, word(self.stage, 0));
        self.length = length as u32 + 1;
        true
    }

    /// The packet waits from `now` on in the stage `by`, until [`close`](Account::close) is told otherwise.
    #[inline(always)]
    pub fn interrupt(&mut self, now: u64, by: u8) {
        if self.interrupted_ns == 0 {
            self.interrupted_ns = now;
            self.interrupted_by = by;
        }
    }

    /// Enters the stage and remembers the one before, for its exit.
    #[inline(always)]
    pub fn enter(&mut self, stage: u8) {
        self.before = self.stage;
        self.stage = stage;
    }

    /// The packet is at another place from now on.
    #[inline(always)]
    pub fn go(&mut self, words: &mut Words, place: u32) {
        if place == self.place {
            return;
        }
        self.place = place;
        let length = opaque(self.length as u64);
        if length < WAY_MAX as u64 {
            put(words, length, word(CODE_PLACE, place));
            self.length = length as u32 + 1;
            self.controls += 1;
        }
    }

    /// The packet is on this CPU from now on.
    #[inline(always)]
    pub fn run_on(&mut self, words: &mut Words, cpu: u32) {
        if cpu == self.cpu as u32 {
            return;
        }
        self.cpu = cpu as u16;
        let length = opaque(self.length as u64);
        if length < WAY_MAX as u64 {
            put(words, length, word(CODE_CPU, cpu));
            self.length = length as u32 + 1;
            self.controls += 1;
        }
    }

    /// Adds a segment of a stage that is over.
    #[inline(always)]
    pub fn push(&mut self, words: &mut Words, stage: u8, ns: u64) {
        if ns > NS_MAX {
            self.overflow_ns += ns - NS_MAX;
        }
        let ns = earlier(ns, NS_MAX);
        let more = (ns >> VALUE_BITS) as u32;
        let length = opaque(self.length as u64);
        // Either both words find a place or neither.
        if length >= WAY_MAX as u64 - 1 {
            self.overflow_ns += ns;
            return;
        }
        if more == 0 {
            put(words, length, word(stage, ns as u32));
            self.length = length as u32 + 1;
        } else {
            put(words, length, word(CODE_MORE, more));
            put(words, length + 1, word(stage, ns as u32 & VALUE_MASK));
            self.length = length as u32 + 2;
            self.controls += 1;
        }
    }

    /// Ends the way: what found no place in it becomes one last segment of stage `other`. Returns the
    /// number of words, and whether the way was overfull.
    #[inline(always)]
    pub fn finish(&mut self, words: &mut Words, other: u8) -> (u64, bool) {
        let length = opaque(self.length as u64);
        if self.overflow_ns == 0 || length > WAY_MAX as u64 {
            return (length, false);
        }
        let ns = earlier(self.overflow_ns, NS_MAX);
        put(words, length, word(CODE_MORE, (ns >> VALUE_BITS) as u32));
        put(words, length + 1, word(other, ns as u32 & VALUE_MASK));
        (length + 2, true)
    }
}

#[inline(always)]
fn put(words: &mut Words, length: u64, word: u32) {
    // SAFETY: every caller has compared `length` with WAY_MAX, and WAY_WORDS is larger by two. An index
    // with a check of its own would leave a panic in the kernel program.
    unsafe { (words as *mut Words as *mut u32).add(length as usize).write(word) };
}

#[inline(always)]
pub const fn later(one: u64, other: u64) -> u64 {
    if one > other { one } else { other }
}

#[inline(always)]
pub const fn earlier(one: u64, other: u64) -> u64 {
    if one < other { one } else { other }
}

/// A copy of a number that the compiler does not know to be the same: the register that the kernel's
/// verifier sees checked must be the one that is used.
#[inline(always)]
pub fn opaque(number: u64) -> u64 {
    #[cfg(target_arch = "bpf")]
    {
        let copy: u64;
        // SAFETY: a move between registers.
        unsafe {
            core::arch::asm!("{0} = {1}", out(reg) copy, in(reg) number, options(pure, nomem, nostack))
        };
        copy
    }
    #[cfg(not(target_arch = "bpf"))]
    number
}

/// One step of a way, decoded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Segment {
    /// How long it took.
    pub ns: u64,
    /// Which [`Hop`](crate::record::Hop) the packet was at; 0 where that is not known.
    pub hop: u16,
    /// How many encapsulation headers were around the packet.
    pub level: u8,
    /// Index into [`STAGES`](crate::stage_map::STAGES).
    pub stage: u8,
    /// The CPU that the packet was on, or waited for; `None` in recordings that do not tell.
    pub cpu: Option<u16>,
}

/// Decodes the words of a way.
pub fn segments(words: &[u32]) -> Segments<'_> {
    Segments { words: words.iter(), place: 0, cpu: None }
}

/// The segments of a way; see [`segments`].
#[derive(Clone, Debug)]
pub struct Segments<'a> {
    words: core::slice::Iter<'a, u32>,
    place: u32,
    cpu: Option<u16>,
}

impl Iterator for Segments<'_> {
    type Item = Segment;

    fn next(&mut self) -> Option<Segment> {
        let mut more = 0;
        loop {
            let word = *self.words.next()?;
            let value = word & VALUE_MASK;
            match (word >> VALUE_BITS) as u8 {
                CODE_PLACE => self.place = value,
                CODE_MORE => more = (value as u64) << VALUE_BITS,
                CODE_CPU => self.cpu = Some(value as u16),
                stage => {
                    let (hop, level) = (self.place as u16, (self.place >> HOP_BITS) as u8 & LEVEL_MAX as u8);
                    return Some(Segment { ns: more + value as u64, hop, level, stage, cpu: self.cpu });
                }
            }
        }
    }
}
