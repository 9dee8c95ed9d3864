//! A real daemon of a lab: a process that lives as long as the lab.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{self, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use nix::sys::prctl;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{Netns, tools};
use crate::traffic::Stop;

/// What tells the folders of this process's daemons apart.
static NUMBER: AtomicU32 = AtomicU32::new(0);
/// How often the process is looked at.
const LOOK: Duration = Duration::from_millis(50);

/// BIRD in a namespace, which runs until this is dropped.
#[derive(Debug)]
pub struct Bird {
    stop: Stop,
    thread: Option<JoinHandle<()>>,
    folder: PathBuf,
}

impl Bird {
    /// Starts it with this configuration. A namespace may have several, as Calico's nodes have one for each family.
    pub fn start(netns: &Netns, configuration: &str) -> Result<Bird> {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("{}-bird{number}", netns.name()));
        fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
        let stop = Stop::new();
        let mut bird = Bird { stop, thread: None, folder };
        let file = bird.folder.join("bird.conf");
        fs::write(&file, configuration).with_context(|| format!("cannot write {}", file.display()))?;
        tools::run(tools::command("bird")?.arg("-p").arg("-c").arg(&file))?;
        let mut command = tools::command("bird")?;
        command.arg("-f").arg("-c").arg(&file).arg("-s").arg(bird.folder.join("bird.ctl"));
        let (netns, stop) = (netns.clone(), bird.stop.clone());
        let (started, is_started) = mpsc::channel();
        let watch = move || {
            let outcome = netns.run(|| watch(command, &stop, &started)).and_then(|outcome| outcome);
            // Whoever waits for the start hears of a failure; a process that ends later is seen by its routes.
            let _ = started.send(outcome);
        };
        bird.thread = Some(thread::Builder::new().name("bird".into()).spawn(watch)?);
        is_started.recv().map_err(|_| anyhow!("bird was not started"))??;
        Ok(bird)
    }
}

impl Drop for Bird {
    fn drop(&mut self) {
        self.stop.set();
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has already said so.
            let _ = thread.join();
        }
        // The folder is only of use to the process.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Starts the process, says so, and ends it when it is time. Its death signal is tied to the thread that starts
/// it, which is why this thread stays.
fn watch(mut command: Command, stop: &Stop, started: &Sender<Result<()>>) -> Result<()> {
    let parent = nix::unistd::getpid();
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    // SAFETY: between fork and exec only system calls are made.
    unsafe {
        command.pre_exec(move || {
            // Not left behind when this process is killed.
            prctl::set_pdeathsig(Signal::SIGKILL)?;
            if nix::unistd::getppid() == parent { Ok(()) } else { Err(nix::Error::ESRCH.into()) }
        });
    }
    let mut child = command.spawn().context("cannot start bird")?;
    let _ = started.send(Ok(()));
    while !stop.is_set() {
        if child.try_wait()?.is_some() {
            return Ok(());
        }
        thread::sleep(LOOK);
    }
    kill(Pid::from_raw(child.id() as i32), Signal::SIGTERM)?;
    child.wait()?;
    Ok(())
}
