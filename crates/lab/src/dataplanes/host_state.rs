//! What labs change outside of their namespaces: modules that the kernel loads for them, with the devices and settings
//! that these bring, and the mount of `/run/netns`. It is foretold, and put back when the last lab is down.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::fcntl::{Flock, FlockArg};
use nix::kmod::{DeleteModuleFlags, delete_module};
use serde::{Deserialize, Serialize};

use super::knobs::{Knobs, Wire, needs};
use super::lab::{Lab, Need};
use super::module_index::{ModuleIndex, is_loaded};
use super::requirements::System;
use super::{claim, link_kinds, netns, private_folder};
use crate::say;

/// The file of what was changed, below [`private_folder::root`].
const CHANGED: &str = "changed.json";
/// The kernel removes namespaces, and gives back the modules that they use, a while after `ip netns delete`.
const PATIENCE: Duration = Duration::from_secs(10);
const RETRY: Duration = Duration::from_millis(100);
/// Passes bridged packets to iptables, in all namespaces as soon as it is loaded.
const BRIDGE_NETFILTER: &str = "br_netfilter";
/// Its settings that do so.
const BRIDGE_CALLS: [&str; 3] = ["iptables", "ip6tables", "arptables"];
/// The machine's own network namespace.
const OWN_NETNS: &str = "/proc/1/ns/net";

/// Modules, and the devices that they put into every namespace when they are loaded (`fb_tunnels_only_for_init_net`).
const FALLBACKS: [(&str, &[&str]); 5] = [
    ("ipip", &["tunl0"]),
    ("ip_gre", &["gre0", "gretap0", "erspan0"]),
    ("sit", &["sit0"]),
    ("ip6_tunnel", &["ip6tnl0"]),
    ("ip6_gre", &["ip6gre0"]),
];

/// What labs have changed so far and not put back.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Changed {
    modules: BTreeSet<String>,
    /// `/run/netns` was not mounted before.
    netns_mount: bool,
}

/// The machine before a lab is built.
#[derive(Debug)]
pub struct Before {
    modules: BTreeSet<String>,
    netns_mount: bool,
}

/// What building the lab will change outside of its namespaces. Each sentence begins with the verb; "it", the lab, is left
/// to the caller.
pub fn foretell(lab: &Lab, knobs: &Knobs, system: &System) -> Vec<String> {
    let modules = modules_to_load(lab, knobs, system);
    let mut sentences = Vec::new();
    if !modules.is_empty() {
        sentences.push(format!(
            "loads the kernel modules {}; they are unloaded again when no lab and nothing else uses them",
            modules.join(", ")
        ));
    }
    for (module, devices) in FALLBACKS.iter().filter(|(module, _)| modules.iter().any(|one| one == module)) {
        sentences.push(format!(
            "brings {} into every network namespace, the machine's own too, as long as the module {module} is loaded",
            devices.join(", ")
        ));
    }
    if modules.iter().any(|module| module == BRIDGE_NETFILTER) {
        sentences.push(format!(
            "has the kernel pass bridged packets to iptables in other network namespaces, as long as the module \
             {BRIDGE_NETFILTER} is loaded; for the machine's own it sets net.bridge.bridge-nf-call-* to 0 at once"
        ));
    }
    if let Wire::Nics(names) = &knobs.wire {
        let which = if names.is_empty() { "that are not in use".to_owned() } else { names.join(" and ") };
        sentences.push(format!("moves the NICs {which} of this machine into its namespaces, and back"));
    }
    if needs(lab, knobs).contains(&Need::Cgroup) {
        sentences.push("moves this process to a cgroup of the lab, and back".to_owned());
    }
    sentences
}

/// The modules of the lab's needs that are not loaded, in the order of loading.
fn modules_to_load(lab: &Lab, knobs: &Knobs, system: &System) -> Vec<String> {
    let Some(index) = system.modules() else { return Vec::new() };
    let asked = needs(lab, knobs).into_iter().flat_map(|need| system.module_names(need));
    let mut modules: Vec<String> = Vec::new();
    for module in asked.flat_map(|name| index.to_load(&name)) {
        if !is_loaded(&module) && !modules.contains(&module) {
            modules.push(module);
        }
    }
    modules
}

impl Before {
    /// The machine now.
    pub fn now() -> Before {
        Before {
            modules: loaded().into_iter().map(|module| module.name).collect(),
            netns_mount: netns::is_mounted(),
        }
    }

    /// Notes what has changed since, to be put back by [`put_back`]. Called as soon as something may have been loaded,
    /// and again when the lab stands.
    pub fn note_changes(&self) -> Result<()> {
        let now = Before::now();
        let new: Vec<_> = now.modules.difference(&self.modules).cloned().collect();
        if new.iter().any(|module| module == BRIDGE_NETFILTER) {
            spare_own_bridges()?;
        }
        let (_lock, mut changed) = open()?;
        changed.modules.extend(new);
        changed.netns_mount |= now.netns_mount && !self.netns_mount;
        changed.write()
    }
}

