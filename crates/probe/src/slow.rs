//! From where on a packet is slow, where only the slow ones are kept whole: it follows the load.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use aya::maps::{Array, MapData, PerCpuArray};
use overlay_trace_common::latency_histogram::{BUCKETS, LatencyHistogram, ONE_IN_MAX, lowest};

use super::load::Loader;
use overlay_trace_format::{Sampling, Threshold};

/// How often the times of the packets so far are looked at.
const LOOK: Duration = Duration::from_millis(100);
/// A percentile is taken of so many packets that this number is above it; older ones count the less the more
/// packets there are.
const ABOVE: f64 = 20.0;

/// Which packets are kept whole.
#[derive(Clone, Copy, Debug)]
pub struct Slow {
    pub above: Threshold,
    /// Of the others one in so many; at least 1.
    pub one_in: u32,
}

/// Options of commands that record.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
pub struct SlowOptions {
    /// Keep whole only the packets above a percentile, which follows the load, or above a time (p99.9, 1ms), and
    /// those that are dropped; of the others one in --one-in
    #[arg(long, value_name = "PERCENTILE|TIME")]
    tail_above: Option<Threshold>,
    /// With --tail-above: of the ordinary packets one in so many is kept, and stands for the others
    #[arg(long, value_name = "N", requires = "tail_above", default_value_t = 64,
          value_parser = clap::value_parser!(u32).range(1..=i64::from(ONE_IN_MAX)))]
    one_in: u32,
}

impl SlowOptions {
    /// What to keep, if not everything.
    pub fn slow(self) -> Option<Slow> {
        self.tail_above.map(|above| Slow { above, one_in: self.one_in })
    }
}

impl Slow {
    pub(super) fn sampling(self) -> Sampling {
        Sampling { above: self.above.to_string(), one_in: self.one_in }
    }
}

/// [`LatencyHistogram`] for aya's typed interface.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct RawHistogram(LatencyHistogram);
// SAFETY: a repr(C) struct of plain integers.
unsafe impl aya::Pod for RawHistogram {}

/// Keeps the kernel side's idea of "slow" up to date.
pub struct Watch {
    ended: PerCpuArray<MapData, RawHistogram>,
    slow_from: Array<MapData, u64>,
    above: Threshold,
    recent: Recent,
    /// What each CPU had counted when it was looked at last.
    before: Vec<[u32; BUCKETS]>,
    looked: Instant,
    slow_from_ns: u64,
}

impl Watch {
    /// Begins with what ends from now on: until enough is known, every packet is slow.
    ///
    /// # Errors
    ///
    /// If the loader's maps are not there.
    pub fn new(loader: &mut Loader, above: Threshold) -> Result<Watch> {
        let mut take =
            |name: &str| loader.maps.take_map(name).with_context(|| format!("the map {name} is missing"));
        let mut watch = Watch {
            ended: PerCpuArray::try_from(take("LATENCY_HISTOGRAM")?)?,
            slow_from: Array::try_from(take("LATENCY_THRESHOLD_NS")?)?,
            above,
            recent: Recent::default(),
            before: Vec::new(),
            looked: Instant::now(),
            slow_from_ns: 0,
        };
        // What was invented for measuring the probes' cost is not of the load.
        watch.new_times()?;
        if let Threshold::Time(ns) = above {
            watch.set(ns.saturating_add(1))?;
        }
        Ok(watch)
    }

    /// From where on a packet is slow, in ns; 0 for all.
    pub fn slow_from_ns(&self) -> u64 {
        self.slow_from_ns
    }

    /// Looks at the packets that have ended since, if it is time to.
    ///
    /// # Errors
    ///
    /// If the kernel does not give the numbers.
    pub fn follow(&mut self) -> Result<()> {
        let Threshold::Quantile(part) = self.above else { return Ok(()) };
        if self.looked.elapsed() < LOOK {
            return Ok(());
        }
        self.looked = Instant::now();
        let new = self.new_times()?;
        self.recent.add(&new, ABOVE / (1.0 - part));
        match self.recent.slow_from(part) {
            Some(ns) if ns != self.slow_from_ns => self.set(ns),
            _ => Ok(()),
        }
    }

