//! The true difference of a guest's and this machine's clock, by memory that both share (ivshmem) and no packet.
//!
//! This machine writes a number; the guest answers with its clock, which it has read between this machine's two readings.

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use overlay_trace_merge::clock::{Clock, clock_of};
use overlay_trace_merge::polygon::Constraint;
use overlay_trace_probe::sys::clock::monotonic_ns;

/// What QEMU's device is given.
pub const BYTES: u64 = 1 << 20;
/// Identifiers of ivshmem on the PCI bus.
const VENDOR: &str = "0x1af4";
const DEVICE: &str = "0x1110";
/// Between two looks at the memory while nothing is asked.
const IDLE: Duration = Duration::from_millis(2);
/// So long after a question the guest looks at the memory without a break.
const ATTENTIVE: Duration = Duration::from_millis(5);
/// For so long this machine asks again and again, until an answer came within so many ns; the tightest one counts.
const ASKING: Duration = Duration::from_millis(100);
const TIGHT_NS: u64 = 5_000;
/// How long it waits for an answer.
const PATIENCE: Duration = Duration::from_millis(500);

/// The beginning of the memory.
#[repr(C)]
struct Words {
    question: AtomicU64,
    answer: AtomicU64,
    answered_ns: AtomicU64,
}

/// The shared memory; it is mapped until the process ends.
#[derive(Clone, Copy)]
pub struct Shared(&'static Words);

impl Shared {
    /// Of this file, which has [`BYTES`].
    pub fn of_file(path: &Path) -> Result<Shared> {
        let file = File::options().read(true).write(true).open(path);
        let file = file.with_context(|| format!("cannot open {}", path.display()))?;
        // SAFETY: a new mapping of a whole page that is never unmapped; all zeroes are valid atomics, and both sides
        // reach them as atomics alone.
        let words = unsafe {
            let page = libc::mmap(
                std::ptr::null_mut(),
                size_of::<Words>(),
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                file.as_raw_fd(),
                0,
            );
            ensure!(page != libc::MAP_FAILED, "cannot map {}", path.display());
            &*page.cast::<Words>()
        };
        Ok(Shared(words))
    }

    /// Of the guest's device.
    pub fn of_device() -> Result<Shared> {
        let devices = fs::read_dir("/sys/bus/pci/devices").context("there is no PCI bus")?;
        let is_it = |folder: &PathBuf| {
            let has = |file: &str, value: &str| {
                fs::read_to_string(folder.join(file)).is_ok_and(|text| text.trim() == value)
            };
            has("vendor", VENDOR) && has("device", DEVICE)
        };
        let folder = devices.flatten().map(|entry| entry.path()).find(is_it);
        let folder = folder.context("the guest has no shared memory")?;
        fs::write(folder.join("enable"), "1").context("cannot enable the shared memory's device")?;
        Shared::of_file(&folder.join("resource2"))
    }

    /// Answers until it is to stop.
    pub fn answer(self, stop: &AtomicBool) {
        let (mut last, mut asked) = (self.0.question.load(Ordering::Acquire), Instant::now());
        while !stop.load(Ordering::Relaxed) {
            let question = self.0.question.load(Ordering::Acquire);
            if question != last {
                self.0.answered_ns.store(monotonic_ns(), Ordering::Relaxed);
                self.0.answer.store(question, Ordering::Release);
                (last, asked) = (question, Instant::now());
            } else if asked.elapsed() > ATTENTIVE {
                thread::sleep(IDLE);
            } else {
                std::hint::spin_loop();
            }
        }
    }

    /// Asks for the guest's clock; `None` if it does not answer.
    pub fn ask(self) -> Option<Reading> {
        let begin = Instant::now();
        let mut tightest: Option<Reading> = None;
        while begin.elapsed() < ASKING && tightest.is_none_or(|reading| reading.width_ns() > TIGHT_NS) {
            let reading = self.ask_once()?;
            if tightest.is_none_or(|tightest| reading.width_ns() < tightest.width_ns()) {
                tightest = Some(reading);
            }
        }
        tightest
    }

    fn ask_once(self) -> Option<Reading> {
        let question = self.0.question.load(Ordering::Relaxed) + 1;
        let (before_ns, begin) = (monotonic_ns(), Instant::now());
        self.0.question.store(question, Ordering::Release);
        while self.0.answer.load(Ordering::Acquire) != question {
            if begin.elapsed() > PATIENCE {
                return None;
            }
            std::hint::spin_loop();
        }
        let guest_ns = self.0.answered_ns.load(Ordering::Relaxed);
        Some(Reading { before_ns, guest_ns, after_ns: monotonic_ns() })
    }
}

/// The guest's clock, and this machine's before and after it was read.
#[derive(Clone, Copy, Debug)]
pub struct Reading {
    pub before_ns: u64,
    pub guest_ns: u64,
    pub after_ns: u64,
}

impl Reading {
    /// How much is not known of the moment.
    pub fn width_ns(&self) -> u64 {
        self.after_ns - self.before_ns
    }

    /// What is added to the guest's clock to get this machine's, at least and at most, in ns.
    pub fn offset(&self) -> (i128, i128) {
        let since_guest = |ns: u64| i128::from(ns) - i128::from(self.guest_ns);
        (since_guest(self.before_ns), since_guest(self.after_ns))
    }
}

/// What readings leave of the line between both clocks.
pub fn line(readings: &[Reading]) -> Option<Clock> {
    let bounds = |reading: &Reading| {
        let bound = |ns: u64, is_upper| Constraint {
            own_ns: reading.guest_ns.into(),
            reference_ns: ns.into(),
            is_upper,
        };
        [bound(reading.after_ns, true), bound(reading.before_ns, false)]
    };
    clock_of(readings.iter().flat_map(bounds).collect())
}

/// What is added to the guest's clock at a moment, at least and at most, in ns; `None` where the guest may have been stopped.
pub fn at(line: &Clock, ns: u64) -> Option<(i128, i128)> {
    let epoch = line.epoch_of(ns);
    if line.epochs.get(epoch + 1).is_some() && ns > line.epochs[epoch].last_ns {
        return None;
    }
    let offset = line.map(ns)? - i128::from(ns);
    let (late, early) = line.uncertainty(ns);
    Some((offset - i128::from(late), offset + i128::from(early)))
}
