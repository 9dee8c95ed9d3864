//! Threads that work beside the one that reads the ring buffer.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
};

use anyhow::Result;

use crate::sys::capabilities::{Number, drop_in_thread};

/// A thread that works until this is dropped, which waits for it.
pub struct Worker {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    /// Starts a thread that keeps these capabilities only. `work` returns soon after its flag is set.
    ///
    /// # Errors
    ///
    /// The thread cannot be created.
    pub fn start(
        name: &'static str,
        kept: &[Number],
        work: impl FnOnce(&AtomicBool) + Send + 'static,
    ) -> Result<Worker> {
        let stop = Arc::new(AtomicBool::new(false));
        let flag = stop.clone();
        let kept = kept.to_vec();
        let thread = thread::Builder::new().name(name.into()).spawn(move || {
            drop_in_thread(name, &kept);
            work(&flag);
        })?;
        Ok(Worker { stop, thread: Some(thread) })
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A worker reports what fails itself.
            let _ = thread.join();
        }
    }
}
