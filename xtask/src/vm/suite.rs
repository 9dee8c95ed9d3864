//! Packages of another suite of Debian than this machine's, unpacked into the cache folder and not installed.

use std::{fs, path::Path, process::Command};

use anyhow::{Context, Result};

use crate::{host, packages};

const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Makes a folder in the cache if it is not there: `fetch` gets a folder to work in, and the path under which it is
/// to leave the result.
///
/// # Errors
///
/// What `fetch` complains about, or the folder cannot be made.
pub fn once(folder: &Path, fetch: impl FnOnce(&Path, &Path) -> Result<()>) -> Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    let above = folder.parent().context("the cache has no folder")?;
    fs::create_dir_all(above).with_context(|| format!("cannot create {}", above.display()))?;
    let work = tempfile::tempdir_in(above).context("cannot create a folder to work in")?;
    let unpacked = work.path().join("unpacked");
    fetch(work.path(), &unpacked)?;
    match fs::rename(&unpacked, folder) {
        // Somebody else was faster; theirs is as good.
        Err(_) if folder.is_dir() => Ok(()),
        renamed => renamed.with_context(|| format!("cannot create {}", folder.display())),
    }
}

/// The machine's own package client and mirror, with another suite and with lists and cache of its own.
pub struct Suite {
    options: Vec<String>,
}

impl Suite {
    /// Reads the list of a suite's packages.
    ///
    /// # Errors
    ///
    /// It cannot be had, or `folder`, which it is kept in, cannot be written.
    pub fn open(name: &str, folder: &Path) -> Result<Suite> {
        packages::require(packages::DOWNLOAD)?;
        let (lists, cache) = (folder.join("lists"), folder.join("cache"));
        for place in [lists.join("partial"), cache.join("archives/partial")] {
            fs::create_dir_all(&place).with_context(|| format!("cannot create {}", place.display()))?;
        }
        let sources = folder.join("sources.list");
        let line = format!("deb [signed-by={KEYRING}] {} {name} main\n", mirror()?);
        fs::write(&sources, line).with_context(|| format!("cannot write {}", sources.display()))?;
        let options = [
            format!("Dir::Etc::SourceList={}", sources.display()),
            "Dir::Etc::SourceParts=/dev/null".to_owned(),
            format!("Dir::State::Lists={}", lists.display()),
            format!("Dir::Cache={}", cache.display()),
            // What this machine has installed is of no interest.
            "Dir::State::Status=/dev/null".to_owned(),
            "APT::Architecture=amd64".to_owned(),
            // The unprivileged user that apt changes to cannot enter the cache folder of another.
            "APT::Sandbox::User=root".to_owned(),
            "Acquire::Languages=none".to_owned(),
            "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false".to_owned(),
        ];
        let options = options.into_iter().flat_map(|option| ["-o".to_owned(), option]).collect();
        let suite = Suite { options };
        host::progress(&format!("reading the package list of {name}"));
        host::output(suite.command("apt-get").arg("update"))?;
        Ok(suite)
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("LC_ALL", "C").arg("-q").args(&self.options);
        command
    }

    /// The names of the packages that a package depends on.
    ///
    /// # Errors
    ///
    /// The suite does not have it.
    pub fn dependencies(&self, package: &str) -> Result<Vec<String>> {
        let text = host::output(self.command("apt-cache").args(["depends", package]))?;
        let names = text.lines().filter_map(|line| line.trim_start().strip_prefix("Depends: "));
        Ok(names.map(str::to_owned).collect())
    }

    /// Downloads packages and unpacks their files into a folder.
    ///
    /// # Errors
    ///
    /// They cannot be had, or the folder cannot be written.
    pub fn unpack<Name: AsRef<str>>(&self, wanted: &[Name], files: &Path) -> Result<()> {
        let names: Vec<&str> = wanted.iter().map(AsRef::as_ref).collect();
        host::progress(&format!("downloading {} (once)", names.join(", ")));
        fs::create_dir_all(files).with_context(|| format!("cannot create {}", files.display()))?;
        let archives = tempfile::tempdir_in(files).context("cannot create a folder for the packages")?;
        host::output(self.command("apt-get").arg("download").args(&names).current_dir(archives.path()))?;
        for archive in fs::read_dir(archives.path())?.flatten() {
            host::output(Command::new("dpkg-deb").arg("-x").args([&archive.path(), files]))?;
        }
        Ok(())
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
