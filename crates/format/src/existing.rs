//! What stands where a file is to be written, and who may replace it.

use std::{
    fs::{File, TryLockError},
    io::{self, ErrorKind},
    os::unix::fs::MetadataExt,
    path::Path,
};

use nix::{
    errno::Errno,
    fcntl::{AtFlags, OFlag, openat},
    sys::stat::{FileStat, Mode, SFlag, fstatat},
};

use crate::place::{Place, is_trusted, kind};

/// So many links in a row are followed, and files looked at that are replaced meanwhile.
const LINKS_MAX: usize = 8;

/// What stands where a file is to be written.
#[derive(Debug)]
pub(crate) enum Existing {
    Nothing,
    /// A regular file of the user's.
    File(OldFile),
    /// A device or a pipe: it is written to as it is.
    Other,
}

/// A file that is to be replaced.
#[derive(Debug)]
pub(crate) struct OldFile {
    /// Device and inode number.
    identity: (u64, u64),
    /// `None` for a file that cannot be opened.
    _lock: Option<File>,
}

impl OldFile {
    /// Whether it is what stands there now.
    pub fn is_at(&self, place: &Place) -> bool {
        is_at(place, self.identity)
    }
}

/// Whether a file is what stands there now.
pub(crate) fn is_at(place: &Place, identity: (u64, u64)) -> bool {
    place.look().is_ok_and(|found| (found.st_dev, found.st_ino) == identity)
}

/// Finds where a file is to be written, and what stands there. A link is followed only with `force`.
///
/// # Errors
///
/// As for [`OutputFile::create`](crate::OutputFile::create).
pub(crate) fn find(path: &Path, force: bool) -> io::Result<(Place, Existing)> {
    let foreign = |what| {
        Err(io::Error::new(ErrorKind::PermissionDenied, format!("{what} of another user stands there")))
    };
    let mut place = Place::of(path)?;
    for _ in 0..LINKS_MAX {
        let found = match place.look() {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok((place, Existing::Nothing)),
            other => other?,
        };
        let is_ours = is_trusted(found.st_uid);
        match kind(&found) {
            SFlag::S_IFDIR => return Err(ErrorKind::IsADirectory.into()),
            _ if !force => return Err(ErrorKind::AlreadyExists.into()),
            SFlag::S_IFREG if is_ours => {
                if let Some(old) = lock_existing(&place, &found)? {
                    return Ok((place, Existing::File(old)));
                }
            }
            SFlag::S_IFREG => return foreign("a file"),
            SFlag::S_IFLNK if !is_ours => return foreign("a link"),
            SFlag::S_IFLNK if place.is_in_proc() && !leads_to_file(&place)? => {
                return Ok((place, Existing::Other));
            }
            SFlag::S_IFLNK => place = place.of_link()?,
            _ if is_ours => return Ok((place, Existing::Other)),
            _ => return foreign("a device or a pipe"),
        }
    }
    Err(nix::Error::ELOOP.into())
}

/// Locks a file that stands there, where it can be opened; `None` where it is no longer there.
fn lock_existing(place: &Place, found: &FileStat) -> io::Result<Option<OldFile>> {
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let old = match openat(&place.folder, place.name.as_os_str(), flags, Mode::empty()) {
        Ok(file) => {
            let file = File::from(file);
            lock(&file)?;
            let opened = file.metadata()?;
            OldFile { identity: (opened.dev(), opened.ino()), _lock: Some(file) }
        }
        Err(Errno::ENOENT | Errno::ELOOP) => return Ok(None),
        Err(_) => OldFile { identity: (found.st_dev, found.st_ino), _lock: None },
    };
    // Who had it locked may have replaced it: the lock on the old one says nothing of the new one.
    Ok(old.is_at(place).then_some(old))
}

/// Locks a file, where its file system has locks.
pub(crate) fn lock(file: &File) -> io::Result<()> {
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => {
            let said = "another recording is being written to it: choose another name, or stop that one";
            Err(io::Error::new(ErrorKind::ResourceBusy, said))
        }
        Ok(()) | Err(TryLockError::Error(_)) => Ok(()),
    }
}

fn leads_to_file(place: &Place) -> io::Result<bool> {
    let found = fstatat(&place.folder, place.name.as_os_str(), AtFlags::empty())?;
    Ok(kind(&found) == SFlag::S_IFREG)
}
