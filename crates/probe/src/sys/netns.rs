//! Network namespaces by name.

use std::{
    collections::{HashMap, HashSet},
    fs,
    io::{self, Read},
    os::{
        fd::AsRawFd,
        unix::{
            fs::{MetadataExt, OpenOptionsExt},
            net::UnixDatagram,
        },
    },
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use nix::{
    sched::{CloneFlags, setns},
    unistd::gethostname,
};
use overlay_trace_format::{printable, printable_bytes};

use super::lookup::within_limit;

/// Where iproute2 keeps its named namespaces.
pub(super) const NAMED: &str = "/run/netns";

/// What tells a namespace from every other one, also from one that gets its inode number when it is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    pub inode: u32,
    /// The low half of its cookie, which is never reused; `None` where the kernel has no cookies (before Linux 5.14).
    pub cookie: Option<u32>,
}

/// The file of a namespace that is given by name (`ip netns`), by path, or by the id of a process in it.
fn file_of(given: &str) -> String {
    if given.contains('/') {
        given.to_owned()
    } else if !given.is_empty() && given.bytes().all(|byte| byte.is_ascii_digit()) {
        format!("/proc/{given}/ns/net")
    } else {
        format!("{NAMED}/{given}")
    }
}

/// The namespace that is given by name, by path, or by process id.
///
/// # Errors
///
/// As for [`inode`].
pub fn identity(given: &str) -> Result<Identity> {
    let inode = inode(given)?;
    let path = PathBuf::from(file_of(given));
    // Entering a namespace takes a thread of its own.
    let cookie = within_limit(move || cookie(&path).ok()).flatten();
    Ok(Identity { inode, cookie: cookie.map(|cookie| cookie as u32) })
}

/// The inode number of a namespace that is given by name (`ip netns`), by path, or by the id of a
/// process in it.
///
/// # Errors
///
/// If there is no such namespace.
pub fn inode(given: &str) -> Result<u32> {
    let path = file_of(given);
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
    let named =
        entries(NAMED).map(|entry| (printable_bytes(entry.file_name().as_encoded_bytes()), entry.path()));
    let of_processes = entries("/proc")
        .filter(|process| process.file_name().to_string_lossy().bytes().all(|byte| byte.is_ascii_digit()))
        .map(|process| (String::new(), process.path().join("ns/net")));
    let after_processes = names_after_processes();
    let mut known = HashSet::new();
    let open = |(name, path): (String, std::path::PathBuf)| {
        let inode = fs::metadata(&path).ok()?.ino() as u32;
        let name = if name.is_empty() { after_processes.get(&inode)?.clone() } else { name };
        known.insert(inode).then_some(())?;
        Some(Namespace { name, inode, file: open_namespace(&path).ok()? })
    };
    host.into_iter().chain(named).chain(of_processes).filter_map(open).collect()
}

/// Names for namespaces after the oldest process in them: the container that the process is in, or its command and
/// process id. None where looking at all processes takes too long.
pub fn names_after_processes() -> HashMap<u32, String> {
    // The thread enters UTS namespaces, so it has to be one of its own.
    within_limit(read_names_after_processes).unwrap_or_default()
}

fn read_names_after_processes() -> HashMap<u32, String> {
    let mut names = HashMap::new();
    let node = fs::metadata("/proc/1/ns/uts").map(|uts| uts.ino()).ok();
    for process in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let id = process.file_name().to_string_lossy().into_owned();
        if !id.bytes().all(|byte| byte.is_ascii_digit()) {
            continue;
        }
        if let Ok(metadata) = fs::metadata(process.path().join("ns/net")) {
            names.entry(metadata.ino() as u32).or_insert_with(|| after_process(&process.path(), &id, node));
        }
    }
    names
}

/// The most bytes that are read of a file that describes a process.
const DESCRIPTION_MAX: u64 = 16 << 10;

/// The name of a process' namespace, by what the kernel says of the process in its `folder` of /proc. What the process
/// sees as its root is never looked into: there it decides what is found. `node` is the node's own UTS namespace.
fn after_process(folder: &Path, id: &str, node: Option<u64>) -> String {
    let read = |file: &str| {
        let mut text = Vec::new();
        let file = fs::File::open(folder.join(file));
        let _ = file.and_then(|file| file.take(DESCRIPTION_MAX).read_to_end(&mut text));
        String::from_utf8_lossy(&text).trim().to_owned()
    };
    let command = read("comm");
    let cgroup = read("cgroup");
    let Some(container) = container(&cgroup) else {
        return printable(&format!("{command}:{id}")).into_owned();
    };
    // In a pod the host name is the pod's name; in other containers it is often just the container's id.
    let host = host_name(&folder.join("ns/uts"), node).unwrap_or_default();
    let name = if host.is_empty() || container.starts_with(&host) { command } else { host };
    printable(&format!("{name}:{container}")).into_owned()
}

/// The host name in a UTS namespace that is not the node's own. The calling thread stays in it.
fn host_name(uts: &Path, node: Option<u64>) -> Option<String> {
    let file = open_namespace(uts).ok()?;
    if file.metadata().ok().map(|uts| uts.ino()) == node {
        return None;
    }
    setns(file, CloneFlags::CLONE_NEWUTS).ok()?;
    Some(gethostname().ok()?.to_string_lossy().into_owned())
}

