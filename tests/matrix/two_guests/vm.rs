//! The guests' virtual machines.

use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use overlay_trace_probe::ProbeSet;

/// How long a guest is stopped, with its clock.
const PAUSE: Duration = Duration::from_millis(2170);
/// So long after that it goes on: it has read the command.
const RESUMED: Duration = Duration::from_millis(200);

/// How virtual machines are started.
#[derive(Clone, Copy)]
pub struct Vms<'a> {
    /// The program xtask.
    pub xtask: &'a Path,
    pub kernel: &'a str,
}

/// Where a guest is to run.
pub struct Machine<'a> {
    pub number: u8,
    pub netns: String,
    pub folder: &'a Path,
    /// The folder of what is shared by memory, and of the monitors.
    pub memory: &'a Path,
}

impl Machine<'_> {
    /// Starts it.
    pub fn start(&self, set: ProbeSet, vms: Vms<'_>) -> Result<Guest> {
        let Machine { number, netns, folder, memory } = self;
        let log = folder.join(format!("guest{number}.log"));
        let output = fs::File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        // Should this process be killed, the guest goes with it.
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "TERM"])
            .arg(vms.xtask)
            .args(["vm", vms.kernel, "--nic", "virtio", "--netns", netns, "--memory", "2G"])
            .args([OsStr::new("--share"), folder.as_os_str()])
            .args([OsStr::new("--shared-memory"), memory.join(format!("guest{number}")).as_os_str()])
            .args([OsStr::new("--monitor"), memory.join(format!("monitor{number}")).as_os_str()])
            .arg("--")
            .arg(std::env::current_exe().context("this program cannot be found")?)
            .args(["--set", set.name(), "--guest", &number.to_string(), "--keep"])
            .arg(folder)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .context("cannot start a virtual machine")?;
        Ok(Guest { number: *number, child, log })
    }
}

/// A virtual machine that runs the guest's part.
pub struct Guest {
    number: u8,
    child: Child,
    log: PathBuf,
}

impl Guest {
    /// Fails if it has ended.
    pub fn check(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            // It ends when it has done its part.
            None => Ok(()),
            Some(status) if status.success() => Ok(()),
            Some(status) => bail!("guest{} has ended ({status}): {}", self.number, self.said()),
        }
    }

    fn said(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        text.lines().rev().take(5).collect::<Vec<_>>().into_iter().rev().collect::<Vec<_>>().join("; ")
    }

    /// Waits for its end.
    pub fn end(mut self) -> Result<()> {
        let status = self.child.wait().context("cannot wait for a virtual machine")?;
        ensure!(status.success(), "guest{} has failed ({status}): {}", self.number, self.said());
        Ok(())
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        // It ends its machine when it is asked to; of one that has ended this is nothing.
        if matches!(self.child.try_wait(), Ok(None)) {
            let id = nix::unistd::Pid::from_raw(self.child.id() as i32);
            let _ = nix::sys::signal::kill(id, nix::sys::signal::Signal::SIGTERM);
            let _ = self.child.wait();
        }
    }
}

/// Stops a machine and its clock for a while.
pub fn pause(monitor: &Path) -> Result<()> {
    let mut monitor = UnixStream::connect(monitor).context("the virtual machine takes no commands")?;
    monitor.write_all(b"stop\n")?;
    thread::sleep(PAUSE);
    monitor.write_all(b"cont\n")?;
    // It goes on when it has read the command.
    thread::sleep(RESUMED);
    Ok(())
}
