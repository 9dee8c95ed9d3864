//! The attached programs of a recording, and how often the kernel skipped them.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::{load::Attached, probe_kind::ProbeKind, sys::kernel};

/// From this version on the kernel counts the kprobe programs that it skips.
const KPROBE_MISSES_SINCE: (u32, u32) = (6, 7);

/// How often the kernel skipped probes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Misses {
    /// The sum over the probes for which the kernel counts; `None` if there are none.
    pub counted: Option<u64>,
    /// Probes for which it does not count.
    pub uncounted_probes: u64,
}

/// The attached programs; more are added when modules are loaded.
#[derive(Clone, Default)]
pub struct Probes(Arc<Mutex<Vec<Attached>>>);

impl Probes {
    /// Takes over these programs.
    pub fn new(attached: Vec<Attached>) -> Probes {
        Probes(Arc::new(Mutex::new(attached)))
    }

    /// All of them, locked for as long as this is held.
    pub fn all(&self) -> MutexGuard<'_, Vec<Attached>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How often the kernel skipped a probe so far.
    pub fn misses(&self) -> Misses {
        let all = self.all();
        let is_counted = |attached: &&Attached| {
            attached.attachment.kind != ProbeKind::Kprobe || kernel::at_least(KPROBE_MISSES_SINCE)
        };
        let (counted, uncounted): (Vec<&Attached>, Vec<&Attached>) = all.iter().partition(is_counted);
        let sum = (!counted.is_empty()).then(|| counted.iter().map(|attached| attached.misses()).sum());
        Misses { counted: sum, uncounted_probes: uncounted.len() as u64 }
    }
}
