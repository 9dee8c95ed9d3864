//! The stop flag, shared by all threads of a run.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

/// The interval at which the server's waiting threads check the stop flag.
pub(super) const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// A flag that is set once, by a signal or through any clone.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// A flag that only [`Stop::set`] sets.
    pub fn new() -> Stop {
        Stop::default()
    }

    /// A flag that SIGINT, SIGTERM and SIGHUP set too. From then on these signals no longer terminate the process:
    /// its threads have to check the flag.
    ///
    /// # Errors
    ///
    /// When the kernel refuses the signal handlers.
    pub fn on_signals() -> Result<Stop> {
        let stop = Stop::new();
        for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
            signal_hook::flag::register(signal, Arc::clone(&stop.0))
                .context("cannot install the signal handlers")?;
        }
        Ok(stop)
    }

    /// Sets the flag.
    pub fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether the flag is set.
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
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
