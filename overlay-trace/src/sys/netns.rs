//! Network namespaces by name.

use std::{collections::HashMap, fs, os::unix::fs::MetadataExt, path::Path};

use anyhow::{Context, Result, bail};

/// Where iproute2 keeps its named namespaces.
const NAMED: &str = "/run/netns";

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

/// The names of all namespaces that can be found: `host` for that of process 1, iproute2's names, and
/// otherwise a process in it.
pub fn names() -> HashMap<u32, String> {
    let mut names = HashMap::new();
    for process in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let id = process.file_name().to_string_lossy().into_owned();
        if !id.bytes().all(|byte| byte.is_ascii_digit()) {
            continue;
        }
        if let Ok(metadata) = fs::metadata(process.path().join("ns/net")) {
            let command = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            names.entry(metadata.ino() as u32).or_insert_with(|| format!("{}:{id}", command.trim()));
        }
    }
    for entry in fs::read_dir(NAMED).into_iter().flatten().flatten() {
        if let Ok(metadata) = entry.metadata() {
            names.insert(metadata.ino() as u32, entry.file_name().to_string_lossy().into_owned());
        }
    }
    if let Ok(metadata) = fs::metadata("/proc/1/ns/net") {
        names.insert(metadata.ino() as u32, "host".to_owned());
    }
    names
}

/// Whether a device of this name is in any namespace that can be looked into.
pub fn device_exists(device: &str) -> bool {
    Path::new("/sys/class/net").join(device).exists()
        || fs::read_dir("/proc").into_iter().flatten().flatten().any(|process| {
            fs::read_to_string(process.path().join("net/dev")).is_ok_and(|table| {
                table.lines().any(|line| line.split(':').next().is_some_and(|name| name.trim() == device))
            })
        })
        || named_namespace_has(device)
}

/// Namespaces without a process are looked into by entering them, on a thread of its own.
fn named_namespace_has(device: &str) -> bool {
    let device = device.to_owned();
    let look = move || {
        fs::read_dir(NAMED).into_iter().flatten().flatten().any(|entry| {
            let Ok(file) = fs::File::open(entry.path()) else { return false };
            nix::sched::setns(file, nix::sched::CloneFlags::CLONE_NEWNET).is_ok()
                && nix::net::if_::if_nametoindex(device.as_str()).is_ok()
        })
    };
    std::thread::spawn(look).join().unwrap_or(false)
}
