//! Network namespaces by name.

use std::{
    collections::{HashMap, HashSet},
    fs, io,
    os::{
        fd::AsRawFd,
        unix::{fs::MetadataExt, net::UnixDatagram},
    },
    path::Path,
};

use anyhow::{Context, Result, bail};
use nix::sched::{CloneFlags, setns};

/// Where iproute2 keeps its named namespaces.
pub(super) const NAMED: &str = "/run/netns";

/// The inode number of a namespace that is given by name (`ip netns`), by path, or by the id of a
/// process in it.
///
/// # Errors
///
/// If there is no such namespace.
pub fn inode(given: &str) -> Result<u32> {
    let path = if given.contains('/') {
        given.to_owned()
    } else if !given.is_empty() && given.bytes().all(|byte| byte.is_ascii_digit()) {
        format!("/proc/{given}/ns/net")
    } else {
        format!("{NAMED}/{given}")
    };
    let metadata = fs::metadata(&path).with_context(|| {
        format!("there is no network namespace {given} ({path}): give a name that `ip netns` lists, a path, or a process id")
    })?;
    let own =
        fs::metadata("/proc/self/ns/net").context("cannot read /proc/self/ns/net: /proc must be mounted")?;
    if metadata.dev() != own.dev() {
        bail!(
            "{path} is not a network namespace: give a name that `ip netns` lists, a path such as /proc/PID/ns/net, or a process id"
        );
    }
    Ok(metadata.ino() as u32)
}

/// A network namespace, open.
#[derive(Debug)]
pub struct Namespace {
    /// `host`, its name of `ip netns`, or what [`names_after_processes`] calls it.
    pub name: String,
    pub inode: u32,
    pub file: fs::File,
}

/// All network namespaces that a process is in or that have a name, each once.
pub fn all() -> Vec<Namespace> {
    let entries = |folder: &str| fs::read_dir(folder).into_iter().flatten().flatten();
    let host = [("host".to_owned(), "/proc/1/ns/net".into())];
    let named = entries(NAMED).map(|entry| (entry.file_name().to_string_lossy().into_owned(), entry.path()));
    let of_processes = entries("/proc")
        .filter(|process| process.file_name().to_string_lossy().bytes().all(|byte| byte.is_ascii_digit()))
        .map(|process| (String::new(), process.path().join("ns/net")));
    let after_processes = names_after_processes();
    let mut known = HashSet::new();
    let open = |(name, path): (String, std::path::PathBuf)| {
        let inode = fs::metadata(&path).ok()?.ino() as u32;
        let name = if name.is_empty() { after_processes.get(&inode)?.clone() } else { name };
        known.insert(inode).then_some(())?;
        Some(Namespace { name, inode, file: fs::File::open(path).ok()? })
    };
    host.into_iter().chain(named).chain(of_processes).filter_map(open).collect()
}

/// Names for namespaces after the oldest process in them: the container that the process is in, or its command and
/// process id.
pub fn names_after_processes() -> HashMap<u32, String> {
    let mut names = HashMap::new();
    for process in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let id = process.file_name().to_string_lossy().into_owned();
        if !id.bytes().all(|byte| byte.is_ascii_digit()) {
            continue;
        }
        if let Ok(metadata) = fs::metadata(process.path().join("ns/net")) {
            names.entry(metadata.ino() as u32).or_insert_with(|| after_process(&process.path(), &id));
        }
    }
    names
}

fn after_process(folder: &Path, id: &str) -> String {
    let read = |file: &str| fs::read_to_string(folder.join(file)).unwrap_or_default().trim().to_owned();
    let command = read("comm");
    let cgroup = read("cgroup");
    let Some(container) = container(&cgroup) else { return format!("{command}:{id}") };
    // In a pod the host name is the pod's name; in other containers it is often just the container's id.
    let host = read("root/etc/hostname");
    let name = if host.is_empty() || container.starts_with(&host) { command } else { host };
    format!("{name}:{container}")
}

/// The short id of the container that a process is in, from the name of its control group.
fn container(cgroup: &str) -> Option<&str> {
    const ID: usize = 64;
    const SHORT: usize = 12;
    let is_id = |part: &&str| part.len() == ID && part.bytes().all(|byte| byte.is_ascii_hexdigit());
    cgroup.split(['/', '-', '.', ':', '\n']).rfind(is_id).map(|id| &id[..SHORT])
}

/// Whether the kernel has cookies of network namespaces, numbers that are never reused (`SO_NETNS_COOKIE`).
pub fn cookies_are_known() -> bool {
    own_cookie().is_ok()
}

/// The cookie of the namespace that is mounted on a file. The calling thread enters the namespace for a moment.
pub fn cookie(path: &Path) -> Result<u64> {
    let own = fs::File::open("/proc/thread-self/ns/net")?;
    let other = fs::File::open(path)?;
    setns(other, CloneFlags::CLONE_NEWNET)?;
    let cookie = own_cookie();
    setns(own, CloneFlags::CLONE_NEWNET)?;
    Ok(cookie?)
}

fn own_cookie() -> io::Result<u64> {
    let socket = UnixDatagram::unbound()?;
    let mut cookie = 0u64;
    let mut length = size_of::<u64>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes to `cookie`, which has that many, and to `length`.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut length,
        )
    };
    if result == 0 { Ok(cookie) } else { Err(io::Error::last_os_error()) }
}

/// Whether a device of this name is in a namespace that can be read.
pub fn device_exists(device: &str) -> bool {
    Path::new("/sys/class/net").join(device).exists()
        || fs::read_dir("/proc").into_iter().flatten().flatten().any(|process| {
            fs::read_to_string(process.path().join("net/dev")).is_ok_and(|table| {
                table.lines().any(|line| line.split(':').next().is_some_and(|name| name.trim() == device))
            })
        })
        || named_namespace_has(device)
}

/// Namespaces without a process can only be read by entering them, which takes a thread of its own.
fn named_namespace_has(device: &str) -> bool {
    let device = device.to_owned();
    let search = move || {
        fs::read_dir(NAMED).into_iter().flatten().flatten().any(|entry| {
            let Ok(file) = fs::File::open(entry.path()) else { return false };
            setns(file, CloneFlags::CLONE_NEWNET).is_ok()
                && nix::net::if_::if_nametoindex(device.as_str()).is_ok()
        })
    };
    std::thread::spawn(search).join().unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_is_found_in_the_name_of_its_control_group() {
        let id = "3f2a9c1b44de".to_owned() + &"0".repeat(52);
        for cgroup in [
            format!("0::/system.slice/docker-{id}.scope"),
            format!("12:pids:/docker/{id}\n0::/docker/{id}"),
            format!("0::/kubepods.slice/kubepods-pod1b2c.slice/cri-containerd-{id}.scope"),
            format!("0::/machine.slice/libpod-{id}.scope/container"),
        ] {
            assert_eq!(container(&cgroup), Some("3f2a9c1b44de"), "{cgroup}");
        }
        assert_eq!(container("0::/user.slice/user-0.slice/session-3.scope"), None);
    }

    #[test]
    fn namespaces_without_a_name_are_called_after_a_process() {
        let own = fs::metadata("/proc/self/ns/net").unwrap().ino() as u32;
        let names = names_after_processes();
        assert!(names[&own].contains(':'), "{}", names[&own]);
    }
}
