//! Which records are sent where only the slow packets are kept whole: what both sides have to agree on.

/// Parts of an octave: a class is at most a sixteenth wide.
const PARTS_BITS: u32 = 4;
const PARTS: u64 = 1 << PARTS_BITS;
/// Times from here on, in ns, are all in the last class: 68 seconds.
const LONGEST: u64 = 1 << 36;
/// How many classes of times there are.
pub const CLASSES: usize = 528;

/// What a CPU knows of the packets whose way ended on it.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Ended {
    /// How many took how long, by class; it begins anew after 2^32.
    pub times: [u32; CLASSES],
    /// Ordinary packets since the last one whose record was sent.
    pub left_out: u32,
    /// The next one of them to be sent.
    pub next: u32,
}

/// The class of a time in ns. (The target has no instruction for the number of leading zeros.)
#[inline(always)]
pub const fn class(ns: u64) -> usize {
    let mut rest = if ns < LONGEST { ns } else { LONGEST - 1 };
    let mut octave = 0;
    if rest >> 20 != 0 {
        rest >>= 16;
        octave += 16;
    }
    if rest >> 12 != 0 {
        rest >>= 8;
        octave += 8;
    }
    if rest >> 8 != 0 {
        rest >>= 4;
        octave += 4;
    }
    if rest >> 6 != 0 {
        rest >>= 2;
        octave += 2;
    }
    if rest >> 5 != 0 {
        rest >>= 1;
        octave += 1;
    }
    ((octave << PARTS_BITS) + rest) as usize
}

/// The shortest time of a class, in ns.
pub const fn shortest(class: usize) -> u64 {
    let class = class as u64;
    if class < 2 * PARTS {
        return class;
    }
    (class % PARTS + PARTS) << (class / PARTS - 1)
}

/// Which of the next ordinary packets is sent, where one in `one_in` is, by a random number: each of the next
/// `2 * one_in - 1` is as likely.
#[inline(always)]
pub const fn next(one_in: u32, random: u32) -> u32 {
    1 + ((random as u64 * (2 * one_in as u64 - 1)) >> 32) as u32
}

/// The most that can be left out between two: 2^32 divided by it still tells the packets of a minute apart.
pub const ONE_IN_MAX: u32 = 1 << 16;
