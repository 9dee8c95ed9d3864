//! Buckets of latencies, and which packets are taken as samples.

use overlay_trace_common::latency_histogram::{BUCKETS, ONE_IN_MAX, bucket, lowest, next_sample};
use proptest::prelude::*;

proptest! {
    #[test]
    fn a_latency_is_in_its_bucket_and_buckets_are_narrow(ns in 0u64..1 << 36, less in 0u32..36) {
        let ns = ns >> less;
        let bucket = bucket(ns);
        prop_assert!(bucket < BUCKETS && lowest(bucket) <= ns);
        if bucket + 1 < BUCKETS {
            let next = lowest(bucket + 1);
            prop_assert!(ns < next);
            prop_assert!(next - lowest(bucket) <= 1.max(lowest(bucket) / 16));
        }
    }

    #[test]
    fn the_longest_latencies_are_in_the_last_bucket(ns in (1u64 << 36)..) {
        prop_assert_eq!(bucket(ns), BUCKETS - 1);
    }

    #[test]
    fn one_of_the_next_is_taken(one_in in 1..ONE_IN_MAX, random: u32) {
        let next = next_sample(one_in, random);
        prop_assert!(next >= 1 && next < 2 * one_in);
    }
}

#[test]
fn so_many_are_taken_in_the_mean() {
    for one_in in [1, 2, 64, 1000] {
        let steps = 4096u64;
        let sum: u64 = (0..steps).map(|step| u64::from(next_sample(one_in, (step << 20) as u32))).sum();
        let mean = sum as f64 / steps as f64;
        assert!((mean / f64::from(one_in) - 1.0).abs() < 0.01, "one in {one_in}: {mean}");
    }
}
