//! What the monitor itself costs.

use nix::sys::{
    resource::{UsageWho, getrusage},
    time::TimeValLike,
};

/// CPU time of this process so far, in s.
pub(super) fn cpu_seconds() -> f64 {
    let Ok(usage) = getrusage(UsageWho::RUSAGE_SELF) else { return 0.0 };
    (usage.user_time().num_microseconds() + usage.system_time().num_microseconds()) as f64 / 1e6
}