/// Puts back what labs have changed, as far as nothing uses it; says what stays. `lab` is down already.
///
/// # Errors
///
/// What was changed cannot be read or written.
pub fn put_back(lab: &str) -> Result<()> {
    let (_lock, mut changed) = open()?;
    let is_last = claim::others(lab)?.is_empty();
    let index = ModuleIndex::of_kernel().unwrap_or_default();
    let begun = Instant::now();
    while !changed.modules.is_empty() {
        unload(&mut changed.modules, &index);
        if !is_last || begun.elapsed() > PATIENCE {
            break;
        }
        thread::sleep(RETRY);
    }
    if is_last {
        if !changed.modules.is_empty() {
            let modules: Vec<_> = std::mem::take(&mut changed.modules).into_iter().collect();
            say(&format!("these kernel modules are used by now and stay loaded: {}", modules.join(", ")));
        }
        if std::mem::take(&mut changed.netns_mount) {
            // Somebody else may have named a namespace meanwhile: then it stays.
            netns::unmount_if_empty();
        }
    }
    changed.write()
}

impl Changed {
    fn write(&self) -> Result<()> {
        let root = private_folder::root()?;
        if self.modules.is_empty() && !self.netns_mount {
            // It need not be there.
            let _ = fs::remove_file(root.join(CHANGED));
            return Ok(());
        }
        private_folder::replace(&root.join(CHANGED), &serde_json::to_vec(self)?)
    }
}

/// What was changed so far, and a lock that keeps other runs from it.
fn open() -> Result<(Flock<File>, Changed)> {
    let root = private_folder::root()?;
    let folder = File::open(&root).with_context(|| format!("cannot open {}", root.display()))?;
    let lock = Flock::lock(folder, FlockArg::LockExclusive)
        .map_err(|(_, error)| error)
        .with_context(|| format!("cannot lock {}", root.display()))?;
    let changed =
        fs::read(root.join(CHANGED)).map(|bytes| serde_json::from_slice(&bytes).unwrap_or_default());
    Ok((lock, changed.unwrap_or_default()))
}

/// A line of `/proc/modules`.
struct Loaded {
    name: String,
    is_referred_to: bool,
}

fn loaded() -> Vec<Loaded> {
    let list = fs::read_to_string("/proc/modules").unwrap_or_default();
    let line = |line: &str| {
        let mut fields = line.split(' ');
        Some(Loaded { name: fields.next()?.to_owned(), is_referred_to: fields.nth(1)? != "0" })
    };
    list.lines().filter_map(line).collect()
}

/// Unloads those of the modules that nothing uses, and takes from the set what is not loaded any more.
fn unload(modules: &mut BTreeSet<String>, index: &ModuleIndex) {
    let kinds = link_kinds::in_use(&FALLBACKS.iter().flat_map(|(_, devices)| *devices).copied().collect());
    loop {
        let loaded = loaded();
        modules.retain(|module| loaded.iter().any(|one| one.name == *module));
        let idle = loaded.iter().filter(|one| !one.is_referred_to && modules.contains(&one.name));
        // A module that makes devices is not counted as used by them, but they would go with it.
        let may_go = |name: &str| {
            let has_devices = index.link_kinds(name).iter().any(|kind| kinds.contains(*kind));
            !has_devices && (name != BRIDGE_NETFILTER || are_own_bridges_spared())
        };
        let unloaded = idle.filter(|one| may_go(&one.name) && remove(&one.name)).count();
        if unloaded == 0 {
            return;
        }
    }
}

fn remove(module: &str) -> bool {
    let Ok(name) = std::ffi::CString::new(module) else { return false };
    delete_module(&name, DeleteModuleFlags::O_NONBLOCK).is_ok()
}

fn bridge_call(which: &str) -> String {
    format!("/proc/sys/net/bridge/bridge-nf-call-{which}")
}

/// The machine's own bridges do not pass packets to iptables because a lab does.
fn spare_own_bridges() -> Result<()> {
    netns::run_in_file(Path::new(OWN_NETNS), || {
        BRIDGE_CALLS.iter().try_for_each(|which| fs::write(bridge_call(which), "0"))
    })?
    .context("cannot switch net.bridge.bridge-nf-call-* off for the machine's own network namespace")
}

/// Nobody has switched it on meanwhile, as whoever needs the module does.
fn are_own_bridges_spared() -> bool {
    let is_off = |which: &str| fs::read_to_string(bridge_call(which)).is_ok_and(|value| value.trim() == "0");
    netns::run_in_file(Path::new(OWN_NETNS), || BRIDGE_CALLS.iter().all(|which| is_off(which)))
        .unwrap_or(false)
}
