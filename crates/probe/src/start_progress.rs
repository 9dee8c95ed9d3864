//! How far the start of a recording has come.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// Shared by the thread that starts a recording and one that shows its progress.
#[derive(Clone, Debug, Default)]
pub struct StartProgress(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    done: AtomicUsize,
    all: AtomicUsize,
}

impl StartProgress {
    /// How many points of the kernel have been probed or found impossible to probe, of how many; 0 of 0 before their number
    /// is known.
    pub fn points(&self) -> (usize, usize) {
        (self.0.done.load(Ordering::Relaxed), self.0.all.load(Ordering::Relaxed))
    }

    pub(crate) fn begin(&self, points: usize) {
        self.0.all.store(points, Ordering::Relaxed);
    }

    pub(crate) fn step(&self) {
        self.0.done.fetch_add(1, Ordering::Relaxed);
    }
}
