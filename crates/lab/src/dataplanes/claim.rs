//! What a lab has made on this machine, so that nothing else is ever removed.
//!
//! The folder `/run/overlay-trace/labs/NAME` exists while the lab NAME stands, or when a run of it was killed. It is
//! locked by the process that runs the lab, and has the files of the lab's daemons, and `made.json`: the namespaces and
//! cgroups that were made, each with its identity. A name alone says nothing: somebody may have made another one of it.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

use super::netns::Netns;
use super::{cgroup_programs, nic, private_folder};

/// The folder of all claims, below that of [`private_folder::root`].
const LABS: &str = "labs";
/// The file of what was made.
const MADE: &str = "made.json";

/// The exclusive right to a lab's name, and what was made under it.
#[derive(Debug)]
pub struct Claim {
    folder: PathBuf,
    made: Made,
    /// The kernel releases it when the process ends, however it ends.
    _lock: Flock<File>,
}

/// What was made under a name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Made {
    /// It was left standing on purpose.
    kept: bool,
    namespaces: Vec<Thing>,
    cgroups: Vec<Thing>,
}

/// A namespace or cgroup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Thing {
    path: PathBuf,
    identity: Identity,
}

/// What tells a file from a later one of the same name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Identity {
    device: u64,
    inode: u64,
    /// When it was made, in s and ns. A namespace's inode number is soon given to another one; nothing changes the
    /// inode of a namespace later. `None` for cgroups: their numbers are used once, and the time changes.
    made: Option<(i64, i64)>,
}

impl Identity {
    fn of(path: &Path, with_time: bool) -> Option<Identity> {
        let found = fs::metadata(path).ok()?;
        let made = with_time.then(|| (found.ctime(), found.ctime_nsec()));
        Some(Identity { device: found.dev(), inode: found.ino(), made })
    }
}

impl Thing {
    fn at(path: PathBuf, with_time: bool) -> Result<Thing> {
        let identity =
            Identity::of(&path, with_time).with_context(|| format!("cannot find {}", path.display()))?;
        Ok(Thing { path, identity })
    }

    /// What stands at its path now is it, and nothing that somebody else has put there.
    fn is_there(&self) -> bool {
        Identity::of(&self.path, self.identity.made.is_some()).as_ref() == Some(&self.identity)
    }

    fn remove(&self, remove: impl FnOnce(&Path) -> Result<()>) -> Removal {
        if !self.is_there() {
            let is_gone =
                fs::symlink_metadata(&self.path).is_err_and(|error| error.kind() == ErrorKind::NotFound);
            return if is_gone { Removal::Gone } else { Removal::Foreign };
        }
        remove(&self.path).map_or_else(Removal::Failed, |()| Removal::Done)
    }

    fn left(&self) -> String {
        format!("{} is no longer the lab's, and is left", self.path.display())
    }
}

/// What came of removing a thing.
enum Removal {
    Done,
    /// It was not there any more.
    Gone,
    /// Something else has its name by now.
    Foreign,
    Failed(anyhow::Error),
}

/// The claims of all labs that stand, or whose runs were killed.
pub fn others(name: &str) -> Result<Vec<String>> {
    let labs = private_folder::root()?.join(LABS);
    let Ok(entries) = fs::read_dir(&labs) else { return Ok(Vec::new()) };
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    Ok(names.filter(|other| other != name && labs.join(other).join(MADE).exists()).collect())
}

impl Claim {
    /// Claims the name.
    ///
    /// # Errors
    ///
    /// When another run has it.
    pub fn take(name: &str) -> Result<Claim> {
        Claim::take_in(&private_folder::root()?.join(LABS), name)
    }

    fn take_in(labs: &Path, name: &str) -> Result<Claim> {
        private_folder::create(labs)?;
        let folder = labs.join(name);
        loop {
            private_folder::create(&folder)?;
            let file = File::options()
                .read(true)
                .custom_flags(libc::O_DIRECTORY | libc::O_NOFOLLOW)
                .open(&folder)?;
            let Ok(lock) = Flock::lock(file, FlockArg::LockExclusiveNonblock) else {
                bail!("the lab {name} is in use by another run: wait for it, or stop it")
            };
            // Another run may have removed the folder before it was locked here.
            if fs::metadata(&folder).is_ok_and(|now| lock.metadata().is_ok_and(|it| it.ino() == now.ino())) {
                let made = read(&folder.join(MADE))?;
                return Ok(Claim { folder, made, _lock: lock });
            }
        }
    }

    /// The lab's folder. It goes with the lab.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Something of an earlier run is left, on purpose or because it was killed.
    pub fn is_left(&self) -> bool {
        self.made != Made::default()
    }

    /// The lab was left standing on purpose.
    pub fn is_kept(&self) -> bool {
        self.made.kept
    }

    /// Notes that the lab is being built, for [`others`].
    pub fn begin(&self) -> Result<()> {
        self.write()
    }

    /// Notes that a namespace was made.
    pub fn add_namespace(&mut self, netns: &Netns) -> Result<()> {
        self.made.namespaces.push(Thing::at(netns.path(), true)?);
        self.write()
    }

    /// Notes that a cgroup was made.
    pub fn add_cgroup(&mut self, path: PathBuf) -> Result<()> {
        self.made.cgroups.push(Thing::at(path, false)?);
        self.write()
    }

    /// Notes that the lab is left standing on purpose.
    pub fn keep(&mut self) -> Result<()> {
        self.made.kept = true;
        self.write()
    }

