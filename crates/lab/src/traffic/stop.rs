//! The wish to stop, shared by all threads of a run.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, ensure};

/// Set once, by a signal or by whoever holds a clone; seen by everyone who holds one.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// A stop that only [`Stop::set`] sets.
    pub fn new() -> Stop {
        Stop::default()
    }

    /// A stop that SIGINT, SIGTERM and SIGHUP set too. From then on these signals no longer end the
    /// process: whoever holds the stop has to look at it.
    ///
    /// # Errors
    ///
    /// When the kernel refuses the signal handlers.
    pub fn on_signals() -> Result<Stop> {
        let stop = Stop::new();
        for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
            signal_hook::flag::register(signal, Arc::clone(&stop.0))
                .context("cannot catch the signals that end this program")?;
        }
        Ok(stop)
    }

    /// Stops.
    pub fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether it is time to stop.
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Fails when it is time to stop.
    ///
    /// # Errors
    ///
    /// "Interrupted."
    pub fn check(&self) -> Result<()> {
        ensure!(!self.is_set(), "interrupted");
        Ok(())
    }
}
