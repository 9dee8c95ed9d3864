//! A distribution: count, sum and maximum exact, percentiles to three significant digits.

/// Values below this have a bucket of their own; above it each power of two has [`PER_OCTAVE`].
const EXACT: u64 = 2 * PER_OCTAVE;
const PER_OCTAVE: u64 = 1 << OCTAVE_BITS;
const OCTAVE_BITS: u32 = 10;
/// Buckets are allocated this many at a time.
const PAGE: usize = 64;

/// So many values must lie above a percentile that is shown to people.
pub(crate) const SUPPORT: f64 = 10.0;

/// A distribution of nanoseconds.
#[derive(Clone, Debug, Default)]
pub struct Dist {
    histogram: Histogram,
    count: u64,
    sum: u128,
    max: u64,
}

impl Dist {
    /// Adds one value.
    #[inline]
    pub fn add(&mut self, ns: u64) {
        self.histogram.add(bucket(ns));
        self.count += 1;
        self.sum += u128::from(ns);
        self.max = self.max.max(ns);
    }

    /// Adds one value so many times.
    #[inline]
    pub fn add_times(&mut self, ns: u64, times: u64) {
        if times == 1 {
            return self.add(ns);
        }
        self.histogram.add_times(bucket(ns), times);
        self.count += times;
        self.sum += u128::from(ns) * u128::from(times);
        self.max = self.max.max(ns);
    }

    /// Adds one value so many times that may be larger than a word: exact in the sum, as the largest word
    /// elsewhere.
    pub(super) fn add_wide(&mut self, ns: u128, times: u64) {
        let word = u64::try_from(ns).unwrap_or(u64::MAX);
        self.add_times(word, times);
        self.sum += (ns - u128::from(word)) * u128::from(times);
    }

    /// Adds all values of another distribution.
    pub fn merge(&mut self, other: &Dist) {
        for (bucket, times) in other.histogram.buckets() {
            self.histogram.add_times(bucket, times);
        }
        self.count += other.count;
        self.sum += other.sum;
        self.max = self.max.max(other.max);
    }

    /// Adds all values of another distribution, each less by `less` but none below 0. The sum is not
    /// exact: see [`set_sum`](Dist::set_sum).
    pub(super) fn merge_lessened(&mut self, other: &Dist, less: u64) {
        for (from, times) in other.histogram.buckets() {
            self.histogram.add_times(bucket(highest(from).saturating_sub(less)), times);
        }
        self.count += other.count;
        self.max = self.max.max(other.max.saturating_sub(less));
    }

    /// Sets the exact sum of values that were merged inexactly.
    pub(super) fn set_sum(&mut self, sum: u128) {
        self.sum = sum;
    }

    pub fn count(&self) -> u64 {
        self.count
    }

    /// Exact.
    pub fn sum(&self) -> u128 {
        self.sum
    }

    /// Exact; 0 without values.
    pub fn max(&self) -> u64 {
        self.max
    }

    /// 0 without values.
    pub fn mean(&self) -> f64 {
        if self.count == 0 { 0.0 } else { self.sum as f64 / self.count as f64 }
    }

    /// The value that the part `quantile` (0 to 1) of the values does not exceed, to 3 significant
    /// digits.
    pub fn quantile(&self, quantile: f64) -> u64 {
        // Which of the values in order it is; the error that floating point may have added is subtracted.
        let rank = ((quantile * self.count as f64 - 1e-6).ceil() as u64).clamp(1, self.count.max(1));
        let mut seen = 0;
        let reaches = |&(_, times): &(usize, u64)| {
            seen += times;
            seen >= rank
        };
        let found = self.histogram.buckets().find(reaches);
        found.map_or(0, |(bucket, _)| highest(bucket).min(self.max))
    }

