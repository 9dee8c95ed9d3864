//! The clock of the records, and the machine's other clocks.

use nix::time::{ClockId, clock_gettime};
use overlay_trace_format::ClockReading;

/// Attempts at a reading of all clocks: something may come between.
const ATTEMPTS: usize = 5;

/// CLOCK_MONOTONIC in ns, as the kernel side reads it.
pub fn monotonic_ns() -> u64 {
    ns(ClockId::CLOCK_MONOTONIC)
}

/// All clocks now: the tightest of several attempts.
pub fn read_clocks() -> ClockReading {
    let tightest = (0..ATTEMPTS).map(|_| read_once()).min_by_key(|reading| reading.within_ns);
    ClockReading { realtime_error_ns: realtime_error_ns(), ..tightest.unwrap_or_default() }
}

fn read_once() -> ClockReading {
    let before = monotonic_ns();
    let (realtime_ns, tsc, boottime_ns) = (ns(ClockId::CLOCK_REALTIME), tsc(), ns(ClockId::CLOCK_BOOTTIME));
    let within_ns = monotonic_ns().saturating_sub(before).div_ceil(2);
    ClockReading {
        monotonic_ns: before + within_ns,
        within_ns,
        realtime_ns,
        boottime_ns,
        tsc,
        realtime_error_ns: None,
    }
}

fn ns(clock: ClockId) -> u64 {
    clock_gettime(clock).map_or(0, |time| time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64)
}

#[cfg(target_arch = "x86_64")]
fn tsc() -> u64 {
    // SAFETY: every processor of this architecture has the instruction, which only reads a counter.
    unsafe { std::arch::x86_64::_rdtsc() }
}

#[cfg(not(target_arch = "x86_64"))]
fn tsc() -> u64 {
    0
}

/// What bounds the error of CLOCK_REALTIME; `None` where the kernel says that it is not synchronised.
fn realtime_error_ns() -> Option<u64> {
    // SAFETY: zeros are a value of the structure; with no mode set the call only writes to it.
    let (state, timex) = unsafe {
        let mut timex: libc::timex = std::mem::zeroed();
        (libc::adjtimex(&mut timex), timex)
    };
    let is_synchronised = state >= 0 && state != libc::TIME_ERROR && timex.status & libc::STA_UNSYNC == 0;
    is_synchronised.then(|| u64::try_from(timex.maxerror).unwrap_or(0).saturating_mul(1000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clocks_are_read_at_one_moment() {
        let before = monotonic_ns();
        let reading = read_clocks();
        let after = monotonic_ns();
        assert!(reading.monotonic_ns - reading.within_ns >= before);
        assert!(reading.monotonic_ns.saturating_sub(reading.within_ns) <= after);
        assert!(reading.boottime_ns + reading.within_ns >= reading.monotonic_ns - reading.within_ns);
        assert_eq!(reading.tsc != 0, cfg!(target_arch = "x86_64"));
    }
}
