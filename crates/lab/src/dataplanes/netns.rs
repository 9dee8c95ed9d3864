//! Named network namespaces (`ip netns`).

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::thread;

use anyhow::{Context, Result, bail, ensure};
use nix::mount::umount;
use nix::sched::{CloneFlags, setns, unshare};

use super::tools;

/// The directory of `ip netns`.
const DIRECTORY: &str = "/run/netns";

/// A network namespace with a name of `ip netns`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Netns {
    name: String,
}

impl Netns {
    /// The existing namespace of this name.
    ///
    /// # Errors
    ///
    /// When there is none.
    pub fn named(name: &str) -> Result<Netns> {
        let netns = Netns { name: name.to_string() };
        ensure!(
            !name.is_empty() && !name.contains('/') && netns.path().exists(),
            "there is no network namespace '{name}': `ip netns` lists them"
        );
        Ok(netns)
    }

    /// The namespace of this file in the directory.
    pub(super) fn at(path: &Path) -> Result<Netns> {
        let name =
            path.file_name().and_then(|name| name.to_str()).context("this is no name of a namespace")?;
        Netns::named(name)
    }

    /// Creates it.
    ///
    /// # Errors
    ///
    /// When there is one of this name: whose it is is not known.
    pub(super) fn create(name: String) -> Result<Netns> {
        let netns = Netns { name };
        ensure!(
            fs::symlink_metadata(netns.path()).is_err(),
            "there is a network namespace {0} that no lab has made: rename it, or delete it (`ip netns delete {0}`)",
            netns.name
        );
        let added = tools::run(tools::command("ip")?.args(["netns", "add", &netns.name]));
        if added.is_err() {
            // `ip` leaves the file that it could not mount the namespace on, as without /proc. The kernel refuses this where
            // something is mounted.
            let _ = fs::remove_file(netns.path());
        }
        added.map(|()| netns)
    }

    /// Deletes it, and with it every device inside.
    pub(super) fn delete(&self) -> Result<()> {
        tools::run(tools::command("ip")?.args(["netns", "delete", &self.name]))
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The file that the namespace is mounted on.
    pub fn path(&self) -> PathBuf {
        Path::new(DIRECTORY).join(&self.name)
    }

    /// Runs a closure inside the namespace, on a thread of its own. Sockets opened, threads started and programs
    /// spawned by it belong to the namespace, also after this returns.
    ///
    /// # Errors
    ///
    /// When the namespace cannot be entered.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        run_in_file(&self.path(), work)
    }

    /// Runs a closure inside a new anonymous namespace, which is deleted afterwards.
    pub(super) fn scratch<T: Send>(work: impl FnOnce() -> T + Send) -> Result<T> {
        on_thread(|| unshare(CloneFlags::CLONE_NEWNET), work)
            .context("cannot create a network namespace: run as root")
    }
}

/// Runs a closure inside the namespace of a file, such as `/proc/1/ns/net`; see [`Netns::run`].
///
/// # Errors
///
/// When the namespace cannot be entered.
pub(super) fn run_in_file<T: Send>(path: &Path, work: impl FnOnce() -> T + Send) -> Result<T> {
    let name = path.strip_prefix(DIRECTORY).unwrap_or(path).display();
    // A pipe that somebody has put there must keep nobody waiting: the kernel refuses to enter it.
    let file = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path);
    let file = file.with_context(|| format!("cannot open the network namespace {name}"))?;
    on_thread(|| setns(&file, CloneFlags::CLONE_NEWNET), work)
        .with_context(|| format!("cannot enter the network namespace {name}: run as root"))
}

/// Whether the directory is a mount of its own: `ip netns add` makes it one.
pub(super) fn is_mounted() -> bool {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    mounts.lines().any(|line| line.split(' ').nth(4) == Some(DIRECTORY))
}

/// Unmounts the directory unless a namespace has a name.
pub(super) fn unmount_if_empty() {
    if fs::read_dir(DIRECTORY).is_ok_and(|mut entries| entries.next().is_none()) {
        // The kernel refuses it where a namespace has been mounted meanwhile.
        let _ = umount(DIRECTORY);
    }
}

fn on_thread<T: Send>(
    enter: impl FnOnce() -> nix::Result<()> + Send,
    work: impl FnOnce() -> T + Send,
) -> Result<T> {
    let thread = || -> io::Result<T> {
        enter()?;
        Ok(work())
    };
    match thread::scope(|scope| scope.spawn(thread).join()) {
        Ok(result) => Ok(result?),
        Err(_) => bail!("a thread inside the namespace failed"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipe_in_place_of_a_namespace_keeps_nobody_waiting() {
        let dir = tempfile::TempDir::new().unwrap();
        let pipe = dir.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let (send, done) = std::sync::mpsc::channel();
        thread::spawn(move || send.send(run_in_file(&pipe, || ())));
        let entered = done.recv_timeout(std::time::Duration::from_secs(60)).expect("it waits for the pipe");
        assert!(entered.unwrap_err().to_string().contains("cannot enter the network namespace"));
    }
}
