//! The set `tc`'s part of a recording: its hooks, and a thread that ends paths and detaches the hooks.

use std::{
    sync::atomic::Ordering,
    thread,
    time::{Duration, Instant},
};

use anyhow::Result;

use super::{hooks::Hooks, sweeper::Sweeper};
use crate::{
    filter::FilterOptions,
    load::Loader,
    sys::capabilities::{CAP_BPF, CAP_NET_ADMIN, CAP_SYS_ADMIN},
    worker::Worker,
};

/// No packet lies in a queue between two hooks for so long.
const IDLE: Duration = Duration::from_secs(10);
const INTERVAL: Duration = Duration::from_millis(500);
const POLL: Duration = Duration::from_millis(50);

/// Attached hooks, and what ends paths.
pub struct Part {
    hooks: Hooks,
    sweeper: Sweeper,
}

impl Part {
    /// Attaches the hooks. The packet table has `states` entries.
    ///
    /// # Errors
    ///
    /// A device cannot be found, or the kernel refuses a hook or the program that removes what has expired.
    pub fn attach(
        loader: &mut Loader,
        filter: &FilterOptions,
        clsact_only: bool,
        states: u32,
    ) -> Result<Part> {
        let hooks = Hooks::attach(loader, filter, clsact_only)?;
        Ok(Part { hooks, sweeper: Sweeper::new(loader, states)? })
    }

    /// How many hooks are attached.
    pub fn count(&self) -> usize {
        self.hooks.count()
    }

    /// Why packets cannot be seen at some sides of devices.
    pub fn unseen(&self) -> &[String] {
        &self.hooks.unseen
    }

    /// Starts the thread. Told to end, when no more paths start, it ends the paths of all packets and detaches the
    /// hooks: the thread that stops a recording may not do that any more.
    ///
    /// # Errors
    ///
    /// The thread cannot be created.
    pub fn start(self) -> Result<Worker> {
        Worker::start("tc", &[CAP_BPF, CAP_NET_ADMIN, CAP_SYS_ADMIN], move |stop| {
            let Part { hooks, mut sweeper } = self;
            let mut last = Instant::now();
            let mut sweep = |idle| {
                if let Err(error) = sweeper.sweep(idle) {
                    tracing::warn!("paths without a seen end are missing: {error:#}");
                }
            };
            while !stop.load(Ordering::Relaxed) {
                thread::sleep(POLL);
                if last.elapsed() >= INTERVAL {
                    last = Instant::now();
                    sweep(IDLE);
                }
            }
            sweep(Duration::ZERO);
            drop(hooks);
        })
    }
}
