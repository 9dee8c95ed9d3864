//! The open loop's schedule, and the sender that keeps to it.

use anyhow::Result;
use hdrhistogram::Histogram;

use super::{Spec, Stop, clock, report};

/// The time between the announcement and the first request, and how much more for each connection, whose reader is to be
/// there by then, ns.
const LEAD_NS: u64 = 5_000_000;
const LEAD_OF_CONNECTION_NS: u64 = 500_000;

/// When each request is due: fixed before the first one is sent.
#[derive(Clone, Copy, Debug)]
pub struct Schedule {
    /// When request 0 is due, in nanoseconds of CLOCK_MONOTONIC.
    pub start_ns: u64,
    /// Requests per second.
    pub rate: f64,
    /// How many requests.
    pub total: u64,
    /// How far the sender may fall behind before it gives up what is left, ns.
    pub patience_ns: u64,
}

impl Schedule {
    /// The schedule of a run that begins in a moment.
    pub fn of(spec: &Spec) -> Schedule {
        Schedule {
            start_ns: clock::now_ns() + LEAD_NS + LEAD_OF_CONNECTION_NS * u64::from(spec.connections),
            rate: spec.rate,
            total: spec.total(),
            patience_ns: spec.timeout.as_nanos() as u64,
        }
    }

    /// The same for trains of so many packets, each sent at once.
    pub fn of_trains(spec: &Spec, packets: u32) -> Schedule {
        let each = Schedule::of(spec);
        Schedule {
            rate: each.rate / f64::from(packets),
            total: each.total.div_ceil(u64::from(packets)),
            ..each
        }
    }

    /// When the request with this number is due, in nanoseconds of CLOCK_MONOTONIC. Computed from the
    /// number, not from the request before, so that rounding does not add up.
    pub fn due_ns(&self, number: u64) -> u64 {
        self.start_ns + (number as f64 * 1e9 / self.rate) as u64
    }
}

/// What a sender did.
pub struct Sent {
    pub count: u64,
    /// How many were given up because the sender could not keep to the schedule.
    pub unsent: u64,
    /// How long after they were due requests were handed to the kernel, ns: the client's own lateness.
    pub lateness: Histogram<u64>,
    /// When the last one was sent, CLOCK_MONOTONIC.
    pub end_ns: u64,
}

/// Calls `send(number, due_ns)` for each request when it is due, or at once when that is past already. A
/// sender that is still busy when the whole schedule is past by its patience gives up the rest: the run is
/// bounded in time.
pub fn send_all(
    schedule: &Schedule,
    stop: &Stop,
    mut send: impl FnMut(u64, u64) -> Result<()>,
) -> Result<Sent> {
    clock::sleep_precisely();
    let mut lateness = report::histogram();
    let (mut count, mut stopped) = (0, false);
    let deadline_ns = schedule.due_ns(schedule.total) + schedule.patience_ns;
    while count < schedule.total {
        let due_ns = schedule.due_ns(count);
        stopped = !clock::sleep_until(due_ns, stop);
        let now_ns = clock::now_ns();
        if stopped || now_ns > deadline_ns {
            break;
        }
        lateness.saturating_record(now_ns - due_ns);
        send(count, due_ns)?;
        count += 1;
    }
    let unsent = if stopped { 0 } else { schedule.total - count };
    Ok(Sent { count, unsent, lateness, end_ns: clock::now_ns() })
}
