//! What the wall clocks of two machines say about the difference of their other clocks, where both kernels state the error
//! (NTP or PTP keeps them, and `adjtimex` says so).

use overlay_trace_format::ClockReading;

use crate::polygon::Constraint;

/// So many readings of a machine are compared with the other's.
const READINGS_MAX: usize = 100;

/// A moment of one machine's clock in terms of another's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WallPoint {
    pub own_ns: u64,
    pub other_ns: u64,
    /// `other_ns` is so many ns more or less at most.
    pub error_ns: u64,
}

impl WallPoint {
    /// What it says of the own clock, where `map` brings the other's to the reference.
    pub fn constraints(&self, map: impl Fn(u64) -> Option<i128>) -> Option<[Constraint; 2]> {
        let (own_ns, other_ns) = (i128::from(self.own_ns), map(self.other_ns)?);
        let bound = |by: i128, is_upper| Constraint { own_ns, reference_ns: other_ns + by, is_upper };
        let error = i128::from(self.error_ns);
        Some([bound(error, true), bound(-error, false)])
    }
}

/// The moments that both machines' wall clocks show, in the order of the own clock.
pub fn points(own: &[ClockReading], other: &[ClockReading]) -> Vec<WallPoint> {
    let step = own.len() / READINGS_MAX + 1;
    own.iter().step_by(step).filter_map(|reading| point(reading, other)).collect()
}

fn point(own: &ClockReading, other: &[ClockReading]) -> Option<WallPoint> {
    let stated = other.iter().filter(|reading| reading.realtime_error_ns.is_some());
    let nearest = stated.min_by_key(|reading| reading.realtime_ns.abs_diff(own.realtime_ns))?;
    let since = i128::from(own.realtime_ns) - i128::from(nearest.realtime_ns);
    let errors = [own.realtime_error_ns?, nearest.realtime_error_ns?, own.within_ns, nearest.within_ns];
    Some(WallPoint {
        own_ns: own.monotonic_ns,
        other_ns: u64::try_from(i128::from(nearest.monotonic_ns) + since).ok()?,
        error_ns: errors.into_iter().fold(0, u64::saturating_add),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(monotonic_ns: u64, realtime_ns: u64, error: Option<u64>) -> ClockReading {
        ClockReading {
            monotonic_ns,
            realtime_ns,
            within_ns: 10,
            realtime_error_ns: error,
            ..ClockReading::default()
        }
    }

    #[test]
    fn the_errors_of_both_clocks_add_up() {
        let own = [reading(5_000, 1_005_000, Some(300))];
        let other = [reading(90_000, 1_004_000, Some(200)), reading(99_000, 1_900_000, Some(200))];
        let points = points(&own, &other);
        assert_eq!(points, [WallPoint { own_ns: 5_000, other_ns: 91_000, error_ns: 520 }]);
        let [upper, lower] = points[0].constraints(|ns| Some(i128::from(ns))).unwrap();
        assert_eq!((upper.reference_ns, lower.reference_ns), (91_520, 90_480));
        assert!(upper.is_upper && !lower.is_upper);
    }

    #[test]
    fn a_clock_that_nobody_keeps_says_nothing() {
        let (kept, free) = ([reading(1, 2, Some(3))], [reading(1, 2, None)]);
        assert!(points(&kept, &free).is_empty() && points(&free, &kept).is_empty());
    }
}
