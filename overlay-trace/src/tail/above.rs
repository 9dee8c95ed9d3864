//! From where on something is slow.

use std::{fmt, str::FromStr};

use anyhow::{Error, Result, bail};

use crate::analysis::Dist;

/// At most so many times as many as a percentile leaves are slow.
const MANY: f64 = 4.0;

/// What is slow: more than a percentile, or more than a time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Above {
    /// The part of all that is not slow, 0 to 1.
    Quantile(f64),
    /// In ns.
    Time(u64),
}

impl Default for Above {
    fn default() -> Above {
        Above::Quantile(0.99)
    }
}

impl FromStr for Above {
    type Err = Error;

    /// `p99`, `p99.9`, or a time as `500us`, `2ms`.
    fn from_str(text: &str) -> Result<Above> {
        if let Some(percentile) = text.strip_prefix('p') {
            return match percentile.parse::<f64>() {
                Ok(percentile) if (0.0..100.0).contains(&percentile) => {
                    Ok(Above::Quantile(percentile / 100.0))
                }
                _ => bail!("'{text}' is no percentile: write p50, p99 or p99.9, below p100"),
            };
        }
        match humantime::parse_duration(text).map(|time| u64::try_from(time.as_nanos())) {
            Ok(Ok(ns)) => Ok(Above::Time(ns)),
            _ => bail!("'{text}' is neither a percentile (p99, p99.9) nor a time (500us, 2ms)"),
        }
    }
}

impl fmt::Display for Above {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // What a percentage's floating point has added is cut off.
            Above::Quantile(part) => write!(out, "p{}", (part * 1e8).round() / 1e6),
            Above::Time(ns) => write!(out, "{}ns", ns),
        }
    }
}

impl Above {
    /// The longest time that is not slow yet, in ns. Where a percentile leaves less than one packet, the
    /// slowest is slow.
    pub(super) fn threshold(self, times: &Dist) -> u64 {
        match self {
            Above::Time(ns) => ns,
            Above::Quantile(part) => {
                let threshold = times.quantile(part).min(times.max().saturating_sub(1));
                on_plateau(times, threshold, (1.0 - part) * times.count() as f64).unwrap_or(threshold)
            }
        }
    }
}

/// Where a percentile lies among values that are all alike, as of packets that waited for the same timer, they are
/// either all slow or none: the threshold below them, if without them less than half is slow of what the percentile is
/// to leave (`wanted`), or if their being slow comes nearer to that; unless too many become slow by that, or all.
fn on_plateau(times: &Dist, threshold: u64, wanted: f64) -> Option<u64> {
    let lower = Dist::below(threshold);
    let (without, all) = (times.beyond(threshold) as f64, times.beyond(lower));
    let with = all as f64;
    let is_better = without < wanted / 2.0 || with / wanted < wanted / without;
    (is_better && with < MANY * wanted && all < times.count()).then_some(lower)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_and_times() {
        let parse = |text: &str| text.parse::<Above>().map_err(|error| error.to_string());
        assert_eq!(parse("p99").unwrap(), Above::Quantile(0.99));
        assert_eq!(parse("p99.99").unwrap().to_string(), "p99.99");
        assert_eq!(parse("500us").unwrap(), Above::Time(500_000));
        for wrong in ["p100", "p-1", "pNaN", "p", "5", "fast", "", "600000years"] {
            assert!(parse(wrong).unwrap_err().contains("p99"), "{wrong}");
        }
    }

    #[test]
    fn the_slowest_is_slow_even_where_a_percentile_leaves_less_than_one() {
        let mut times = Dist::default();
        (1..=50).for_each(|ns| times.add(ns));
        assert_eq!(Above::Quantile(0.99).threshold(&times), 49);
        assert_eq!(Above::Quantile(0.5).threshold(&times), 25);
        assert_eq!(Above::default().threshold(&Dist::default()), 0);
    }
    #[test]
    fn what_waited_for_the_same_timer_is_slow_together() {
        let mut times = Dist::default();
        (0..980).for_each(|at| times.add(1000 + at % 7));
        (0..20).for_each(|_| times.add(200_000_000));
        times.add(200_900_000);
        let threshold = Above::Quantile(0.99).threshold(&times);
        assert!((1007..200_000_000).contains(&threshold), "{threshold}");
        assert_eq!(Above::Quantile(0.5).threshold(&times), 1003);
    }

    #[test]
    fn they_are_slow_together_also_beside_others_that_are_slower() {
        let mut times = Dist::default();
        (0..548).for_each(|at| times.add(1000 + at));
        (0..17).for_each(|_| times.add(80_100_000));
        (0..16).for_each(|at| times.add(200_000_000 + at * 1_000_000));
        let slow = |part| times.beyond(Above::Quantile(part).threshold(&times));
        assert_eq!(slow(0.95), 33);
        // Of fewer that are wanted most are among the slower ones.
        assert_eq!(slow(0.97), 16);
    }
}
