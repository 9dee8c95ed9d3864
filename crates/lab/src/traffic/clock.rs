//! The clock of all traffic: CLOCK_MONOTONIC, as in the kernel's `bpf_ktime_get_ns`, so that a recording's
//! packets and the traffic beside them share one time.

use std::time::Duration;

use nix::sys::prctl;
use nix::sys::time::TimeSpec;
use nix::time::{ClockId, ClockNanosleepFlags, clock_gettime, clock_nanosleep};

use super::Stop;

/// How long a sleeper takes at most to notice a stop.
const NOTICE_NS: u64 = 100_000_000;

/// Nanoseconds of CLOCK_MONOTONIC.
pub fn now_ns() -> u64 {
    // This clock exists on every Linux and the call has no other way to fail.
    clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(0, |time| Duration::from(time).as_nanos() as u64)
}

/// Lets this thread's sleeps end within a nanosecond of their time instead of the usual 50 microseconds:
/// the kernel may not gather its timers with others.
pub fn sleep_precisely() {
    // A sleep that is late is measured (`lateness`), so a refusal needs no handling.
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
        let until = TimeSpec::from_duration(Duration::from_nanos(due_ns.min(now + NOTICE_NS)));
        // An interrupted sleep is taken up again above.
        let _ = clock_nanosleep(ClockId::CLOCK_MONOTONIC, ClockNanosleepFlags::TIMER_ABSTIME, &until);
    }
}