    fn set(&mut self, ns: u64) -> Result<()> {
        self.slow_from_ns = ns;
        Ok(self.slow_from.set(0, ns, 0)?)
    }

    /// How many packets of each class have ended since the last call.
    fn new_times(&mut self) -> Result<[u64; BUCKETS]> {
        let mut new = [0; BUCKETS];
        let cpus = self.ended.get(&0, 0)?;
        self.before.resize(cpus.len(), [0; BUCKETS]);
        for (RawHistogram(now), before) in cpus.iter().zip(&mut self.before) {
            for (class, new) in new.iter_mut().enumerate() {
                *new += u64::from(now.counts[class].wrapping_sub(before[class]));
            }
            *before = now.counts;
        }
        Ok(new)
    }
}

/// How long packets took lately, by class.
struct Recent {
    times: [f64; BUCKETS],
}

impl Default for Recent {
    fn default() -> Recent {
        Recent { times: [0.0; BUCKETS] }
    }
}

impl Recent {
    /// Adds packets; what is more than `enough` is taken off all alike, so that old ones fade away.
    fn add(&mut self, new: &[u64; BUCKETS], enough: f64) {
        self.times.iter_mut().zip(new).for_each(|(sum, new)| *sum += *new as f64);
        let sum: f64 = self.times.iter().sum();
        if sum > enough {
            self.times.iter_mut().for_each(|times| *times *= enough / sum);
        }
    }

    /// From where on a packet is slower than the part `part` (0 to 1) of all, in ns: at least as many as are
    /// above are from here on. `None` as long as there are too few to tell.
    fn slow_from(&self, part: f64) -> Option<u64> {
        let above = self.times.iter().sum::<f64>() * (1.0 - part);
        if above < 1.0 {
            return None;
        }
        let mut sum = 0.0;
        let class = self.times.iter().rposition(|times| {
            sum += times;
            // What floating point has lost is of no matter.
            sum >= above * (1.0 - 1e-9)
        })?;
        Some(lowest(class))
    }
}

#[cfg(test)]
mod tests {
    use overlay_trace_common::latency_histogram::bucket;
    use proptest::prelude::*;

    use super::*;

    fn counted(times: impl IntoIterator<Item = u64>) -> [u64; BUCKETS] {
        let mut counts = [0; BUCKETS];
        times.into_iter().for_each(|ns| counts[bucket(ns)] += 1);
        counts
    }

    proptest! {
        #[test]
        fn as_many_are_slow_as_asked_for_and_hardly_more(
            times in prop::collection::vec(1000u64..100_000, 200..2000), part in 0.5..0.99f64
        ) {
            let mut recent = Recent::default();
            recent.add(&counted(times.iter().copied()), f64::MAX);
            let from = recent.slow_from(part).unwrap();
            let above = times.len() as f64 * (1.0 - part);
            prop_assert!(times.iter().filter(|&&ns| ns >= from).count() as f64 >= above - 1e-6);
            // The next class alone would have been too few.
            let next = lowest(bucket(from) + 1);
            prop_assert!((times.iter().filter(|&&ns| ns >= next).count() as f64) < above + 1e-6);
        }
    }

    #[test]
    fn it_follows_the_load_up_and_down() {
        let (mut recent, enough) = (Recent::default(), 2000.0);
        assert_eq!(recent.slow_from(0.99), None);
        recent.add(&counted((0..50).map(|_| 10_000)), enough);
        assert_eq!(recent.slow_from(0.99), None, "half a packet is above");
        for ns in [10_000, 80_000, 5_000] {
            (0..60).for_each(|_| recent.add(&counted((0..1000).map(|_| ns)), enough));
            let from = recent.slow_from(0.99).unwrap();
            assert!(from <= ns && ns - from <= ns / 16, "{from} for {ns}");
        }
    }
}
