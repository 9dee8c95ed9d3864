//! The distribution kernels that a virtual machine can boot, and how they get here.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use super::suite::{self, Suite};
use crate::{host, packages};

/// A row of the table of kernels.
pub struct Row {
    /// The upstream version, by which people name it.
    pub name: &'static str,
    /// The suite of Debian that has it.
    suite: &'static str,
}

/// More kernels are one row each.
pub const KERNELS: &[Row] = &[
    Row { name: "5.10", suite: "bullseye" },
    Row { name: "6.1", suite: "bookworm" },
    Row { name: "6.12", suite: "trixie" },
    Row { name: "7.2", suite: "sid" },
];

/// The names of all.
pub const NAMES: [&str; KERNELS.len()] = {
    let mut names = [""; KERNELS.len()];
    let mut row = 0;
    while row < names.len() {
        names[row] = KERNELS[row].name;
        row += 1;
    }
    names
};

/// The package whose dependency names the suite's current kernel.
const META_PACKAGE: &str = "linux-image-amd64";

/// A kernel in the cache folder.
pub struct Kernel {
    /// The folder that holds `vmlinuz` and `lib/modules`.
    folder: PathBuf,
    /// What `uname -r` says in it.
    pub release: String,
}

impl Kernel {
    /// The bootable image.
    pub fn image(&self) -> PathBuf {
        self.folder.join("vmlinuz")
    }

    /// The folder that becomes the guest's `/lib/modules`.
    pub fn all_modules(&self) -> PathBuf {
        self.folder.join("lib/modules")
    }

    /// The folder of this kernel's modules.
    pub fn modules(&self) -> PathBuf {
        self.all_modules().join(&self.release)
    }
}

/// The kernel of a row's name, downloaded if it is not in the cache.
///
/// # Errors
///
/// No row has that name, or the package cannot be had or unpacked.
pub fn get(name: &str) -> Result<Kernel> {
    let Some(row) = KERNELS.iter().find(|row| row.name == name) else {
        let names: Vec<&str> = KERNELS.iter().map(|row| row.name).collect();
        bail!("there is no kernel {name:?}: the kernels are {}", names.join(", "));
    };
    let folder = host::cache()?.join("kernels").join(row.name);
    suite::once(&folder, |work, unpacked| download(row, work, unpacked))
        .with_context(|| format!("cannot get Debian's kernel {} ({})", row.name, row.suite))?;
    let release = only_entry(&folder.join("lib/modules"))?;
    Ok(Kernel { folder, release })
}

fn download(row: &Row, work: &Path, unpacked: &Path) -> Result<()> {
    packages::require(packages::KERNEL_INDEX)?;
    let suite = Suite::open(row.suite, work)?;
    let image = suite
        .dependencies(META_PACKAGE)?
        .into_iter()
        .find(|name| name.starts_with(&format!("linux-image-{}.", row.name)))
        .with_context(|| format!("{} has no kernel {} any more", row.suite, row.name))?;
    let release = image.trim_start_matches("linux-image-").to_owned();
    // Later kernels are split up: the image package depends on those that hold the files.
    let mut wanted = suite.dependencies(&image)?;
    wanted.retain(|name| name.starts_with("linux-") && name.ends_with(&format!("-{release}")));
    wanted.push(image);
    let files = work.join("files");
    suite.unpack(&wanted, &files)?;
    arrange(&files, &release, unpacked)
}

/// Puts image and modules, which lie in different places in different suites, where [`Kernel`] has them.
fn arrange(files: &Path, release: &str, unpacked: &Path) -> Result<()> {
    let modules = ["lib/modules", "usr/lib/modules"].map(|place| files.join(place).join(release));
    let modules = modules.iter().find(|place| place.is_dir()).context("the package has no modules")?;
    let images = [files.join(format!("boot/vmlinuz-{release}")), modules.join("vmlinuz")];
    let image = images.iter().find(|place| place.is_file()).context("the package has no kernel image")?;
    fs::create_dir_all(unpacked.join("lib/modules"))?;
    fs::rename(image, unpacked.join("vmlinuz"))?;
    fs::rename(modules, unpacked.join("lib/modules").join(release))?;
    let depmod = host::find_program("depmod").context("depmod is missing")?;
    host::output(Command::new(depmod).arg("-b").arg(unpacked).arg(release)).map(drop)
}

fn only_entry(folder: &Path) -> Result<String> {
    let first = fs::read_dir(folder)
        .and_then(|mut entries| entries.next().unwrap_or_else(|| Err(io::ErrorKind::NotFound.into())))
        .with_context(|| {
            format!("{} holds no kernel's modules: remove the folder above it", folder.display())
        })?;
    Ok(first.file_name().to_string_lossy().into_owned())
}
