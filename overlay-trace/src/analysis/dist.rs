//! A distribution: percentiles from a histogram, count, sum and maximum exact.

use hdrhistogram::Histogram;

/// Larger values are counted as this one in the histogram (18 minutes would be 2^40 ns).
const HISTOGRAM_MAX: u64 = 1 << 60;

/// A distribution of nanoseconds.
#[derive(Clone, Debug)]
pub struct Dist {
    histogram: Histogram<u64>,
    sum: u128,
    max: u64,
}

impl Default for Dist {
    fn default() -> Dist {
        let histogram = Histogram::new(3).expect("3 is a valid number of significant digits");
        Dist { histogram, sum: 0, max: 0 }
    }
}

impl Dist {
    /// Adds one value.
    pub fn add(&mut self, ns: u64) {
        // The histogram grows by itself up to values of 2^63; with the limit it cannot refuse one.
        let _ = self.histogram.record(ns.min(HISTOGRAM_MAX));
        self.sum += u128::from(ns);
        self.max = self.max.max(ns);
    }

    pub fn count(&self) -> u64 {
        self.histogram.len()
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
        self.histogram.value_at_quantile(quantile).min(self.max)
    }
}
