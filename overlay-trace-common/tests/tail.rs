//! Classes of times, and which packets are taken as samples.

use overlay_trace_common::tail::{CLASSES, ONE_IN_MAX, class, next, shortest};
use proptest::prelude::*;

proptest! {
    #[test]
    fn a_time_is_in_its_class_and_classes_are_narrow(ns in 0u64..1 << 36, less in 0u32..36) {
        let ns = ns >> less;
        let class = class(ns);
        prop_assert!(class < CLASSES && shortest(class) <= ns);
        if class + 1 < CLASSES {
            let next = shortest(class + 1);
            prop_assert!(ns < next);
            prop_assert!(next - shortest(class) <= 1.max(shortest(class) / 16));
        }
    }

    #[test]
    fn the_longest_times_are_in_the_last_class(ns in (1u64 << 36)..) {
        prop_assert_eq!(class(ns), CLASSES - 1);
    }

    #[test]
    fn one_of_the_next_is_taken(one_in in 1..ONE_IN_MAX, random: u32) {
        let next = next(one_in, random);
        prop_assert!(next >= 1 && next < 2 * one_in);
    }
}

#[test]
fn so_many_are_taken_in_the_mean() {
    for one_in in [1, 2, 64, 1000] {
        let steps = 4096u64;
        let sum: u64 = (0..steps).map(|step| u64::from(next(one_in, (step << 20) as u32))).sum();
        let mean = sum as f64 / steps as f64;
        assert!((mean / f64::from(one_in) - 1.0).abs() < 0.01, "one in {one_in}: {mean}");
    }
}
