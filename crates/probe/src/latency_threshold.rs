//! The latency from which on tail sampling records a packet: where it is a percentile, it follows the load.

use std::time::{Duration, Instant};

use anyhow::Result;
use aya::maps::{Array, MapData, PerCpuArray};
use overlay_trace_common::latency_histogram::{BUCKETS, LatencyHistogram, lowest};
use overlay_trace_format::Threshold;

use crate::load::Loader;

/// How often the histogram of latencies is read.
const INTERVAL: Duration = Duration::from_millis(100);
/// A percentile is taken over so many packets that this many are above it. Older packets count less the more packets
/// there are.
const SAMPLES_ABOVE: f64 = 20.0;

/// [`LatencyHistogram`] for aya's typed interface.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct RawHistogram(LatencyHistogram);
// SAFETY: a repr(C) struct of plain integers.
unsafe impl aya::Pod for RawHistogram {}

/// Keeps the kernel side's threshold up to date.
pub struct LatencyThreshold {
    histogram: PerCpuArray<MapData, RawHistogram>,
    threshold_map: Array<MapData, u64>,
    threshold: Threshold,
    recent: RecentLatencies,
    /// The counts of each CPU when they were read last.
    before: Vec<[u32; BUCKETS]>,
    read_at: Instant,
    threshold_ns: u64,
}

impl LatencyThreshold {
    /// Considers the packets that end from now on. Until there are enough of them, every packet is above.
    ///
    /// # Errors
    ///
    /// The kernel object lacks the maps, or the kernel does not give their values.
    pub fn new(loader: &mut Loader, threshold: Threshold) -> Result<LatencyThreshold> {
        let mut updater = LatencyThreshold {
            histogram: loader.take_map("LATENCY_HISTOGRAM")?,
            threshold_map: loader.take_map("LATENCY_THRESHOLD_NS")?,
            threshold,
            recent: RecentLatencies::default(),
            before: Vec::new(),
            read_at: Instant::now(),
            threshold_ns: 0,
        };
        // The synthetic packets of the cost measurement do not count.
        updater.new_counts()?;
        if let Threshold::Time(ns) = threshold {
            updater.set(ns.saturating_add(1))?;
        }
        Ok(updater)
    }

    /// The threshold in ns; 0 if every packet is above.
    pub fn ns(&self) -> u64 {
        self.threshold_ns
    }

    /// Considers the packets that have ended since the last call, if it is time to.
    ///
    /// # Errors
    ///
    /// The kernel's error.
    pub fn update(&mut self) -> Result<()> {
        let Threshold::Quantile(quantile) = self.threshold else { return Ok(()) };
        if self.read_at.elapsed() < INTERVAL {
            return Ok(());
        }
        self.read_at = Instant::now();
        let new = self.new_counts()?;
        self.recent.add(&new, SAMPLES_ABOVE / (1.0 - quantile));
        match self.recent.quantile_ns(quantile) {
            Some(ns) if ns != self.threshold_ns => self.set(ns),
            _ => Ok(()),
        }
    }

    fn set(&mut self, ns: u64) -> Result<()> {
        self.threshold_ns = ns;
        Ok(self.threshold_map.set(0, ns, 0)?)
    }

    /// How many packets of each bucket have ended since the last call.
    fn new_counts(&mut self) -> Result<[u64; BUCKETS]> {
        let mut new = [0; BUCKETS];
        let cpus = self.histogram.get(&0, 0)?;
        self.before.resize(cpus.len(), [0; BUCKETS]);
        for (RawHistogram(now), before) in cpus.iter().zip(&mut self.before) {
            for (bucket, new) in new.iter_mut().enumerate() {
                *new += u64::from(now.counts[bucket].wrapping_sub(before[bucket]));
            }
            *before = now.counts;
        }
        Ok(new)
    }
}

/// A histogram of latencies in which older packets fade.
struct RecentLatencies {
    weights: [f64; BUCKETS],
}

impl Default for RecentLatencies {
    fn default() -> RecentLatencies {
        RecentLatencies { weights: [0.0; BUCKETS] }
    }
}

impl RecentLatencies {
    /// Adds packets, and scales all weights so that their sum is at most `limit`.
    fn add(&mut self, new: &[u64; BUCKETS], limit: f64) {
        self.weights.iter_mut().zip(new).for_each(|(sum, new)| *sum += *new as f64);
        let sum: f64 = self.weights.iter().sum();
        if sum > limit {
            self.weights.iter_mut().for_each(|weight| *weight *= limit / sum);
        }
    }

    /// A lower bound of the quantile (0 to 1), in ns: at least the packets above it are above this. `None` as long as
    /// there are too few packets.
    fn quantile_ns(&self, quantile: f64) -> Option<u64> {
        let above = self.weights.iter().sum::<f64>() * (1.0 - quantile);
        if above < 1.0 {
            return None;
        }
        let mut sum = 0.0;
        let bucket = self.weights.iter().rposition(|weight| {
            sum += weight;
            // The tolerance is for rounding errors.
            sum >= above * (1.0 - 1e-9)
        })?;
        Some(lowest(bucket))
    }
}

#[cfg(test)]
mod tests {
    use overlay_trace_common::latency_histogram::bucket;
    use proptest::prelude::*;

    use super::*;

    fn counted(latencies: impl IntoIterator<Item = u64>) -> [u64; BUCKETS] {
        let mut counts = [0; BUCKETS];
        latencies.into_iter().for_each(|ns| counts[bucket(ns)] += 1);
        counts
    }

    proptest! {
        #[test]
        fn as_many_are_slow_as_asked_for_and_hardly_more(
            latencies in prop::collection::vec(1000u64..100_000, 200..2000), quantile in 0.5..0.99f64
        ) {
            let mut recent = RecentLatencies::default();
            recent.add(&counted(latencies.iter().copied()), f64::MAX);
            let from = recent.quantile_ns(quantile).unwrap();
            let above = latencies.len() as f64 * (1.0 - quantile);
            prop_assert!(latencies.iter().filter(|&&ns| ns >= from).count() as f64 >= above - 1e-6);
            // The next bucket alone would have been too few.
            let next = lowest(bucket(from) + 1);
            prop_assert!((latencies.iter().filter(|&&ns| ns >= next).count() as f64) < above + 1e-6);
        }
    }

    #[test]
    fn it_follows_the_load_up_and_down() {
        let (mut recent, limit) = (RecentLatencies::default(), 2000.0);
        assert_eq!(recent.quantile_ns(0.99), None);
        recent.add(&counted((0..50).map(|_| 10_000)), limit);
        assert_eq!(recent.quantile_ns(0.99), None, "half a packet is above");
        for ns in [10_000, 80_000, 5_000] {
            (0..60).for_each(|_| recent.add(&counted((0..1000).map(|_| ns)), limit));
            let from = recent.quantile_ns(0.99).unwrap();
            assert!(from <= ns && ns - from <= ns / 16, "{from} for {ns}");
        }
    }
}
