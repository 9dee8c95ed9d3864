//! Which kinds of devices there are on this machine, in all network namespaces.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use serde_json::Value;

use super::{netns, tools};

/// The kinds (`ip link add … type KIND`) of all devices, but for devices of these names that are down: every namespace
/// has them. A namespace that only an open file holds is not found.
pub fn in_use(unless_up: &BTreeSet<&str>) -> BTreeSet<String> {
    let mut kinds = BTreeSet::new();
    for path in namespaces().into_values() {
        // One that has gone meanwhile has no devices.
        let Ok(Some(list)) = netns::run_in_file(&path, links) else { continue };
        for link in list.as_array().into_iter().flatten() {
            let is_up = link["flags"].as_array().is_some_and(|flags| flags.iter().any(|flag| flag == "UP"));
            let name = link["ifname"].as_str().unwrap_or_default();
            if let Some(kind) = link["linkinfo"]["info_kind"].as_str()
                && (is_up || !unless_up.contains(name))
            {
                kinds.insert(kind.to_owned());
            }
        }
    }
    kinds
}

fn links() -> Option<Value> {
    let output = tools::command("ip").ok()?.args(["-details", "-json", "link", "show"]).output().ok()?;
    serde_json::from_slice(&output.stdout).ok()
}

/// A file of each network namespace, by its inode number: those of processes, and those that are mounted somewhere.
fn namespaces() -> BTreeMap<u64, PathBuf> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let processes = processes
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(|c: char| c.is_ascii_digit()));
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mounted =
        mounts.lines().filter(|line| line.contains(" - nsfs ")).filter_map(|line| line.split(' ').nth(4));
    let paths = processes.map(|entry| entry.path().join("ns/net")).chain(mounted.map(PathBuf::from));
    paths.filter_map(|path| Some((fs::metadata(&path).ok()?.ino(), path))).collect()
}
