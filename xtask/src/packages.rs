//! Everything that is taken from the distribution, in one place: which program, from which package, and why.

use std::{
    fs::{self, File},
    path::Path,
    process::Command,
    thread,
    time::Duration,
};

use anyhow::{Context, Result, bail};

use crate::host;

/// Something of the distribution's that a command needs.
pub struct Package {
    /// What must be there: a program's name, or the full path of a file.
    provides: &'static str,
    /// Debian's package that brings it.
    package: &'static str,
    /// What it is needed for.
    why: &'static str,
}

const fn package(provides: &'static str, package: &'static str, why: &'static str) -> Package {
    Package { provides, package, why }
}

/// A Rust compiler with its sources, for the kernel programs.
pub const EBPF_COMPILER: &[Package] = &[
    package("/usr/bin/rustc", "rustc-web", "compiles the kernel programs"),
    package("/usr/bin/cargo", "cargo-web", "builds the kernel programs"),
    package(
        "/usr/lib/rustlib/src/rust/library/core/src/lib.rs",
        "rust-web-src",
        "is the source of the core library for the kernel programs",
    ),
];

/// What makes a program small enough to be released.
pub const STRIP: &[Package] = &[package("strip", "binutils", "takes the debug information out of a program")];

/// What fetches and unpacks packages of another suite.
pub const DOWNLOAD: &[Package] = &[
    package("apt-get", "apt", "downloads packages"),
    package("dpkg-deb", "dpkg", "unpacks packages"),
    package("/usr/share/keyrings/debian-archive-keyring.gpg", "debian-archive-keyring", "verifies packages"),
];

/// What makes a kernel's modules ready.
pub const KERNEL_INDEX: &[Package] = &[package("depmod", "kmod", "indexes a kernel's modules")];

/// What boots a virtual machine.
pub const VIRTUAL_MACHINE: &[Package] = &[
    package("qemu-system-x86_64", "qemu-system-x86", "boots virtual machines"),
    package("busybox", "busybox-static", "is the virtual machines' first program"),
    package("cpio", "cpio", "packs their first file system"),
    package("xz", "xz-utils", "unpacks their modules"),
    package("setpriv", "util-linux", "ends them together with their parent"),
];

/// What a lab is built with, on this machine or in a guest, which sees this machine's programs.
pub const LAB: &[Package] = &[
    package("modprobe", "kmod", "loads a lab's modules"),
    package("ip", "iproute2", "sets up a lab's devices"),
    package("tc", "iproute2", "sets up a lab's queues"),
    package("iptables-legacy", "iptables", "sets up a lab's firewall"),
    package("nft", "nftables", "sets up a lab's firewall"),
    package("ethtool", "ethtool", "sets up a lab's offloads"),
    package("ipset", "ipset", "sets up a lab's sets of addresses"),
    package("ipvsadm", "ipvsadm", "sets up a lab's virtual servers"),
    package("conntrack", "conntrack", "removes a lab's connection tracking entries"),
    package("ovs-dpctl", "openvswitch-switch", "sets up a lab's Open vSwitch datapath"),
    package("/usr/lib/cni/portmap", "containernetworking-plugins", "connects a lab's pods by CNI"),
    package("wg", "wireguard-tools", "sets up a lab's WireGuard"),
    package("bird", "bird2", "exchanges a lab's routes"),
];

impl Package {
    fn is_there(&self) -> bool {
        if self.provides.starts_with('/') {
            Path::new(self.provides).exists()
        } else {
            host::find_program(self.provides).is_some()
        }
    }
}

/// True when this process may install packages.
pub fn can_install() -> bool {
    host::is_root() && host::find_program("apt-get").is_some()
}

/// Makes sure that all of these are there; what is missing is installed if this process may do that.
///
/// # Errors
///
/// Something is missing and could not be installed; the message names the packages and what they are for.
pub fn require(wanted: &[Package]) -> Result<()> {
    let is_missing = |package: &&Package| !package.is_there();
    if !wanted.iter().any(|package| is_missing(&package)) {
        return Ok(());
    }
    let _alone = if can_install() { Some(lock()?) } else { None };
    // Another one may have installed some meanwhile.
    let missing: Vec<&Package> = wanted.iter().filter(is_missing).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let reasons: Vec<String> =
        missing.iter().map(|item| format!("{} ({})", item.package, item.why)).collect();
    let mut names: Vec<&str> = missing.iter().map(|item| item.package).collect();
    names.dedup();
    if !can_install() {
        bail!("missing: {}; as root: apt-get install {}", reasons.join(", "), names.join(" "));
    }
    host::progress(&format!("installing {}", reasons.join(", ")));
    install(&names).with_context(|| format!("cannot install {}", names.join(" ")))?;
    if let Some(item) = missing.iter().find(|item| !item.is_there()) {
        bail!("the package {} was installed, but {} is still missing", item.package, item.provides);
    }
    Ok(())
}

/// Reads the package lists of this machine's sources.
///
/// # Errors
///
/// They cannot be read.
pub fn update() -> Result<()> {
    let _alone = lock()?;
    apt_get(&["update"])
}

fn install(names: &[&str]) -> Result<()> {
    apt_get(&["update"])?;
    apt_get(&[&["install", "--yes", "--no-install-recommends"], names].concat())
}

/// Waits until no other process of this project's changes what is installed; `apt-get` itself fails at once.
fn lock() -> Result<File> {
    let folder = host::cache()?;
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let path = folder.join("packages.lock");
    let file = File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
    file.lock().with_context(|| format!("cannot lock {}", path.display()))?;
    Ok(file)
}

/// How long to wait for another's `apt-get`, such as the daily one of a new machine.
const TRIES: u32 = 60;
const PAUSE: Duration = Duration::from_secs(5);

fn apt_get(arguments: &[&str]) -> Result<()> {
    let mut tries = 1;
    loop {
        let mut command = Command::new("apt-get");
        command.env("DEBIAN_FRONTEND", "noninteractive").arg("-q").args(arguments);
        match host::output(&mut command) {
            Err(error) if tries < TRIES && error.to_string().contains("Could not get lock") => {
                tries += 1;
                thread::sleep(PAUSE);
            }
            done => return done.map(drop),
        }
    }
}
