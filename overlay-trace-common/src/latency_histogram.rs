//! Tail sampling: the histogram of latencies that the kernel side keeps and user space reads, and the choice of
//! samples.

/// Log-linear buckets: 16 per octave, so a bucket is at most a sixteenth of its value wide.
const PARTS_BITS: u32 = 4;
const PARTS: u64 = 1 << PARTS_BITS;
/// Latencies from here on, in ns, are all in the last bucket: 68 seconds.
const LONGEST: u64 = 1 << 36;
/// Number of buckets.
pub const BUCKETS: usize = 528;

/// The finished packets of a CPU: an entry of the per-CPU map `LATENCY_HISTOGRAM`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct LatencyHistogram {
    /// Packets by bucket of their end-to-end latency; the counts wrap around.
    pub counts: [u32; BUCKETS],
    /// Ordinary packets since the last one that was sampled.
    pub skipped: u32,
    /// The value of `skipped` at which the next one is sampled.
    pub next: u32,
}

/// The bucket of a latency in ns. (BPF has no instruction that counts leading zeros.)
#[inline(always)]
pub const fn bucket(ns: u64) -> usize {
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

/// The lowest latency of a bucket, in ns.
pub const fn lowest(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    if bucket < 2 * PARTS {
        return bucket;
    }
    (bucket % PARTS + PARTS) << (bucket / PARTS - 1)
}

/// Which of the next ordinary packets is sampled, if 1 in `one_in` is: uniformly one of the next `2 * one_in - 1`.
#[inline(always)]
pub const fn next_sample(one_in: u32, random: u32) -> u32 {
    1 + ((random as u64 * (2 * one_in as u64 - 1)) >> 32) as u32
}

/// The largest `one_in`: 2^32 divided by it still distinguishes the packets of a minute.
pub const ONE_IN_MAX: u32 = 1 << 16;
