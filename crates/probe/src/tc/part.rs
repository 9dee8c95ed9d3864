//! The set `tc`'s part of a recording: its hooks, and a thread that ends paths, follows the devices that come and go, and
//! detaches the hooks.

use std::{
    sync::atomic::Ordering,
    thread,
    time::{Duration, Instant},
};

use anyhow::Result;

use super::{hooks::Hooks, sweeper::Sweeper};
use crate::{
    filter::FilterOptions,
    late_probes::LateProbes,
    load::Loader,
    sys::capabilities::{CAP_BPF, CAP_NET_ADMIN, CAP_SYS_ADMIN, CAP_SYS_PTRACE, Number},
    worker::Worker,
};

/// No packet lies in a queue between two hooks for so long.
const IDLE: Duration = Duration::from_secs(10);
const INTERVAL: Duration = Duration::from_millis(500);
const POLL: Duration = Duration::from_millis(50);
/// How often devices are looked for; and that takes no more than this part of the time, however many there are.
const SEARCH_INTERVAL: Duration = Duration::from_secs(1);
const SEARCH_SHARE: u32 = 50;

/// To load and attach programs, and to find and enter the namespaces that devices are in.
const CAPABILITIES: [Number; 4] = [CAP_BPF, CAP_NET_ADMIN, CAP_SYS_ADMIN, CAP_SYS_PTRACE];

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
    pub fn start(self, late_probes: LateProbes) -> Result<Worker> {
        Worker::start("tc", &CAPABILITIES, move |stop| {
            let Part { mut hooks, mut sweeper } = self;
            let (mut swept, mut search_at) = (Instant::now(), Instant::now() + SEARCH_INTERVAL);
            let mut sweep = |idle| {
                if let Err(error) = sweeper.sweep(idle) {
                    tracing::warn!("paths without a seen end are missing: {error:#}");
                }
            };
            while !stop.load(Ordering::Relaxed) {
                thread::sleep(POLL);
                if swept.elapsed() >= INTERVAL {
                    swept = Instant::now();
                    sweep(IDLE);
                }
                let begin = Instant::now();
                if begin >= search_at {
                    late_probes.with_loader(|loader| hooks.follow(loader));
                    search_at = begin + SEARCH_INTERVAL.max(begin.elapsed() * SEARCH_SHARE);
                }
            }
            sweep(Duration::ZERO);
            drop(hooks);
        })
    }
}
