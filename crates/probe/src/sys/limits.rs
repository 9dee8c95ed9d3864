//! Limits of resources that recording needs.

use anyhow::{Result, ensure};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Descriptors besides those of probes: maps, the recording, threads, the standard streams.
const OTHERS: u64 = 128;

/// `RLIMIT_NICE` with which a thread may go back to the ordinary priority, nice 0, without CAP_SYS_NICE.
const ORDINARY: u64 = 20;

/// The limits that recording changes, as this process was started with them: a command that it runs gets them back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    open_files: Limit,
    priority: Limit,
}

impl Limits {
    /// The limits now.
    pub fn now() -> Limits {
        Limits { open_files: Limit::of(Resource::RLIMIT_NOFILE), priority: Limit::of(Resource::RLIMIT_NICE) }
    }

    /// Sets them for this process.
    ///
    /// # Errors
    ///
    /// The kernel's error.
    pub fn set(self) -> nix::Result<()> {
        self.open_files.set(Resource::RLIMIT_NOFILE)?;
        self.priority.set(Resource::RLIMIT_NICE)
    }
}

/// A soft and a hard limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Limit {
    soft: u64,
    hard: u64,
}

impl Limit {
    fn of(resource: Resource) -> Limit {
        let (soft, hard) = getrlimit(resource).unwrap_or((u64::MAX, u64::MAX));
        Limit { soft, hard }
    }

    fn set(self, resource: Resource) -> nix::Result<()> {
        setrlimit(resource, self.soft, self.hard)
    }
}

/// Lets the threads of this process go back to the ordinary priority without CAP_SYS_NICE. That needs CAP_SYS_RESOURCE;
/// where it is missing, nothing changes.
pub fn allow_priority() {
    let now = Limit::of(Resource::RLIMIT_NICE);
    if now.soft < ORDINARY {
        let _ = Limit { soft: ORDINARY, hard: now.hard.max(ORDINARY) }.set(Resource::RLIMIT_NICE);
    }
}

/// Whether a thread may go back to the ordinary priority without CAP_SYS_NICE.
pub fn is_priority_allowed() -> bool {
    Limit::of(Resource::RLIMIT_NICE).soft >= ORDINARY
}

/// Raises the limit of open files so that so many probes can be attached, and before it is known how many those are (0), so
/// that maps can be created.
///
/// # Errors
///
/// The hard limit does not allow it.
pub fn allow_probes(probes: usize) -> Result<()> {
    let now = Limit::of(Resource::RLIMIT_NOFILE);
    let Some(raised) = now.raised_for(probes) else { return Ok(()) };
    let what = match probes {
        0 => "recording needs".to_owned(),
        _ => format!("{probes} probes need"),
    };
    // CAP_SYS_RESOURCE lets the hard limit be raised too.
    ensure!(
        raised.set(Resource::RLIMIT_NOFILE).is_ok(),
        "{what} {needed} open files, and the limit is {}: raise it with `ulimit -Hn {needed}`",
        now.hard,
        needed = raised.soft
    );
    Ok(())
}

impl Limit {
    /// What so many probes need: each may have two programs, with a link and an event of the kernel's. `None` where the
    /// limits allow it.
    fn raised_for(self, probes: usize) -> Option<Limit> {
        let needed = 6 * probes as u64 + OTHERS;
        (self.soft < needed).then_some(Limit { soft: needed, hard: self.hard.max(needed) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_is_raised_to_what_is_needed() {
        let limits = |soft, hard| Limit { soft, hard };
        assert_eq!(limits(64, 4096).raised_for(10), Some(limits(60 + OTHERS, 4096)));
        assert_eq!(limits(64, 64).raised_for(10), Some(limits(60 + OTHERS, 60 + OTHERS)));
        assert_eq!(limits(1024, 4096).raised_for(10), None);
        assert_eq!(limits(20, 4096).raised_for(0), Some(limits(OTHERS, 4096)));
    }
}
