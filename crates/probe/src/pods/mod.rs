//! Network namespaces by the pods and containers that they belong to, by what container runtimes keep on the node: no API
//! server is asked.
//!
//! Files are read that runtimes and the kubelet write for themselves, with a limit of their size; nothing below a
//! container's root is opened. What they say is chosen by whoever made the pod: it is made printable here. All of it runs on
//! a thread of its own ([`Lookup`](crate::sys::lookup::Lookup)), since a runtime may keep who asks waiting.

mod bundle;
mod docker;
mod kubelet;

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    io::{self, Read},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use anyhow::{Result, bail};
use overlay_trace_format::{Pod, PodFilter};

use self::{bundle::Bundles, docker::Docker};
use crate::sys::{
    lookup::within_limit,
    netns::{self, Identity},
};

/// The most bytes that are read of a file of a runtime.
const FILE_MAX: u64 = 8 << 20;
/// The most containers of a runtime, or pods of a node, that are looked at.
const ENTRIES_MAX: usize = 4096;
/// The most names in a message.
const LISTED_MAX: usize = 10;

/// Where runtimes and the kernel keep what is read.
#[derive(Clone, Debug)]
pub struct Places {
    root: PathBuf,
    /// Inode number of the node's own network namespace: pods with hostNetwork are in it, and it is none of theirs.
    host: Option<u64>,
}

impl Places {
    /// Those of this machine.
    pub fn of_machine() -> Places {
        Places {
            root: "/".into(),
            host: fs::metadata("/proc/1/ns/net").ok().map(|namespace| namespace.ino()),
        }
    }

    /// A path that is given from the root on.
    fn at(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    /// The namespace of a file, if it is one and not the node's own.
    fn namespace(&self, path: &Path) -> Option<Identity> {
        let metadata = fs::metadata(path).or_else(|error| {
            // In a container there may be no link from `/var/run`.
            path.strip_prefix("/var/run")
                .map_or(Err(error), |rest| fs::metadata(Path::new("/run").join(rest)))
        });
        let metadata = metadata.ok()?;
        let nsfs = fs::metadata("/proc/self/ns/net").ok()?.dev();
        if metadata.dev() != nsfs || Some(metadata.ino()) == self.host {
            return None;
        }
        let cookie = netns::cookie(path).ok().map(|cookie| cookie as u32);
        Some(Identity { inode: metadata.ino() as u32, cookie })
    }
}

/// A network namespace, and whose it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodNetns {
    pub identity: Identity,
    /// By which the namespace can be found.
    pub path: PathBuf,
    pub pod: Pod,
}

/// The pods of a node. What does not change is read once.
pub struct Pods {
    places: Places,
    bundles: Bundles,
    docker: Docker,
}

impl Pods {
    pub fn new(places: Places) -> Pods {
        Pods { bundles: Bundles::default(), docker: Docker::default(), places }
    }

    /// Whether this machine has a container runtime that is known here.
    pub fn has_runtime(places: &Places) -> bool {
        bundle::FOLDERS.iter().chain([&docker::SOCKET, &kubelet::LOGS]).any(|path| places.at(path).exists())
    }

    /// The network namespaces of pods and containers, each once.
    ///
    /// The calling thread enters namespaces: it has to be one of its own.
    pub fn read(&mut self) -> Vec<PodNetns> {
        let mut found: BTreeMap<u32, PodNetns> = BTreeMap::new();
        let mut add = |namespaces: Vec<PodNetns>| {
            for mut namespace in namespaces {
                namespace.pod.containers.sort();
                namespace.pod.clean();
                found.entry(namespace.identity.inode).or_insert(namespace);
            }
        };
        add(self.bundles.read(&self.places));
        add(self.docker.read(&self.places));
        add(kubelet::read(&self.places));
        found.into_values().collect()
    }
}

/// The namespaces of the pods that a filter means.
///
/// # Errors
///
/// There are none, or looking takes too long.
pub fn find(filter: &PodFilter) -> Result<Vec<PodNetns>> {
    let Some(found) = within_limit(|| Pods::new(Places::of_machine()).read()) else {
        bail!(
            "looking for pods takes too long on this machine: filter by --netns, --device or --address instead"
        )
    };
    let (meant, others): (Vec<_>, Vec<_>) = found.into_iter().partition(|found| filter.has(&found.pod));
    if meant.is_empty() {
        let mut names: Vec<String> = others.iter().map(|other| other.pod.shown()).collect();
        names.sort();
        let more = if names.len() > LISTED_MAX {
            format!(" and {} more", names.len() - LISTED_MAX)
        } else {
            String::new()
        };
        names.truncate(LISTED_MAX);
        let there = if names.is_empty() { "none".to_owned() } else { names.join(", ") + &more };
        bail!(
            "no network namespace of this machine belongs to {filter} (found: {there}); a pod with hostNetwork has none: \
             filter by --address or --port for it"
        );
    }
    Ok(meant)
}

/// The names of a folder's entries.
fn entries(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten().take(ENTRIES_MAX);
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

/// Reads a regular file that is not too long, and that is no link.
fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let file = fs::OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() || metadata.len() > FILE_MAX {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut bytes = Vec::new();
    // Files of /proc say that they are empty.
    file.take(FILE_MAX).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// By name: the values of annotations or labels.
type Labels = HashMap<String, String>;

#[cfg(test)]
mod tests;
