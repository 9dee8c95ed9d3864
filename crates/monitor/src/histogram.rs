//! A log-linear distribution of bounded size: the buckets are those of Prometheus' native histograms.

use std::sync::LazyLock;

/// Each power of two has so many buckets: each is 9 % wide.
pub const BOUNDS_PER_OCTAVE: i32 = 1 << SCHEMA;
/// Prometheus' number for this resolution.
pub const SCHEMA: i32 = 3;
/// The first bucket ends at 2^-30 s (0.93 ns), the last one at 2^10 s (17 minutes); what takes longer is in the last one.
const FIRST: i32 = -30 * BOUNDS_PER_OCTAVE;
const LAST: i32 = 10 * BOUNDS_PER_OCTAVE;
/// Classic buckets end at each power of two from 2^-20 s (0.95 µs) to 2^3 s.
const CLASSIC: std::ops::RangeInclusive<i32> = -20..=3;

const NS_PER_S: f64 = 1e9;

/// The upper ends of the buckets, in ns.
static BOUNDS_NS: LazyLock<Vec<f64>> =
    LazyLock::new(|| (FIRST..=LAST).map(|index| bound_s(index) * NS_PER_S).collect());

/// The upper end of a bucket in s.
fn bound_s(index: i32) -> f64 {
    (f64::from(index) / f64::from(BOUNDS_PER_OCTAVE)).exp2()
}

/// A distribution of times in ns. Count and sum are exact.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Histogram {
    /// Times of 0.
    zeros: u64,
    /// Index of the first bucket of `buckets`.
    first: i32,
    buckets: Vec<u64>,
    count: u64,
    sum_ns: u128,
}

impl Histogram {
    /// Adds a time so many times. The sum is left to the caller, who knows it better: see [`add_sum`](Histogram::add_sum).
    pub fn add(&mut self, ns: u64, times: u64) {
        self.count += times;
        if ns == 0 {
            self.zeros += times;
            return;
        }
        let at = BOUNDS_NS.partition_point(|bound| *bound < ns as f64);
        let index = (FIRST + at as i32).min(LAST);
        *self.bucket(index) += times;
    }

    /// Adds to the sum.
    pub fn add_sum(&mut self, ns: u128) {
        self.sum_ns += ns;
    }

    /// Adds all times of another one.
    pub fn merge(&mut self, other: &Histogram) {
        self.zeros += other.zeros;
        self.count += other.count;
        self.sum_ns += other.sum_ns;
        for (at, times) in other.buckets.iter().enumerate().filter(|(_, times)| **times > 0) {
            *self.bucket(other.first + at as i32) += times;
        }
    }

    fn bucket(&mut self, index: i32) -> &mut u64 {
        if self.buckets.is_empty() {
            self.first = index;
        }
        if index < self.first {
            let missing = (self.first - index) as usize;
            self.buckets.splice(0..0, std::iter::repeat_n(0, missing));
            self.first = index;
        }
        let at = (index - self.first) as usize;
        if at >= self.buckets.len() {
            self.buckets.resize(at + 1, 0);
        }
        &mut self.buckets[at]
    }

    pub fn count(&self) -> u64 {
        self.count
    }

    /// In ns; exact.
    pub fn sum_ns(&self) -> u128 {
        self.sum_ns
    }

    /// In ns; 0 without values.
    pub fn mean_ns(&self) -> f64 {
        if self.count == 0 { 0.0 } else { self.sum_ns as f64 / self.count as f64 }
    }

    /// The time in ns that the part `quantile` (0 to 1) does not exceed, to within its bucket; 0 without values.
    pub fn quantile_ns(&self, quantile: f64) -> f64 {
        let rank = (quantile * self.count as f64).max(f64::MIN_POSITIVE);
        let mut seen = self.zeros as f64;
        if seen >= rank || self.count == 0 {
            return 0.0;
        }
        for (at, times) in self.buckets.iter().enumerate().filter(|(_, times)| **times > 0) {
            let before = seen;
            seen += *times as f64;
            if seen >= rank {
                let index = f64::from(self.first + at as i32);
                let within = (rank - before) / *times as f64;
                return ((index - 1.0 + within) / f64::from(BOUNDS_PER_OCTAVE)).exp2() * NS_PER_S;
            }
        }
        0.0
    }

    /// Times of 0.
    pub(crate) fn zeros(&self) -> u64 {
        self.zeros
    }

