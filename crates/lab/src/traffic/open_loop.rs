//! The open loop: a schedule of send times that does not depend on answers, and the sender that follows it.

use anyhow::Result;
use hdrhistogram::Histogram;

use super::clock;
use super::distribution::histogram;
use super::spec::Spec;
use super::stop::Stop;

/// The time between the announcement and the first request, and the additional time per connection for its
/// receiver thread to start, ns.
const START_DELAY_NS: u64 = 5_000_000;
const START_DELAY_PER_CONNECTION_NS: u64 = 500_000;

/// The scheduled send times, fixed before the first request is sent.
#[derive(Clone, Copy, Debug)]
pub struct Schedule {
    /// The scheduled send time of request 0, CLOCK_MONOTONIC, ns.
    pub start_ns: u64,
    /// Requests per second.
    pub rate: f64,
    /// The number of requests.
    pub total: u64,
    /// How late the sender may still send after the end of the schedule, ns.
    pub max_overrun_ns: u64,
}

impl Schedule {
    /// The schedule of a run that starts shortly.
    pub fn of(spec: &Spec) -> Schedule {
        Schedule {
            start_ns: clock::now_ns()
                + START_DELAY_NS
                + START_DELAY_PER_CONNECTION_NS * u64::from(spec.connections),
            rate: spec.rate,
            total: spec.total(),
            max_overrun_ns: spec.timeout.as_nanos() as u64,
        }
    }

    /// The schedule of batches of this many packets, one send call each.
    pub fn of_batches(spec: &Spec, packets: u32) -> Schedule {
        let each = Schedule::of(spec);
        Schedule {
            rate: each.rate / f64::from(packets),
            total: each.total.div_ceil(u64::from(packets)),
            ..each
        }
    }

    /// The scheduled send time of the request with this number, CLOCK_MONOTONIC, ns. It is computed from the number,
    /// not from the previous request, so that rounding errors do not accumulate.
    pub fn due_ns(&self, number: u64) -> u64 {
        self.start_ns + (number as f64 * 1e9 / self.rate) as u64
    }
}

/// What a sender sent.
pub struct Sent {
    pub count: u64,
    /// Requests that were not sent because the sender could not keep up with the schedule.
    pub unsent: u64,
    /// The scheduling delay of the load generator: from the scheduled send time to the send call, ns.
    pub scheduling_delay: Histogram<u64>,
    /// When the last one was sent, CLOCK_MONOTONIC, ns.
    pub end_ns: u64,
}

/// Calls `send(number, due_ns)` for each request at its scheduled time, or immediately when that has passed. A
/// sender that is still busy [`Schedule::max_overrun_ns`] after the end of the schedule drops the rest, so that the
/// run is bounded in time.
pub fn send_all(
    schedule: &Schedule,
    stop: &Stop,
    mut send: impl FnMut(u64, u64) -> Result<()>,
) -> Result<Sent> {
    clock::reduce_timer_slack();
    let mut scheduling_delay = histogram();
    let (mut count, mut stopped) = (0, false);
    let deadline_ns = schedule.due_ns(schedule.total) + schedule.max_overrun_ns;
    while count < schedule.total {
        let due_ns = schedule.due_ns(count);
        stopped = !clock::sleep_until(due_ns, stop);
        let now_ns = clock::now_ns();
        if stopped || now_ns > deadline_ns {
            break;
        }
        scheduling_delay.saturating_record(now_ns - due_ns);
        send(count, due_ns)?;
        count += 1;
    }
    let unsent = if stopped { 0 } else { schedule.total - count };
    Ok(Sent { count, unsent, scheduling_delay, end_ns: clock::now_ns() })
}
