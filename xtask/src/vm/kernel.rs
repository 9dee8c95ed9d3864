//! The distribution kernels that a virtual machine can boot, and how they get here.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

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

/// The package whose dependency names the suite's current kernel.
const META_PACKAGE: &str = "linux-image-amd64";
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

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
    let kernels = host::cache()?.join("kernels");
    let folder = kernels.join(row.name);
    if !folder.is_dir() {
        fs::create_dir_all(&kernels).with_context(|| format!("cannot create {}", kernels.display()))?;
        let work = tempfile::tempdir_in(&kernels).context("cannot create a folder for the kernel")?;
        let unpacked = work.path().join("kernel");
        download(row, work.path(), &unpacked)
            .with_context(|| format!("cannot get Debian's kernel {} ({})", row.name, row.suite))?;
        match fs::rename(&unpacked, &folder) {
            // Somebody else was faster; theirs is as good.
            Err(_) if folder.is_dir() => {}
            renamed => renamed.with_context(|| format!("cannot create {}", folder.display()))?,
        }
    }
    let release = only_entry(&folder.join("lib/modules"))?;
    Ok(Kernel { folder, release })
}

fn download(row: &Row, work: &Path, unpacked: &Path) -> Result<()> {
    packages::require(packages::KERNEL_DOWNLOAD)?;
    let client = PackageClient::new(row.suite, &work.join("apt"))?;
    host::progress(&format!("reading the package list of {}", row.suite));
    host::output(client.command("apt-get").arg("update"))?;
    let image = client
        .dependencies(META_PACKAGE)?
        .into_iter()
        .find(|name| name.starts_with(&format!("linux-image-{}.", row.name)))
        .with_context(|| format!("{} has no kernel {} any more", row.suite, row.name))?;
    let release = image.trim_start_matches("linux-image-").to_owned();
    // Later kernels are split up: the image package only depends on the two that hold the files.
    let parts = [format!("linux-modules-{release}"), format!("linux-binary-{release}")];
    let depends = client.dependencies(&image)?;
    let wanted: Vec<String> =
        parts.into_iter().filter(|part| depends.contains(part)).chain([image.clone()]).collect();
    host::progress(&format!("downloading {} (once)", wanted.join(", ")));
    host::output(client.command("apt-get").arg("download").args(&wanted).current_dir(work))?;
    for archive in fs::read_dir(work)?.flatten().map(|entry| entry.path()) {
        if archive.extension().is_some_and(|extension| extension == "deb") {
            host::output(Command::new("dpkg-deb").arg("-x").args([&archive, &work.join("files")]))?;
        }
    }
    arrange(&work.join("files"), &release, unpacked)
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

/// The machine's own package client and mirror, with another suite and with lists and cache of its own.
struct PackageClient {
    options: Vec<String>,
}

impl PackageClient {
    fn new(suite: &str, folder: &Path) -> Result<Self> {
        let (lists, cache) = (folder.join("lists"), folder.join("cache"));
        for place in [lists.join("partial"), cache.join("archives/partial")] {
            fs::create_dir_all(&place).with_context(|| format!("cannot create {}", place.display()))?;
        }
        let sources = folder.join("sources.list");
        let line = format!("deb [signed-by={KEYRING}] {} {suite} main\n", mirror()?);
        fs::write(&sources, line).with_context(|| format!("cannot write {}", sources.display()))?;
        let options = [
            format!("Dir::Etc::SourceList={}", sources.display()),
            "Dir::Etc::SourceParts=/dev/null".to_owned(),
            format!("Dir::State::Lists={}", lists.display()),
            format!("Dir::Cache={}", cache.display()),
            "APT::Architecture=amd64".to_owned(),
            // The unprivileged user that apt changes to cannot enter the cache folder of another.
            "APT::Sandbox::User=root".to_owned(),
            "Acquire::Languages=none".to_owned(),
            "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false".to_owned(),
        ];
        Ok(Self { options: options.into_iter().flat_map(|option| ["-o".to_owned(), option]).collect() })
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("LC_ALL", "C").arg("-q").args(&self.options);
        command
    }

    /// The names of the packages that a package depends on.
    fn dependencies(&self, package: &str) -> Result<Vec<String>> {
        let text = host::output(self.command("apt-cache").args(["depends", package]))?;
        let names = text.lines().filter_map(|line| line.trim_start().strip_prefix("Depends: "));
        Ok(names.map(str::to_owned).collect())
    }
}

/// The address of the mirror in this machine's package sources.
fn mirror() -> Result<String> {
    let format = ["indextargets", "--format", "$(ORIGIN)|$(LABEL)|$(REPO_URI)", "Created-By: Packages"];
    let find = || -> Result<Option<String>> {
        let text = host::output(Command::new("apt-get").args(format))?;
        Ok(text.lines().find_map(|line| line.strip_prefix("Debian|Debian|")).map(str::to_owned))
    };
    if let Some(mirror) = find()? {
        return Ok(mirror);
    }
    // Who a mirror belongs to is known only once its list has been read.
    if packages::can_install() {
        packages::update()?;
    }
    find()?.context(
        "this machine's package sources name no mirror of Debian's: add one to /etc/apt/sources.list.d",
    )
}
