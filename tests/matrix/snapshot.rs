//! The machine's state, to compare it before and after something that must leave it as it is.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// Settings and figures that change by themselves; parts of their paths below `/proc/sys`.
const VOLATILE: &[&str] = &[
    "fs/aio-nr",
    "fs/dentry-state",
    "fs/file-nr",
    "fs/inode-nr",
    "fs/inode-state",
    "fs/quota/",
    "kernel/ns_last_pid",
    "kernel/perf_event_max_sample_rate",
    "kernel/pty/nr",
    "kernel/random/",
    // What balancing the CPUs cost lately.
    "kernel/sched_domain/",
    "net/netfilter/nf_conntrack_count",
    // Reading them does something.
    "vm/stat_refresh",
];
/// What `ip` tells of the machine's own network namespace.
const IP: &[(&str, &[&str])] = &[
    ("link", &["-details", "link", "show"]),
    ("address", &["address", "show"]),
    ("route", &["-4", "route", "show", "table", "all"]),
    ("route", &["-6", "route", "show", "table", "all"]),
    ("rule", &["-4", "rule"]),
    ("rule", &["-6", "rule"]),
    ("xfrm state", &["xfrm", "state"]),
    ("xfrm policy", &["xfrm", "policy"]),
];

/// Lines, each with a word that says what it is of.
#[derive(Debug)]
pub struct Snapshot(BTreeSet<String>);

impl Snapshot {
    /// The state now: settings, links, addresses, routes, rules, modules, mounts, namespaces, cgroups, and what labs have
    /// put into folders.
    pub fn take() -> Result<Snapshot> {
        let mut lines = BTreeSet::new();
        settings(Path::new("/proc/sys"), &mut lines);
        ensure!(!lines.is_empty(), "/proc/sys cannot be read");
        for (what, arguments) in IP {
            let output = Command::new("ip").args(*arguments).output().context("cannot run ip")?;
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            lines.extend(text.lines().map(|line| format!("{what} {}", lasting(line.trim()))));
        }
        let modules = fs::read_to_string("/proc/modules").unwrap_or_default();
        let modules = modules.lines().filter_map(|line| line.split(' ').next());
        lines.extend(modules.map(|module| format!("module {module}")));
        let mounts = fs::read_to_string("/proc/self/mounts").context("/proc/self/mounts cannot be read")?;
        lines.extend(mounts.lines().map(|mount| format!("mount {mount}")));
        folders(Path::new("/sys/fs/cgroup"), &mut lines);
        for folder in ["/run/netns", "/run/overlay-trace", "/run/overlay-trace/labs", "/sys/fs/bpf"] {
            // The folder of what labs note stays; what they note goes.
            let names = names(folder).into_iter().filter(|name| name != "labs");
            lines.extend(names.map(|name| format!("file {folder}/{name}")));
        }
        // Other programs put files there too.
        let ours = names("/tmp")
            .into_iter()
            .filter(|name| name.starts_with("ot-") || name.contains("overlay-trace"));
        lines.extend(ours.map(|name| format!("file /tmp/{name}")));
        Ok(Snapshot(lines))
    }

    /// What has come or gone since, each line behind a `+` or `-`.
    pub fn changes(&self, now: &Snapshot) -> Vec<String> {
        let gone = self.0.difference(&now.0).map(|line| format!("-{line}"));
        gone.chain(now.0.difference(&self.0).map(|line| format!("+{line}"))).collect()
    }
}

/// A line without how long something still holds.
fn lasting(line: &str) -> &str {
    [" expires ", "valid_lft "].iter().fold(line, |line, word| line.split(word).next().unwrap_or(line))
}

/// The values of all settings.
fn settings(folder: &Path, lines: &mut BTreeSet<String>) {
    for path in fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()) {
        let name = path.strip_prefix("/proc/sys").unwrap_or(&path).display().to_string();
        if path.is_dir() {
            settings(&path, lines);
        } else if !VOLATILE.iter().any(|volatile| name.starts_with(volatile))
            // Some can only be written.
            && let Ok(value) = fs::read_to_string(&path)
        {
            lines.insert(format!("setting {name} = {}", value.trim()));
        }
    }
}

/// All folders below this one.
fn folders(folder: &Path, lines: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            lines.insert(format!("folder {}", entry.path().display()));
            folders(&entry.path(), lines);
        }
    }
}

fn names(folder: &str) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}
