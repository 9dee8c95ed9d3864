//! The open loop's schedule, and the sender that keeps to it.

use anyhow::Result;
use hdrhistogram::Histogram;

use super::{Stop, clock, report};

/// When each request is due: fixed before the first one is sent.
#[derive(Clone, Copy, Debug)]
pub struct Schedule {
    /// When request 0 is due, in nanoseconds of CLOCK_MONOTONIC.
    pub start_ns: u64,
    /// Requests per second.
    pub rate: f64,
    /// How many requests.
    pub total: u64,
}

impl Schedule {
    /// When the request with this number is due, in nanoseconds of CLOCK_MONOTONIC. Computed from the
    /// number, not from the request before, so that rounding does not add up.
    pub fn due_ns(&self, number: u64) -> u64 {
        self.start_ns + (number as f64 * 1e9 / self.rate) as u64
    }
}

/// What a sender did.
pub struct Sent {
    pub count: u64,
    /// How long after they were due requests were handed to the kernel, ns: the client's own lateness.
    pub lateness: Histogram<u64>,
    /// When the last one was sent, CLOCK_MONOTONIC.
    pub end_ns: u64,
}

/// Calls `send(number, due_ns)` for each request when it is due, or at once when that is past already.
pub fn send_all(
    schedule: &Schedule,
    stop: &Stop,
    mut send: impl FnMut(u64, u64) -> Result<()>,
) -> Result<Sent> {
    clock::sleep_precisely();
    let mut lateness = report::histogram();
    let mut count = 0;
    while count < schedule.total {
        let due_ns = schedule.due_ns(count);
        if !clock::sleep_until(due_ns, stop) {
            break;
        }
        lateness.saturating_record(clock::now_ns() - due_ns);
        send(count, due_ns)?;
        count += 1;
    }
    Ok(Sent { count, lateness, end_ns: clock::now_ns() })
}
