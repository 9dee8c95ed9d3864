//! Named network namespaces (`ip netns`).

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::thread;

use anyhow::{Context, Result, bail, ensure};
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

    /// Creates it.
    pub(super) fn create(name: String) -> Result<Netns> {
        tools::run(tools::command("ip")?.args(["netns", "add", &name]))?;
        Ok(Netns { name })
    }

    /// Deletes it, and with it every device inside.
    pub(super) fn delete(&self) -> Result<()> {
        tools::run(tools::command("ip")?.args(["netns", "delete", &self.name]))
    }

    /// All namespaces whose name has this prefix.
    pub(super) fn with_prefix(prefix: &str) -> Vec<Netns> {
        let Ok(entries) = fs::read_dir(DIRECTORY) else { return Vec::new() };
        let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
        names.filter(|name| name.starts_with(prefix)).map(|name| Netns { name }).collect()
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
        let file = File::open(self.path())
            .with_context(|| format!("cannot open the network namespace {}", self.name))?;
        on_thread(|| setns(&file, CloneFlags::CLONE_NEWNET), work)
            .with_context(|| format!("cannot enter the network namespace {}: run as root", self.name))
    }

    /// Runs a closure inside a new anonymous namespace, which is deleted afterwards.
    pub(super) fn scratch<T: Send>(work: impl FnOnce() -> T + Send) -> Result<T> {
        on_thread(|| unshare(CloneFlags::CLONE_NEWNET), work)
            .context("cannot create a network namespace: run as root")
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
