//! Notes of what was made on devices: after `kill -9` the next start knows by them what to undo.
//!
//! A note is a file below [`FOLDER`] that its recorder holds a lock on as long as it lives. A note that is not locked is
//! that of a recorder that was killed.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{Seek, Write},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
};

use anyhow::{Context, Result};
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

/// Notes do not outlive a reboot, as little as filters do.
pub const FOLDER: &str = "/run/overlay-trace";

/// Whether this process has a note.
static HAS_NOTE: AtomicBool = AtomicBool::new(false);

/// Whether this process has put filters on devices and not removed them yet.
pub fn has_note() -> bool {
    HAS_NOTE.load(Ordering::Relaxed)
}

/// What was made on a device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Made {
    /// Inode number of the network namespace, and its cookie where there is one: inode numbers are used again.
    pub netns: u32,
    pub netns_cookie: u64,
    pub ifindex: u32,
    pub device: String,
    /// Whether the device had no `clsact` before.
    pub clsact: bool,
    /// The handle of the filters.
    pub handle: u32,
}

/// The note of this process.
pub struct Note {
    path: PathBuf,
    file: Flock<File>,
    made: Vec<Made>,
}

impl Note {
    /// Creates the note of this process.
    ///
    /// # Errors
    ///
    /// It cannot be written.
    pub fn create(folder: &Path) -> Result<Note> {
        // Labs keep their notes below it too, and insist on these permissions.
        let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
        made.with_context(|| format!("cannot create {}", folder.display()))?;
        let name = format!("tc-{}-{}", std::process::id(), crate::sys::clock::monotonic_ns());
        let path = folder.join(name);
        let file = OpenOptions::new().create_new(true).write(true).open(&path);
        let file = file.with_context(|| format!("cannot create {}", path.display()))?;
        let file = lock(file).with_context(|| format!("cannot lock {}", path.display()))?;
        HAS_NOTE.store(true, Ordering::Relaxed);
        Ok(Note { path, file, made: Vec::new() })
    }

    /// Notes what is about to be made.
    ///
    /// # Errors
    ///
    /// It cannot be written.
    pub fn add(&mut self, made: Made) -> Result<()> {
        self.made.push(made);
        self.write().with_context(|| format!("cannot write {}", self.path.display()))
    }

    fn write(&mut self) -> std::io::Result<()> {
        let text = serde_json::to_vec(&self.made)?;
        self.file.set_len(0)?;
        self.file.rewind()?;
        self.file.write_all(&text)
    }
}

impl Drop for Note {
    fn drop(&mut self) {
        // Everything in it has been undone; of a file that stays, the next start finds nothing to undo.
        let _ = fs::remove_file(&self.path);
        HAS_NOTE.store(false, Ordering::Relaxed);
    }
}

fn lock(file: File) -> Result<Flock<File>, nix::Error> {
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, error)| error)
}

/// The notes in a folder.
pub struct Notes {
    /// What recorders that run have made.
    pub alive: Vec<Made>,
    /// What recorders that were killed have left behind.
    pub left: Vec<Made>,
    /// The files of the latter, locked.
    files: Vec<(PathBuf, Flock<File>)>,
}

impl Notes {
    /// Reads the notes.
    pub fn read(folder: &Path) -> Notes {
        let mut notes = Notes { alive: Vec::new(), left: Vec::new(), files: Vec::new() };
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            if !entry.file_name().to_string_lossy().starts_with("tc-") {
                continue;
            }
            let Ok(file) = File::open(entry.path()) else { continue };
            let made = || -> Vec<Made> {
                let text = fs::read(entry.path()).unwrap_or_default();
                serde_json::from_slice(&text).unwrap_or_default()
            };
            match lock(file) {
                Ok(file) => {
                    notes.left.extend(made());
                    notes.files.push((entry.path(), file));
                }
                Err(_) => notes.alive.extend(made()),
            }
        }
        notes
    }

    /// Removes the notes of what has been undone.
    pub fn remove(self) {
        for (path, _lock) in self.files {
            let _ = fs::remove_file(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn only_the_owner_can_use_the_folder_of_notes() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("overlay-trace");
        let _note = Note::create(&folder).unwrap();
        assert_eq!(fs::metadata(&folder).unwrap().permissions().mode() & 0o777, 0o700);
    }

    fn made(ifindex: u32) -> Made {
        Made { netns: 1, netns_cookie: 2, ifindex, device: "eth0".into(), clsact: true, handle: 3 }
    }

    #[test]
    fn a_note_is_alive_as_long_as_its_recorder() {
        let folder = tempfile::tempdir().unwrap();
        let mut note = Note::create(folder.path()).unwrap();
        note.add(made(7)).unwrap();
        note.add(made(8)).unwrap();
        let notes = Notes::read(folder.path());
        assert_eq!((notes.alive, notes.left), (vec![made(7), made(8)], vec![]));
        // As the kernel does it for a process that was killed.
        fs::copy(&note.path, folder.path().join("tc-1-1")).unwrap();
        let notes = Notes::read(folder.path());
        assert_eq!((&notes.left, notes.alive.len()), (&vec![made(7), made(8)], 2));
        notes.remove();
        drop(note);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
