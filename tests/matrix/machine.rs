//! The machine: its tools, and what is left behind on it.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use anyhow::{Context, Result, anyhow, bail, ensure};
use overlay_trace_lab::dataplanes::{Netns, Running};
use socket2::Protocol;

use crate::results::{Outcome, Verdict};

/// Devices that the kernel puts into every namespace when a tunnel's module is loaded; they stay.
const FALLBACKS: &[&str] = &["tunl0", "gre0", "gretap0", "erspan0", "ip6tnl0", "sit0", "ip6gre0", "ip_vti0"];
/// Beside the devices, a file of the driver of bonds.
const BONDING: &str = "bonding_masters";
/// What tools say when the kernel does not have something.
const LACKS: &[&str] = &[
    "Unknown device type",
    "qdisc kind is unknown",
    "Operation not supported",
    "not found",
    "Cannot find device",
    "No such file or directory",
];

/// Packets of all protocols (`ETH_P_ALL`, in network byte order), for packet sockets.
pub fn all_protocols() -> Protocol {
    Protocol::from(i32::from(3u16.to_be()))
}

/// Runs a command, words separated by spaces, in a namespace. Gives the reason if this machine does not have
/// what the command sets up.
///
/// # Errors
///
/// What the command complains about.
pub fn run_in(netns: &Netns, command: &str) -> Result<Option<String>> {
    netns.run(|| run(command))?
}

/// The devices of this namespace that a driver has.
pub fn devices_of_driver(driver: &str) -> Vec<String> {
    let is_its = |device: &str| {
        std::fs::read_link(format!("/sys/class/net/{device}/device/driver"))
            .is_ok_and(|link| link.ends_with(driver))
    };
    let devices = std::fs::read_dir("/sys/class/net").into_iter().flatten().flatten();
    devices.filter_map(|entry| entry.file_name().into_string().ok()).filter(|device| is_its(device)).collect()
}

/// The same outside of all namespaces.
///
/// # Errors
///
/// What the command complains about.
pub fn run(command: &str) -> Result<Option<String>> {
    let mut words = command.split_whitespace();
    let program = words.next().context("an empty command")?;
    let output = match Command::new(program).args(words).output() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Ok(Some(format!("the command {program} is missing")));
        }
        output => output.with_context(|| format!("cannot run {program}"))?,
    };
    if output.status.success() {
        return Ok(None);
    }
    let complaint = String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; ");
    if LACKS.iter().any(|lack| complaint.contains(lack)) {
        return Ok(Some(format!("`{command}`: {complaint}")));
    }
    bail!("`{command}` failed: {complaint}")
}

/// The machine's own devices.
pub fn links() -> Result<BTreeSet<String>> {
    let mut links = names("/sys/class/net")?;
    links.retain(|name| !FALLBACKS.contains(&name.as_str()) && name != BONDING);
    Ok(links)
}

/// What a lab must not change: the machine's own devices, routes and rules, each with a word that says which.
pub fn state() -> Result<BTreeSet<String>> {
    let mut state: BTreeSet<String> = links()?.into_iter().map(|name| format!("device {name}")).collect();
    for (what, words) in [
        ("route", &["-4", "route", "show", "table", "all"][..]),
        ("route", &["-6", "route", "show", "table", "all"]),
        ("rule", &["-4", "rule"]),
        ("rule", &["-6", "rule"]),
        ("xfrm", &["xfrm", "policy"]),
    ] {
        let output = Command::new("ip").args(words).output().context("cannot run ip")?;
        // How long a route still holds is no property of it.
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let lines = text.lines().map(|line| line.split(" expires ").next().unwrap_or(line));
        state.extend(lines.map(|line| format!("{what} {line}")));
    }
    state.extend(cgroups().into_iter().map(|name| format!("cgroup {name}")));
    Ok(state)
}

/// The cgroups of the top, if they are mounted where everybody has them.
fn cgroups() -> BTreeSet<String> {
    let mut names = names("/sys/fs/cgroup").unwrap_or_default();
    names.retain(|name| std::path::Path::new("/sys/fs/cgroup").join(name).is_dir());
    names
}

/// The named network namespaces whose names begin so.
pub fn namespaces(prefix: &str) -> BTreeSet<String> {
    // The folder is made with the first namespace.
    let mut namespaces = names("/run/netns").unwrap_or_default();
    namespaces.retain(|name| name.starts_with(prefix));
    namespaces
}

/// The objects that are pinned in the BPF file system.
pub fn pinned() -> BTreeSet<String> {
    names("/sys/fs/bpf").unwrap_or_default()
}

/// The queues and filters of all of a lab's devices.
pub fn queues(running: &Running) -> Result<Vec<String>> {
    let show = |netns: &Netns| -> Result<String> {
        let output = netns.run(|| Command::new("tc").args(["qdisc", "show"]).output())?;
        let output = output.context("cannot run tc")?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    };
    running.namespaces().iter().map(show).collect()
}

fn names(folder: &str) -> Result<BTreeSet<String>> {
    let entries = fs::read_dir(folder).with_context(|| format!("cannot read {folder}"))?;
    Ok(entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect())
}

/// Runs a command as [`run_in`] does, where it must succeed.
pub fn do_in(netns: &Netns, command: &str) -> Result<()> {
    run_in(netns, command)?.map_or(Ok(()), |lack| Err(anyhow!(lack)))
}

/// What [`state`] has found, by reference.
pub fn as_read(state: &Result<BTreeSet<String>>) -> Result<&BTreeSet<String>> {
    state.as_ref().map_err(|error| anyhow!("{error:#}"))
}

/// Nothing of a lab is left, and the machine is as before.
pub fn is_without(lab: &str, before: &Result<BTreeSet<String>>) -> Outcome {
    let left = namespaces(&format!("ot-{lab}-"));
    ensure!(left.is_empty(), "namespaces are left: {left:?}");
    let after = state()?;
    let changed: Vec<_> = as_read(before)?.symmetric_difference(&after).collect();
    ensure!(changed.is_empty(), "of the machine itself this has come or gone: {changed:?}");
    Ok(Verdict::Passed)
}
