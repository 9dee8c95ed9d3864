//! The routing daemon BIRD as part of a lab.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{self, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::netns::Netns;
use super::{private_folder, tools};
use crate::traffic::Stop;

/// Makes the folder names of this process's daemons unique.
static NEXT_NUMBER: AtomicU32 = AtomicU32::new(0);
/// The interval at which the process and the stop flag are checked.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// A BIRD process in a namespace, which runs until this value is dropped.
#[derive(Debug)]
pub struct Bird {
    stop: Stop,
    thread: Option<JoinHandle<()>>,
    folder: PathBuf,
}

impl Bird {
    /// Starts it with this configuration. A namespace may run several, as a Calico node runs one per IP family. Its files
    /// are in a folder of its own in `lab_folder`.
    pub fn start(netns: &Netns, configuration: &str, lab_folder: &Path) -> Result<Bird> {
        let number = NEXT_NUMBER.fetch_add(1, Ordering::Relaxed);
        let folder = lab_folder.join(format!("{}-bird{number}", netns.name()));
        private_folder::create(&folder)?;
        let stop = Stop::new();
        let mut bird = Bird { stop, thread: None, folder };
        let file = bird.folder.join("bird.conf");
        private_folder::write_new(&file, configuration.as_bytes())?;
        tools::run(tools::command("bird")?.arg("-p").arg("-c").arg(&file))?;
        let mut command = tools::command("bird")?;
        command.arg("-f").arg("-c").arg(&file).arg("-s").arg(bird.folder.join("bird.ctl"));
        let (netns, stop) = (netns.clone(), bird.stop.clone());
        let (started, is_started) = mpsc::channel();
        let watch = move || {
            let outcome = netns.run(|| watch(command, &stop, &started)).and_then(|outcome| outcome);
            // `start` receives a failure to start. If the process exits later, its routes disappear.
            let _ = started.send(outcome);
        };
        bird.thread = Some(thread::Builder::new().name("bird".into()).spawn(watch)?);
        is_started.recv().map_err(|_| anyhow!("cannot start bird"))??;
        Ok(bird)
    }
}

impl Drop for Bird {
    fn drop(&mut self) {
        self.stop.set();
        if let Some(thread) = self.thread.take() {
            // A panic has already been reported on standard error.
            let _ = thread.join();
        }
        // Only the process uses it.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Starts the process, reports that, and terminates it on `stop`. Its death signal is tied to the thread that
/// spawns it, so this thread has to wait for it.
fn watch(mut command: Command, stop: &Stop, started: &Sender<Result<()>>) -> Result<()> {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    tools::kill_with_parent(&mut command);
    let mut child = command.spawn().context("cannot start bird")?;
    let _ = started.send(Ok(()));
    while !stop.is_set() {
        if child.try_wait()?.is_some() {
            return Ok(());
        }
        thread::sleep(POLL_INTERVAL);
    }
    kill(Pid::from_raw(child.id() as i32), Signal::SIGTERM)?;
    child.wait()?;
    Ok(())
}