/// Opens a namespace's file, and does not wait where it is something else.
fn open_namespace(path: &Path) -> io::Result<fs::File> {
    fs::OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)
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
    let other = open_namespace(path)?;
    setns(other, CloneFlags::CLONE_NEWNET)?;
    let cookie = own_cookie();
    setns(own, CloneFlags::CLONE_NEWNET)?;
    Ok(cookie?)
}

/// The cookie of the namespace that the calling thread is in.
///
/// # Errors
///
/// The kernel has none (before 5.14).
pub fn own_cookie() -> io::Result<u64> {
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

/// Whether a device of this name is in a namespace that can be read; it may be where looking takes too long.
pub fn device_exists(device: &str) -> bool {
    let device = device.to_owned();
    within_limit(move || is_in_any_namespace(&device)).unwrap_or(true)
}

fn is_in_any_namespace(device: &str) -> bool {
    Path::new("/sys/class/net").join(device).exists()
        || fs::read_dir("/proc").into_iter().flatten().flatten().any(|process| {
            fs::read_to_string(process.path().join("net/dev")).is_ok_and(|table| {
                table.lines().any(|line| line.split(':').next().is_some_and(|name| name.trim() == device))
            })
        })
        || named_namespace_has(device)
}

/// Namespaces without a process can only be read by entering them: the calling thread stays in the last one.
fn named_namespace_has(device: &str) -> bool {
    fs::read_dir(NAMED).into_iter().flatten().flatten().any(|entry| {
        let Ok(file) = open_namespace(&entry.path()) else { return false };
        setns(file, CloneFlags::CLONE_NEWNET).is_ok() && nix::net::if_::if_nametoindex(device).is_ok()
    })
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

    /// A folder as in /proc, of a process of a container that has put something where its host name used to be read.
    fn container_with(place: impl FnOnce(&Path)) -> String {
        let process = tempfile::TempDir::new().unwrap();
        let etc = process.path().join("root/etc");
        fs::create_dir_all(&etc).unwrap();
        place(&etc.join("hostname"));
        fs::write(process.path().join("comm"), "nginx\n").unwrap();
        let id = "3f2a9c1b44de".to_owned() + &"0".repeat(52);
        fs::write(process.path().join("cgroup"), format!("0::/docker/{id}\n")).unwrap();
        let folder = process.path().to_owned();
        let name = within_limit(move || after_process(&folder, "1", None));
        name.expect("what a container puts there keeps nobody waiting")
    }

    #[test]
    fn nothing_below_the_root_of_a_container_is_opened_for_its_name() {
        let dir = tempfile::TempDir::new().unwrap();
        let secret = dir.path().join("secret");
        fs::write(&secret, "root's own secret").unwrap();
        let linked = container_with(|at| std::os::unix::fs::symlink(&secret, at).unwrap());
        let piped = container_with(|at| nix::unistd::mkfifo(at, nix::sys::stat::Mode::S_IRWXU).unwrap());
        let large = container_with(|at| fs::write(at, vec![b'x'; 1 << 20]).unwrap());
        for name in [linked, piped, large] {
            assert_eq!(name, "nginx:3f2a9c1b44de");
        }
    }

    #[test]
    fn a_container_is_named_by_the_host_name_of_its_uts_namespace() {
        let unshared = within_limit(|| {
            nix::sched::unshare(CloneFlags::CLONE_NEWUTS).ok()?;
            nix::unistd::sethostname("pod\u{1b}[2J-1").ok()?;
            let node = fs::metadata("/proc/1/ns/uts").ok()?.ino();
            let process = tempfile::TempDir::new().unwrap();
            fs::create_dir(process.path().join("ns")).unwrap();
            std::os::unix::fs::symlink("/proc/thread-self/ns/uts", process.path().join("ns/uts")).unwrap();
            let id = "3f2a9c1b44de".to_owned() + &"0".repeat(52);
            fs::write(process.path().join("cgroup"), format!("0::/docker/{id}\n")).unwrap();
            let named = after_process(process.path(), "1", Some(node));
            let own = fs::metadata("/proc/thread-self/ns/uts").ok()?.ino();
            let of_the_node = after_process(process.path(), "1", Some(own));
            Some((named, of_the_node))
        });
        match unshared.flatten() {
            Some((named, of_the_node)) => {
                assert_eq!(named, "pod\\x1b[2J-1:3f2a9c1b44de");
                assert_eq!(of_the_node, ":3f2a9c1b44de");
            }
            None => eprintln!("skipped: UTS namespaces need root"),
        }
    }

    #[test]
    fn a_namespace_is_identified_by_its_cookie() {
        let own = identity(&std::process::id().to_string()).unwrap();
        let cookie = own_cookie().ok().map(|cookie| cookie as u32);
        assert!(own.cookie == cookie || !nix::unistd::geteuid().is_root(), "{own:?} {cookie:?}");
    }

    #[test]
    fn namespaces_without_a_name_are_called_after_a_process() {
        let own = fs::metadata("/proc/self/ns/net").unwrap().ino() as u32;
        let names = names_after_processes();
        assert!(names[&own].contains(':'), "{}", names[&own]);
    }
}
