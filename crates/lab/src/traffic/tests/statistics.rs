//! What client and server count, and the formats that they share.

use super::super::distribution::{Distribution, histogram};
use super::super::protocol::Header;
use super::super::response_stats::{ResponseStats, SequenceSet};
use super::super::stream::StreamStats;
use super::super::{clock, icmp};

#[test]
fn percentiles_are_of_the_recorded_values() {
    let mut histogram = histogram();
    for value in 1..=100_000_u64 {
        histogram.record(value * 1_000).unwrap();
    }
    let found = Distribution::of(&histogram);
    assert_eq!(found.count, 100_000);
    for (value, expected) in [
        (found.p50, 5e7),
        (found.p90, 9e7),
        (found.p99, 9.9e7),
        (found.p999, 9.99e7),
        (found.p9999, 9.999e7),
        (found.p99999, 9.9999e7),
        (found.max, 1e8),
        (found.mean as u64, 5e7),
    ] {
        assert!((value as f64 / expected - 1.0).abs() < 1e-3, "{value} for {expected}");
    }
}

#[test]
fn answers_may_be_duplicated_and_reordered() {
    let mut responses = ResponseStats::new();
    for number in [0, 2, 1, 2, 70, 3] {
        responses.count_any_order(number, clock::now_ns(), 100);
    }
    assert_eq!(
        (responses.received, responses.duplicates, responses.out_of_order, responses.bytes),
        (5, 1, 2, 500)
    );
    let sum = ResponseStats::new().add(responses);
    assert_eq!((sum.received, sum.latency.len()), (5, 5));
}

#[test]
fn a_sequence_number_is_inserted_once() {
    let mut seen = SequenceSet::default();
    assert!([0, 63, 64, 1_000].into_iter().all(|number| seen.insert(number)));
    assert!(![0, 63, 64, 1_000].into_iter().any(|number| seen.insert(number)));
    assert!(seen.insert(999));
}

#[test]
fn jitter_follows_rfc_3550() {
    let mut stats = StreamStats::default();
    // Transit times of 5, 5 and 21 µs: differences of 0 and 16 µs, the latter weighted by 1/16.
    for (number, sent, received) in [(0, 0, 5_000), (1, 100_000, 105_000), (2, 200_000, 221_000)] {
        stats.count(&Header { session: 1, number, time_ns: sent }, received, 50);
    }
    assert_eq!(stats.jitter_ns, 1_000.0);
    assert_eq!((stats.packets, stats.bytes, stats.duration_ns), (3, 150, 216_000));
    // A constant offset between the clocks of two machines has no effect.
    stats.count(&Header { session: 1, number: 3, time_ns: 300_000 }, 321_000, 50);
    assert_eq!(stats.jitter_ns, 937.5);
}

#[test]
fn header_survives_encoding() {
    let header = Header { session: u64::MAX, number: 7, time_ns: 1 << 40 };
    let mut datagram = [0; 30];
    header.write(&mut datagram);
    assert_eq!(Header::read(&datagram), Some(header));
    assert_eq!(Header::read(&datagram[..23]), None);
}

#[test]
fn checksum_follows_rfc_1071() {
    assert_eq!(icmp::checksum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]), 0x220d);
    assert_eq!(icmp::checksum(&[0xff]), 0x00ff);
}
