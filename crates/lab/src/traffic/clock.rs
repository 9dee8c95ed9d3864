//! The clock of all traffic: CLOCK_MONOTONIC, as in the kernel's `bpf_ktime_get_ns`, so that the traffic and the
//! packets of a recording share one time base.

use std::time::Duration;

use nix::sys::prctl;
use nix::sys::time::TimeSpec;
use nix::time::{ClockId, ClockNanosleepFlags, clock_gettime, clock_nanosleep};

use super::stop::Stop;

/// The maximum time until a sleeping thread notices a stop, ns.
const STOP_CHECK_NS: u64 = 100_000_000;

/// Nanoseconds of CLOCK_MONOTONIC.
pub fn now_ns() -> u64 {
    // This clock exists on every Linux, and the call cannot fail otherwise.
    clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(0, |time| Duration::from(time).as_nanos() as u64)
}

/// Sets this thread's timer slack to 1 ns instead of the default 50 µs, so that the kernel does not coalesce its
/// timers with others.
pub fn reduce_timer_slack() {
    // A late wake-up is measured as scheduling delay, so an error needs no handling.
    let _ = prctl::set_timerslack(1);
}

/// Sleeps until the given time of [`now_ns`]; returns false when it was stopped before.
pub fn sleep_until(due_ns: u64, stop: &Stop) -> bool {
    loop {
        if stop.is_set() {
            return false;
        }
        let now = now_ns();
        if now >= due_ns {
            return true;
        }
        let until = TimeSpec::from_duration(Duration::from_nanos(due_ns.min(now + STOP_CHECK_NS)));
        // The loop resumes an interrupted sleep.
        let _ = clock_nanosleep(ClockId::CLOCK_MONOTONIC, ClockNanosleepFlags::TIMER_ABSTIME, &until);
    }
}