    /// How far the mean can be from that of all values if these are estimated from `samples` of them: half of the interval
    /// that holds it in 95 of 100 such samples, in ns. Infinite where one sample tells nothing of that.
    pub fn mean_error(&self, samples: u64) -> f64 {
        if samples < 2 {
            return f64::INFINITY;
        }
        let mean = self.mean();
        let square = |(bucket, times): (usize, u64)| (highest(bucket) as f64 - mean).powi(2) * times as f64;
        let variance = self.histogram.buckets().map(square).sum::<f64>() / self.count.max(1) as f64;
        DEVIATIONS * (variance / (samples - 1) as f64).sqrt()
    }

    /// Between which values the [`quantile`](Dist::quantile) of all values lies, in 95 of 100 such samples.
    pub fn quantile_interval(&self, quantile: f64, samples: u64) -> (u64, u64) {
        let error = DEVIATIONS * (quantile * (1.0 - quantile) / samples.max(1) as f64).sqrt();
        (self.quantile((quantile - error).max(0.0)), self.quantile((quantile + error).min(1.0)))
    }

    /// The same where the values support it: at least ten of them lie above it. `None` where it would be made of
    /// a few values.
    pub fn supported(&self, quantile: f64) -> Option<u64> {
        // 1e-6: what floating point may have taken away.
        let above = (1.0 - quantile) * self.count as f64 + 1e-6;
        (above >= SUPPORT).then(|| self.quantile(quantile))
    }

    /// How many values are larger than this one, as far as three significant digits tell.
    pub fn beyond(&self, value: u64) -> u64 {
        let larger = self.histogram.buckets().filter(|&(other, _)| other > bucket(value));
        larger.map(|(_, times)| times).sum()
    }

    /// The values, to three significant digits and in order, with how often each of them is there.
    pub fn values(&self) -> impl Iterator<Item = (u64, u64)> {
        self.histogram.buckets().map(|(bucket, times)| (highest(bucket).min(self.max), times))
    }

    /// The largest number that three significant digits tell to be smaller than this one.
    pub fn below(value: u64) -> u64 {
        bucket(value).checked_sub(1).map_or(0, highest)
    }
}

/// Standard deviations on both sides of the mean between which 95 of 100 values of a normal distribution lie.
const DEVIATIONS: f64 = 1.96;

/// The bucket of a value.
#[inline]
fn bucket(value: u64) -> usize {
    if value < EXACT {
        return value as usize;
    }
    let shift = u64::BITS - 1 - OCTAVE_BITS - value.leading_zeros();
    ((u64::from(shift) << OCTAVE_BITS) + (value >> shift)) as usize
}

/// The highest value of a bucket.
fn highest(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    if bucket < EXACT {
        return bucket;
    }
    let shift = (bucket >> OCTAVE_BITS) - 1;
    let lowest = (bucket - (shift << OCTAVE_BITS)) << shift;
    lowest + ((1 << shift) - 1)
}

/// How many values are in each bucket. There are thousands of histograms in an analysis, each with its
/// values close together: only the pages that have some are there.
#[derive(Clone, Debug, Default)]
struct Histogram {
    /// By page: where its buckets begin in `counts`, in pages, plus one; 0 for "not there".
    pages: Vec<u16>,
    counts: Vec<u32>,
    /// A bucket for each time that its count began anew at 0.
    overflows: Vec<usize>,
}

impl Histogram {
    #[inline]
    fn add(&mut self, bucket: usize) {
        let at = match self.pages.get(bucket / PAGE) {
            Some(&page) if page != 0 => (usize::from(page) - 1) * PAGE + bucket % PAGE,
            _ => self.make(bucket),
        };
        let count = &mut self.counts[at];
        *count = count.wrapping_add(1);
        if *count == 0 {
            self.overflows.push(bucket);
        }
    }

    fn add_times(&mut self, bucket: usize, times: u64) {
        let at = self.make(bucket);
        let sum = u64::from(self.counts[at]) + times;
        self.counts[at] = sum as u32;
        self.overflows.extend((0..sum >> u32::BITS).map(|_| bucket));
    }