    /// Removes what was made under the name, and nothing else; returns the number of namespaces removed.
    ///
    /// # Errors
    ///
    /// When something cannot be removed, or its name belongs to something else by now. The rest is removed.
    pub fn remove(&mut self) -> Result<usize> {
        let Made { kept, namespaces, cgroups } = std::mem::take(&mut self.made);
        let mut failures = Vec::new();
        let mut count = 0;
        for thing in namespaces.into_iter().rev() {
            match thing.remove(remove_netns) {
                Removal::Done => count += 1,
                Removal::Gone => {}
                Removal::Foreign => failures.push(thing.left()),
                Removal::Failed(error) => {
                    failures.push(format!("{error:#}"));
                    self.made.namespaces.insert(0, thing);
                }
            }
        }
        for thing in cgroups {
            match thing.remove(cgroup_programs::remove) {
                Removal::Done | Removal::Gone => {}
                Removal::Foreign => failures.push(thing.left()),
                Removal::Failed(error) => {
                    failures.push(format!("{error:#}"));
                    self.made.cgroups.push(thing);
                }
            }
        }
        self.made.kept = kept && self.is_left();
        self.empty()?;
        ensure!(failures.is_empty(), "cannot remove everything: {}", failures.join("; "));
        Ok(count)
    }

    /// Removes the files of the lab's daemons; `made.json` too when nothing is left of the lab.
    fn empty(&self) -> Result<()> {
        let entries = fs::read_dir(&self.folder).context("cannot read the lab's folder")?;
        for path in entries.flatten().map(|entry| entry.path()).filter(|path| !path.ends_with(MADE)) {
            let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            removed.with_context(|| format!("cannot remove {}", path.display()))?;
        }
        if self.is_left() { self.write() } else { Ok(gone(fs::remove_file(self.folder.join(MADE)))?) }
    }

    fn write(&self) -> Result<()> {
        private_folder::replace(&self.folder.join(MADE), &serde_json::to_vec(&self.made)?)
    }
}

impl Drop for Claim {
    /// Gives the name back; the folder stays while something is left.
    fn drop(&mut self) {
        if !self.is_left() {
            // Other files are of daemons that still end; the next claim of this name removes them.
            let _ = fs::remove_file(self.folder.join(MADE));
            let _ = fs::remove_dir(&self.folder);
        }
    }
}

fn read(path: &Path) -> Result<Made> {
    match fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes).with_context(|| {
            format!("cannot read {}: remove it, and what is left of the lab, by hand", path.display())
        }),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Made::default()),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

/// Deletes a namespace; NICs that were lent to it are given back before.
fn remove_netns(path: &Path) -> Result<()> {
    let netns = Netns::at(path)?;
    let given_back = nic::give_back(&netns);
    netns.delete().and(given_back)
}

/// What need not be removed is removed.
fn gone(result: std::io::Result<()>) -> std::io::Result<()> {
    result.or_else(|error| if error.kind() == ErrorKind::NotFound { Ok(()) } else { Err(error) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::TempDir::new().unwrap();
        let labs = dir.path().join("labs");
        (dir, labs)
    }

    #[test]
    fn a_name_is_claimed_once_and_another_that_begins_alike_beside_it() {
        let (_dir, labs) = folder();
        let first = Claim::take_in(&labs, "kube-router").unwrap();
        assert!(
            Claim::take_in(&labs, "kube-router").unwrap_err().to_string().contains("in use by another run")
        );
        Claim::take_in(&labs, "kube-router-ipip").unwrap();
        drop(first);
        assert!(!labs.join("kube-router").exists());
        Claim::take_in(&labs, "kube-router").unwrap();
    }

    #[test]
    fn only_what_was_made_is_removed_and_not_what_took_its_name() {
        let (dir, labs) = folder();
        let [own, taken, missing] = ["own", "taken", "missing"].map(|name| dir.path().join(name));
        let mut claim = Claim::take_in(&labs, "host").unwrap();
        for path in [&own, &taken, &missing] {
            fs::create_dir(path).unwrap();
            claim.add_cgroup(path.clone()).unwrap();
        }
        claim.keep().unwrap();
        fs::write(claim.folder().join("bird.conf"), "").unwrap();
        drop(claim);
        fs::remove_dir(&missing).unwrap();
        // The new one is made before the old one goes, so that it cannot have its number.
        fs::create_dir(dir.path().join("new")).unwrap();
        fs::remove_dir(&taken).unwrap();
        fs::rename(dir.path().join("new"), &taken).unwrap();

        let mut claim = Claim::take_in(&labs, "host").unwrap();
        assert!(claim.is_left() && claim.is_kept());
        let said = claim.remove().unwrap_err().to_string();
        assert!(said.contains("taken is no longer the lab's") && !said.contains("own"), "{said}");
        assert!(!own.exists() && taken.exists());
        assert!(!claim.is_left() && !claim.is_kept());
        assert!(fs::read_dir(claim.folder()).unwrap().next().is_none());
        drop(claim);
        assert!(!labs.join("host").exists());
    }

    #[test]
    fn what_a_killed_run_has_left_is_found_and_is_not_kept() {
        let (dir, labs) = folder();
        let path = dir.path().join("own");
        fs::create_dir(&path).unwrap();
        let mut claim = Claim::take_in(&labs, "host").unwrap();
        claim.add_cgroup(path.clone()).unwrap();
        drop(claim);
        let mut claim = Claim::take_in(&labs, "host").unwrap();
        assert!(claim.is_left() && !claim.is_kept());
        claim.remove().unwrap();
        assert!(!path.exists() && !claim.is_left());
    }
}
