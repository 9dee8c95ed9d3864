//! The threshold above which a sample is slow.

use overlay_trace_format::Threshold;

use crate::breakdown::Dist;

/// At most this many times the wanted number of samples become slow.
const TOO_MANY: f64 = 4.0;

/// The longest time that is not slow, in ns. Where a percentile leaves less than one sample, the slowest one is slow.
pub(super) fn longest_ordinary(threshold: Threshold, times: &Dist) -> u64 {
    match threshold {
        Threshold::Time(ns) => ns,
        Threshold::Quantile(part) => {
            let at_quantile = times.quantile(part).min(times.max().saturating_sub(1));
            let wanted = (1.0 - part) * times.count() as f64;
            below_plateau(times, at_quantile, wanted).unwrap_or(at_quantile)
        }
    }
}

/// A percentile can lie on a plateau of nearly equal values, such as packets that waited for the same timer. These are
/// either all slow or all ordinary: the threshold moves below the plateau if without it fewer than half of the `wanted`
/// samples are slow, or if the number of slow ones comes closer to `wanted`; not if too many or all become slow.
fn below_plateau(times: &Dist, threshold: u64, wanted: f64) -> Option<u64> {
    let lower = Dist::below(threshold);
    let (without, all) = (times.beyond(threshold) as f64, times.beyond(lower));
    let with = all as f64;
    let is_better = without < wanted / 2.0 || with / wanted < wanted / without;
    (is_better && with < TOO_MANY * wanted && all < times.count()).then_some(lower)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_and_times() {
        let parse = |text: &str| text.parse::<Threshold>().map_err(|error| error.to_string());
        assert_eq!(parse("p99").unwrap(), Threshold::Quantile(0.99));
        assert_eq!(parse("p99.99").unwrap().to_string(), "p99.99");
        assert_eq!(parse("500us").unwrap(), Threshold::Time(500_000));
        for wrong in ["p100", "p-1", "pNaN", "p", "5", "fast", "", "600000years"] {
            assert!(parse(wrong).unwrap_err().contains("p99"), "{wrong}");
        }
        assert!(parse("99.9").unwrap_err().ends_with("did you mean p99.9?"));
        assert!(parse("500").unwrap_err().ends_with("did you mean 500us or 500ms?"));
    }

    #[test]
    fn the_slowest_is_slow_even_where_a_percentile_leaves_less_than_one() {
        let mut times = Dist::default();
        (1..=50).for_each(|ns| times.add(ns));
        assert_eq!(longest_ordinary(Threshold::Quantile(0.99), &times), 49);
        assert_eq!(longest_ordinary(Threshold::Quantile(0.5), &times), 25);
        assert_eq!(longest_ordinary(Threshold::default(), &Dist::default()), 0);
    }

    #[test]
    fn what_waited_for_the_same_timer_is_slow_together() {
        let mut times = Dist::default();
        (0..980).for_each(|at| times.add(1000 + at % 7));
        (0..20).for_each(|_| times.add(200_000_000));
        times.add(200_900_000);
        let threshold = longest_ordinary(Threshold::Quantile(0.99), &times);
        assert!((1007..200_000_000).contains(&threshold), "{threshold}");
        assert_eq!(longest_ordinary(Threshold::Quantile(0.5), &times), 1003);
    }

    #[test]
    fn they_are_slow_together_also_beside_others_that_are_slower() {
        let mut times = Dist::default();
        (0..548).for_each(|at| times.add(1000 + at));
        (0..17).for_each(|_| times.add(80_100_000));
        (0..16).for_each(|at| times.add(200_000_000 + at * 1_000_000));
        let slow = |part| times.beyond(longest_ordinary(Threshold::Quantile(part), &times));
        assert_eq!(slow(0.95), 33);
        // Of fewer that are wanted most are among the slower ones.
        assert_eq!(slow(0.97), 16);
    }
}
