//! What is done beside the reading of records, on threads of their own that tell the reader what to write.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
};

use anyhow::Result;

use overlay_trace_format::{HopName, Names, SeenLater};

/// What has come up.
pub enum News {
    /// Stages that are seen from now on.
    Stages(Vec<SeenLater>),
    /// Names of addresses in the kernel, or of reasons of drops.
    Names(Names),
    /// Hops, or better names of known ones.
    Hops(Vec<(u16, HopName)>),
}

/// A thread at work, until this is dropped.
pub struct Working {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Working {
    /// Goes to work. When the flag is set the work is to be finished.
    ///
    /// # Errors
    ///
    /// If there can be no more threads.
    pub fn start(name: &str, work: impl FnOnce(&AtomicBool) + Send + 'static) -> Result<Working> {
        let stop = Arc::new(AtomicBool::new(false));
        let is_over = stop.clone();
        let thread = thread::Builder::new().name(name.into()).spawn(move || work(&is_over))?;
        Ok(Working { stop, thread: Some(thread) })
    }
}

impl Drop for Working {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // What it could not do it has told.
            let _ = thread.join();
        }
    }
}
