//! A distribution: percentiles from a histogram, count, sum and maximum exact.

use hdrhistogram::Histogram;

/// Larger values are counted as this one in the histogram (18 minutes would be 2^40 ns).
const HISTOGRAM_MAX: u64 = 1 << 60;

/// Values below this are counted one by one, which is several times as fast: most stages take less.
const SMALL: usize = 4096;

/// A distribution of nanoseconds.
#[derive(Clone, Debug)]
pub struct Dist {
    /// How often each value below [`SMALL`] came.
    small: Vec<u64>,
    small_count: u64,
    /// All other values.
    histogram: Histogram<u64>,
    sum: u128,
    max: u64,
}

impl Default for Dist {
    fn default() -> Dist {
        let histogram = Histogram::new(3).expect("3 is a valid number of significant digits");
        Dist { small: vec![0; SMALL], small_count: 0, histogram, sum: 0, max: 0 }
    }
}

impl Dist {
    /// Adds one value.
    pub fn add(&mut self, ns: u64) {
        if let Some(count) = self.small.get_mut(ns as usize) {
            *count += 1;
            self.small_count += 1;
        } else {
            // The histogram grows by itself up to values of 2^63; with the limit it cannot refuse one.
            let _ = self.histogram.record(ns.min(HISTOGRAM_MAX));
        }
        self.sum += u128::from(ns);
        self.max = self.max.max(ns);
    }

    pub fn count(&self) -> u64 {
        self.small_count + self.histogram.len()
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
        if self.count() == 0 { 0.0 } else { self.sum as f64 / self.count() as f64 }
    }

    /// The value that the part `quantile` (0 to 1) of the values does not exceed, to 3 significant
    /// digits.
    pub fn quantile(&self, quantile: f64) -> u64 {
        // Which of the values in order it is; what floating point may have added is taken off.
        let rank = ((quantile * self.count() as f64 - 1e-6).ceil() as u64).clamp(1, self.count().max(1));
        if rank > self.small_count {
            let rest = (rank - self.small_count) as f64 / self.histogram.len().max(1) as f64;
            return self.histogram.value_at_quantile(rest).min(self.max);
        }
        let mut seen = 0;
        let reaches = |count: &u64| {
            seen += count;
            seen >= rank
        };
        self.small.iter().position(reaches).unwrap_or(0) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_right_on_both_sides_of_the_border() {
        let mut dist = Dist::default();
        assert_eq!((dist.quantile(0.5), dist.mean()), (0, 0.0));
        (1..=10_000).rev().for_each(|ns| dist.add(ns));
        assert_eq!((dist.count(), dist.sum(), dist.max()), (10_000, 50_005_000, 10_000));
        for (quantile, exact) in [
            (0.0001, 1),
            (0.1, 1000),
            (0.4095, 4095),
            (0.4096, 4096),
            (0.5, 5000),
            (0.99, 9900),
            (1.0, 10_000),
        ] {
            let found = dist.quantile(quantile);
            assert!(found.abs_diff(exact) * 1000 <= exact, "{quantile}: {found} for {exact}");
        }
    }
}
