//! The stop flag, shared by all threads of a run.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;

/// The interval at which the server's waiting threads check the stop flag.
pub(super) const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// Whether this process was started with SIGHUP ignored, as `nohup` does: it is to outlive its terminal.
pub fn is_hangup_ignored() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    ignored & 1 << (libc::SIGHUP - 1) != 0
}

/// A flag that is set by a signal or through any clone. It holds the number of the signal, and 0 while it is not set.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<AtomicUsize>);

impl Stop {
    /// A flag that only [`Stop::set`] sets.
    pub fn new() -> Stop {
        Stop::default()
    }

    /// A flag that SIGINT, SIGQUIT, SIGTERM and SIGHUP set too. From then on these signals no longer terminate the
    /// process: its threads have to check the flag. Under `nohup` SIGHUP stays ignored.
    ///
    /// # Errors
    ///
    /// When the kernel refuses the signal handlers.
    pub fn on_signals() -> Result<Stop> {
        let stop = Stop::new();
        let hangup = (!is_hangup_ignored()).then_some(libc::SIGHUP);
        for signal in [libc::SIGINT, libc::SIGQUIT, libc::SIGTERM].into_iter().chain(hangup) {
            signal_hook::flag::register_usize(signal, Arc::clone(&stop.0), signal as usize)
                .context("cannot install the signal handlers")?;
        }
        Ok(stop)
    }

    /// Sets the flag, as SIGTERM does.
    pub fn set(&self) {
        self.0.store(libc::SIGTERM as usize, Ordering::Relaxed);
    }

    /// Whether the flag is set.
    pub fn is_set(&self) -> bool {
        self.signal().is_some()
    }

    /// The signal that has set the flag.
    pub fn signal(&self) -> Option<Signal> {
        Signal::try_from(self.0.load(Ordering::Relaxed) as i32).ok()
    }

    /// Fails when the flag is set.
    ///
    /// # Errors
    ///
    /// "Interrupted."
    pub fn check(&self) -> Result<()> {
        ensure!(!self.is_set(), "interrupted");
        Ok(())
    }
}