    /// Where a bucket is, which is made where it is not there.
    #[cold]
    fn make(&mut self, bucket: usize) -> usize {
        let page = bucket / PAGE;
        if page >= self.pages.len() {
            self.pages.resize(page + 1, 0);
        }
        if self.pages[page] == 0 {
            self.counts.resize(self.counts.len() + PAGE, 0);
            self.pages[page] = (self.counts.len() / PAGE) as u16;
        }
        (usize::from(self.pages[page]) - 1) * PAGE + bucket % PAGE
    }

    /// The buckets that have values, in order, with the number of these.
    fn buckets(&self) -> impl Iterator<Item = (usize, u64)> {
        let there = self.pages.iter().enumerate().filter(|(_, page)| **page != 0);
        let counts = there.flat_map(|(number, &page)| {
            let counts = &self.counts[(usize::from(page) - 1) * PAGE..][..PAGE];
            counts.iter().enumerate().map(move |(at, &count)| (number * PAGE + at, u64::from(count)))
        });
        let with_overflows = counts.map(|(bucket, count)| {
            let overflows = self.overflows.iter().filter(|&&other| other == bucket).count() as u64;
            (bucket, count + (overflows << u32::BITS))
        });
        with_overflows.filter(|&(_, count)| count != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_supported_by_ten_values_above_it() {
        let mut dist = Dist::default();
        (0..999).for_each(|ns| dist.add(ns));
        assert_eq!(dist.supported(0.99), None);
        dist.add(999);
        assert_eq!((dist.supported(0.99), dist.supported(0.999)), (Some(989), None));
        assert_eq!(Dist::default().supported(0.5), None);
    }

    #[test]
    fn quantiles_are_right_on_both_sides_of_the_border() {
        let mut dist = Dist::default();
        assert_eq!((dist.quantile(0.5), dist.mean()), (0, 0.0));
        (1..=10_000).rev().for_each(|ns| dist.add(ns));
        assert_eq!((dist.count(), dist.sum(), dist.max()), (10_000, 50_005_000, 10_000));
        for (quantile, exact) in [
            (0.0001, 1),
            (0.1, 1000),
            (0.2047, 2047),
            (0.2048, 2048),
            (0.5, 5000),
            (0.99, 9900),
            (1.0, 10_000),
        ] {
            let found = dist.quantile(quantile);
            assert!(found.abs_diff(exact) * 1000 <= exact, "{quantile}: {found} for {exact}");
        }
    }

    #[test]
    fn every_value_is_in_its_bucket() {
        let ends = (0..64).flat_map(|bit| [(1u64 << bit) - 1, 1 << bit, (1 << bit) + (1 << bit) / 3]);
        for value in ends.chain([u64::MAX - 1, u64::MAX]) {
            let own = bucket(value);
            assert!(highest(own) >= value && (own == 0 || highest(own - 1) < value), "{value}");
            assert!(highest(own) - value <= value / 1000, "{value}");
        }
    }

    #[test]
    fn merged_distributions_are_those_of_all_values() {
        let (mut first, mut second, mut all) = (Dist::default(), Dist::default(), Dist::default());
        for value in (0..3000u64).map(|number| number * number * 7 % 100_003) {
            if value % 3 == 0 {
                first.add(value)
            } else {
                second.add(value)
            }
            all.add(value);
        }
        first.merge(&second);
        assert_eq!((first.count(), first.sum(), first.max()), (all.count(), all.sum(), all.max()));
        for quantile in [0.0, 0.1, 0.5, 0.99, 1.0] {
            assert_eq!(first.quantile(quantile), all.quantile(quantile));
        }
        let mut lessened = Dist::default();
        lessened.merge_lessened(&all, 50_000);
        let half = all.quantile(0.9) - 50_000;
        assert!(lessened.quantile(0.9).abs_diff(half) <= half / 500, "{half}");
        assert_eq!(lessened.quantile(0.01), 0);
    }

    #[test]
    fn a_bucket_counts_beyond_32_bits() {
        let mut histogram = Histogram::default();
        histogram.add_times(5, u64::from(u32::MAX));
        histogram.add(5);
        histogram.add_times(5, (2 << 32) + 7);
        assert_eq!(histogram.buckets().collect::<Vec<_>>(), [(5, (3 << 32) + 7)]);
    }
}