    /// The counts of classic buckets by their upper ends in s, each without those before it.
    pub(crate) fn classic(&self) -> Vec<(f64, u64)> {
        let mut counted = self.zeros;
        let mut seen = 0;
        let mut classic: Vec<(f64, u64)> = Vec::new();
        for power in CLASSIC {
            let end = power * BOUNDS_PER_OCTAVE;
            let up_to = (end - self.first + 1).clamp(0, self.buckets.len() as i32) as usize;
            counted += self.buckets[seen.min(up_to)..up_to].iter().sum::<u64>();
            seen = seen.max(up_to);
            classic.push((bound_s(end), std::mem::take(&mut counted)));
        }
        classic.push((f64::INFINITY, self.buckets[seen..].iter().sum()));
        classic
    }

    /// The native buckets: spans (how many buckets are left out before, how many follow), and each count's difference from
    /// the one before.
    pub(crate) fn native(&self) -> (Vec<(i32, u32)>, Vec<i64>) {
        let (mut spans, mut deltas): (Vec<(i32, u32)>, Vec<i64>) = Default::default();
        let (mut next, mut last) = (0, 0);
        for (at, times) in self.buckets.iter().enumerate().filter(|(_, times)| **times > 0) {
            let index = self.first + at as i32;
            match spans.last_mut() {
                Some((_, length)) if next == index => *length += 1,
                _ => spans.push((index - next, 1)),
            }
            next = index + 1;
            deltas.push(*times as i64 - last);
            last = *times as i64;
        }
        (spans, deltas)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: &[(u64, u64)]) -> Histogram {
        let mut histogram = Histogram::default();
        for (ns, times) in values {
            histogram.add(*ns, *times);
            histogram.add_sum(u128::from(*ns) * u128::from(*times));
        }
        histogram
    }

    #[test]
    fn every_time_is_in_the_bucket_that_ends_at_or_above_it() {
        for ns in [1, 2, 999, 1000, 1024, 976_562, 1_000_000_000, 3_000_000_000] {
            let histogram = of(&[(ns, 1)]);
            let upper = histogram.quantile_ns(1.0);
            assert!(upper >= ns as f64 * 0.999_999 && upper <= ns as f64 * 1.0906, "{ns}: {upper}");
        }
        // Exactly a bound: 2^-9 s.
        assert_eq!(of(&[(1_953_125, 1)]).native().0, [(-9 * BOUNDS_PER_OCTAVE, 1)]);
        assert_eq!(of(&[(u64::MAX, 1)]).native().0, [(LAST, 1)]);
    }

    #[test]
    fn classic_and_native_buckets_count_the_same() {
        let values = [(0, 2), (500, 3), (1_000_000, 5), (1_953_125, 7), (1_953_126, 11), (9_000_000_000, 13)];
        let histogram = of(&values);
        let classic = histogram.classic();
        assert_eq!(classic.iter().map(|(_, count)| count).sum::<u64>(), histogram.count());
        let below =
            |end: f64| classic.iter().filter(|(le, _)| *le <= end).map(|(_, count)| count).sum::<u64>();
        assert_eq!((below(2f64.powi(-20)), below(2f64.powi(-9)), below(8.0)), (5, 17, 28));
        let (spans, deltas) = histogram.native();
        assert_eq!(spans.iter().map(|(_, length)| *length as usize).sum::<usize>(), deltas.len());
        let mut count = 0;
        let counts: i64 = deltas
            .iter()
            .map(|delta| {
                count += delta;
                count
            })
            .sum();
        assert_eq!(counts as u64 + histogram.zeros(), histogram.count());
        // Gaps of one bucket and more.
        let gaps = of(&[(1_953_125, 1), (3_906_250, 4), (3_906_251, 2)]);
        assert_eq!(gaps.native(), (vec![(-72, 1), (7, 2)], vec![1, 3, -2]));
    }

    #[test]
    fn merged_histograms_are_those_of_all_times() {
        let (one, other) = (of(&[(10, 1), (1000, 4)]), of(&[(3, 2), (70_000, 1), (0, 1)]));
        let mut merged = one.clone();
        merged.merge(&other);
        assert_eq!(merged, of(&[(10, 1), (1000, 4), (3, 2), (70_000, 1), (0, 1)]));
        let mut back = other.clone();
        back.merge(&one);
        assert_eq!(back, merged);
    }
}
