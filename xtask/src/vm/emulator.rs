//! The program that emulates the guests.

use std::{fs, path::PathBuf, process::Command};

use anyhow::{Context, Result};

use super::suite::{self, Suite};
use crate::{host, packages};

/// Before this version QEMU, where it emulates processors in parallel, translates code while another processor
/// changes it, and keeps what it has translated (mended by its commit deba78709a). A kernel that patches a branch, as
/// for a tracepoint, is then caught for ever in the breakpoint that was there for a moment, or ends by it.
const SOUND_SINCE: (u32, u32) = (8, 1);
const PROGRAM: &str = "qemu-system-x86_64";
/// What of a suite's packages is needed besides the libraries, which are those of this machine's own emulator.
const PACKAGES: &[&str] = &["qemu-system-x86", "qemu-system-data"];

/// An emulator, and the folders of what it loads.
pub struct Emulator {
    pub program: PathBuf,
    pub data: Vec<PathBuf>,
}

/// This machine's own, or where that is too old, the one that its distribution offers as a backport, which is
/// downloaded if it is not in the cache.
///
/// # Errors
///
/// There is none, or it cannot be had.
pub fn get() -> Result<Emulator> {
    packages::require(packages::VIRTUAL_MACHINE)?;
    let own = host::find_program(PROGRAM).with_context(|| format!("{PROGRAM} is missing"))?;
    let text = host::output(Command::new(&own).arg("--version"))?;
    if version(&text).is_some_and(|version| version >= SOUND_SINCE) {
        return Ok(Emulator { program: own, data: Vec::new() });
    }
    let folder = host::cache()?.join("qemu");
    suite::once(&folder, |work, unpacked| Suite::open(&backports()?, work)?.unpack(PACKAGES, unpacked))
        .context("cannot get an emulator without the faults of QEMU before 8.1")?;
    Ok(Emulator {
        program: folder.join("usr/bin").join(PROGRAM),
        data: [folder.join("usr/share/qemu"), "/usr/share/seabios".into(), "/usr/share/qemu".into()].into(),
    })
}

/// The suite of backports for this machine's release.
fn backports() -> Result<String> {
    let text = fs::read_to_string("/etc/os-release").context("cannot read /etc/os-release")?;
    let name = text.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME="));
    Ok(format!("{}-backports", name.context("/etc/os-release names no release")?))
}

/// From `QEMU emulator version 7.2.22 (…)`.
fn version(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.split("version ").nth(1)?.split(|sign: char| !sign.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        let of = |version_: &str| {
            version(&format!("QEMU emulator version {version_} (Debian 1:{version_}+dfsg-7)"))
        };
        assert_eq!(of("7.2.22"), Some((7, 2)));
        assert!(of("7.2.22") < Some(SOUND_SINCE) && of("10.0.2") >= Some(SOUND_SINCE));
        assert_eq!(version("something else"), None);
    }
}
