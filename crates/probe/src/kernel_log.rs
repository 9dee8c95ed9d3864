//! What a kernel side that was built with a log says of oddities (`cargo xtask build-ebpf --kernel-log`).

use std::{
    io::{Write, stderr},
    sync::atomic::Ordering,
    thread,
    time::Duration,
};

use anyhow::{Context, Result};
use aya_log::EbpfLogger;
use overlay_trace_format::printable;

use crate::{load::Loader, worker::Worker};

const INTERVAL: Duration = Duration::from_millis(100);

/// Prints messages to standard error, one a line.
struct Printer;

impl log::Log for Printer {
    fn enabled(&self, _: &log::Metadata) -> bool {
        true
    }

    fn log(&self, record: &log::Record) {
        // Nobody may read it any more.
        let _ = writeln!(stderr(), "kernel: {}", printable(&record.args().to_string()));
    }

    fn flush(&self) {}
}

/// Prints the kernel side's messages until the worker is dropped.
///
/// # Errors
///
/// The kernel side was built without a log.
pub fn start(loader: &mut Loader) -> Result<Worker> {
    let mut logger = EbpfLogger::init_with_logger(&mut loader.maps, Printer).context(
        "the kernel programs of this build have no log: run `cargo xtask build-ebpf --kernel-log` and build again",
    )?;
    Worker::start("kernel-log", &[], move |stop| {
        loop {
            let is_last = stop.load(Ordering::Relaxed);
            logger.flush();
            if is_last {
                return;
            }
            thread::sleep(INTERVAL);
        }
    })
}
