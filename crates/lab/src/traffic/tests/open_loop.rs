//! The schedule and its sender.

use std::time::Duration;

use super::super::clock;
use super::super::open_loop::{Schedule, send_all};
use super::super::round_robin::Connection;
use super::super::{Kind, Protocol, Spec, Stop};

#[test]
fn schedule_does_not_drift() {
    let schedule = Schedule { start_ns: 1_000, rate: 3.0, total: 10, max_overrun_ns: 0 };
    assert_eq!(schedule.due_ns(0), 1_000);
    assert_eq!(schedule.due_ns(1), 1_000 + 333_333_333);
    // A million seconds later: the rounding errors of three million periods have not accumulated.
    assert_eq!(schedule.due_ns(3_000_000), 1_000 + 1_000_000_000_000_000);
}

#[test]
fn a_late_sender_sends_everything_and_reports_its_scheduling_delay() {
    let start_ns = clock::now_ns() - 50_000_000;
    let schedule = Schedule { start_ns, rate: 1e6, total: 1_000, max_overrun_ns: 1 << 40 };
    let mut dues = Vec::new();
    let sent = send_all(&schedule, &Stop::new(), |number, due_ns| {
        dues.push((number, due_ns - start_ns));
        Ok(())
    })
    .unwrap();
    assert_eq!(sent.count, 1_000);
    assert_eq!(dues.last(), Some(&(999, 999_000)));
    // The first was due 50 ms ago, the last 49 ms: no scheduling delay can be less.
    assert!(sent.scheduling_delay.min() >= 48_900_000, "{}", sent.scheduling_delay.min());
}

#[test]
fn a_sender_that_cannot_keep_up_stops_and_counts_the_rest_as_unsent() {
    // The end of the schedule and the allowed overrun are in the past.
    let start_ns = clock::now_ns() - 1_000_000_000;
    let schedule = Schedule { start_ns, rate: 1e6, total: 1_000, max_overrun_ns: 1_000_000 };
    let sent = send_all(&schedule, &Stop::new(), |_, _| panic!("nothing is to be sent")).unwrap();
    assert_eq!((sent.count, sent.unsent), (0, 1_000));
}

#[test]
fn a_stopped_sender_sends_nothing_more() {
    let (stop, mut count) = (Stop::new(), 0);
    let schedule = Schedule { start_ns: clock::now_ns(), rate: 1e6, total: 1_000, max_overrun_ns: 1 << 40 };
    let sent = send_all(&schedule, &stop, |number, _| {
        count += 1;
        if number == 9 {
            stop.set();
        }
        Ok(())
    })
    .unwrap();
    assert_eq!((sent.count, sent.unsent, count), (10, 0, 10));
}

#[test]
fn total_is_what_fits_in_the_duration_or_the_count() {
    let spec =
        Spec { rate: 10.0, duration: Duration::from_millis(950), ..Spec::new(Kind::Rr, Protocol::Udp) };
    assert_eq!(spec.total(), 10);
    assert_eq!(Spec { count: Some(3), ..spec.clone() }.total(), 3);
    assert_eq!(Spec { count: Some(30), ..spec }.total(), 10);
}

#[test]
fn requests_are_distributed_round_robin() {
    let connections = [0, 1, 2].map(|index| Connection { index, of: 3 });
    assert_eq!(connections.map(|connection| connection.share(7)), [3, 2, 2]);
    assert_eq!(connections.map(|connection| connection.number(2)), [6, 7, 8]);
}
