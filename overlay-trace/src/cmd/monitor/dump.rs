//! The packets that a monitor keeps, written out: when somebody wants it, or when a packet was slow.

use std::{
    fs,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, SystemTime},
};

use anyhow::{Context, Result};
use overlay_trace_format::check_folder;
use overlay_trace_lab::say;

use super::RING;

/// Between two that are written by themselves.
const INTERVAL: Duration = Duration::from_secs(300);
/// So many of these stay.
const STAY: usize = 8;
const PREFIX: &str = "slow-";

#[derive(clap::Args)]
pub(super) struct Dump {
    /// Recording to write
    #[arg(short, long, default_value = "overlay-trace.otr", value_name = "FILE")]
    output: PathBuf,
    /// Overwrite the recording if it exists
    #[arg(long)]
    force: bool,
    /// Folder in which the monitor keeps its packets
    #[arg(long, value_name = "FOLDER", default_value = RING)]
    ring: PathBuf,
}

impl Dump {
    pub fn run(self) -> Result<ExitCode> {
        overlay_trace_format::check_output(&self.output, self.force)?;
        let (packets, ns) = overlay_trace_format::dump(&self.ring, &self.output, self.force)?;
        say(&format!("{packets} packets of {:.1} s in {}", ns as f64 / 1e9, self.output.display()));
        Ok(ExitCode::SUCCESS)
    }
}

/// Writes what is kept to a recording when a packet was slow.
pub(super) struct Dumps {
    above: Duration,
    ring: PathBuf,
    folder: PathBuf,
    last: Option<Duration>,
    thread: Option<JoinHandle<()>>,
    written: Arc<AtomicU64>,
    failed: Arc<AtomicU64>,
}

impl Dumps {
    pub fn new(above: Duration, ring: PathBuf, folder: PathBuf) -> Dumps {
        let (written, failed) = Default::default();
        Dumps { above, ring, folder, last: None, thread: None, written, failed }
    }

    /// How many were written, and could not be.
    pub fn counts(&self) -> (u64, u64) {
        (self.written.load(Ordering::Relaxed), self.failed.load(Ordering::Relaxed))
    }

    /// Begins to write if the slowest packet took too long, unless that has just been done.
    pub fn look(&mut self, slowest_ns: u64, now: Duration) {
        let is_early = self.last.is_some_and(|last| now.saturating_sub(last) < INTERVAL);
        let is_writing = self.thread.as_ref().is_some_and(|thread| !thread.is_finished());
        if is_early || is_writing || Duration::from_nanos(slowest_ns) <= self.above {
            return;
        }
        self.last = Some(now);
        say(&format!("a packet took {:.1} ms: the last packets are written out", slowest_ns as f64 / 1e6));
        let (ring, folder) = (self.ring.clone(), self.folder.clone());
        let (written, failed) = (Arc::clone(&self.written), Arc::clone(&self.failed));
        let work = move || match write(&ring, &folder) {
            Ok(file) => {
                written.fetch_add(1, Ordering::Relaxed);
                say(&format!("the last packets are in {}", file.display()));
            }
            Err(error) => {
                failed.fetch_add(1, Ordering::Relaxed);
                say(&format!("the last packets could not be written out: {error:#}"));
            }
        };
        self.thread = std::thread::Builder::new().name("dump".into()).spawn(work).ok();
    }
}

/// Writes a recording, and removes the oldest of those that were written so.
fn write(ring: &Path, folder: &Path) -> Result<PathBuf> {
    let shown = folder.display();
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .with_context(|| format!("cannot create the folder {shown}"))?;
    check_folder(folder).with_context(|| format!("the folder {shown} cannot be used"))?;
    let time = humantime::format_rfc3339_seconds(SystemTime::now()).to_string().replace(':', "");
    let file = folder.join(format!("{PREFIX}{time}.otr"));
    overlay_trace_format::dump(ring, &file, true)?;
    let is_ours = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        name.starts_with(PREFIX) && name.ends_with(".otr")
    };
    let entries = fs::read_dir(folder)?.flatten().map(|entry| entry.path());
    let mut files: Vec<PathBuf> = entries.filter(is_ours).collect();
    // Their names are times.
    files.sort();
    for old in files.iter().take(files.len().saturating_sub(STAY)) {
        fs::remove_file(old)?;
    }
    Ok(file)
}
