//! Creating the files that a command writes. The commands run as root in folders where others may write too.

use std::{
    fs::{self, File},
    io::{self, ErrorKind},
    os::unix::fs::{MetadataExt, fchown},
    path::Path,
};

use nix::{
    fcntl::{OFlag, openat},
    sys::stat::Mode,
    unistd::{UnlinkatFlags, unlinkat},
};

use crate::{
    existing::{Existing, find, is_at, lock},
    place::{Place, sudo_user},
};

/// Who may read a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readers {
    /// The owner alone: recordings hold addresses of tenants.
    Owner,
    /// As the umask says.
    Umask,
}

/// So often is a file replaced that somebody else creates again.
const ATTEMPTS: usize = 8;

/// A file that was created to be written from its beginning. It is locked (`flock`, which other programs need not heed)
/// until this is dropped.
#[derive(Debug)]
pub struct OutputFile {
    pub file: File,
    /// Where it was created; `None` for a device or a pipe, which stood there.
    place: Option<Place>,
}

impl OutputFile {
    /// Creates a file. One that exists is replaced only with `force`, and only if it belongs to the user and nobody is
    /// writing it. Symbolic links, also on the way to the file, are followed only if they belong to the user or to root,
    /// so that nobody else chooses what is overwritten. Root's user under `sudo` is the one who called it: the new file
    /// belongs to that user.
    ///
    /// A new file is made in place of the old one: who had that open does not see what is written.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::AlreadyExists`] without `force`; [`ErrorKind::ResourceBusy`] for a file that is being written;
    /// [`ErrorKind::PermissionDenied`], with a sentence, for what belongs to others.
    pub fn create(path: &Path, force: bool, readers: Readers) -> io::Result<OutputFile> {
        for _ in 0..ATTEMPTS {
            let (place, existing) = find(path, force)?;
            match OutputFile::create_at(place, existing, readers) {
                Err(error) if force && error.kind() == ErrorKind::AlreadyExists => {}
                other => return other,
            }
        }
        Err(io::Error::other("somebody creates it over and over again"))
    }

    /// Creates a file in place of what was found.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::AlreadyExists`] where something else stands there by now.
    fn create_at(place: Place, existing: Existing, readers: Readers) -> io::Result<OutputFile> {
        match &existing {
            Existing::Nothing => {}
            Existing::File(old) if old.is_at(&place) => {
                unlinkat(&place.folder, place.name.as_os_str(), UnlinkatFlags::NoRemoveDir)?;
            }
            // It is gone, or something else is there, which the next step finds.
            Existing::File(_) => {}
            Existing::Other => {
                let flags = OFlag::O_WRONLY | OFlag::O_APPEND | OFlag::O_CLOEXEC;
                let file = openat(&place.folder, place.name.as_os_str(), flags, Mode::empty())?;
                return Ok(OutputFile { file: file.into(), place: None });
            }
        }
        // The old file is locked until the new one is there.
        let file = create_new(&place, readers)?;
        drop(existing);
        Ok(OutputFile { file, place: Some(place) })
    }

    /// Removes the file again, where nothing in it can be used. A device or a pipe stays, and so does what somebody else
    /// has put in its place.
    pub fn discard(&self) {
        let Some(place) = &self.place else { return };
        let Ok(own) = self.file.metadata() else { return };
        if is_at(place, (own.dev(), own.ino())) {
            let _ = unlinkat(&place.folder, place.name.as_os_str(), UnlinkatFlags::NoRemoveDir);
        }
    }

    /// Checks that the file has the bytes that were written, and is found under its name.
    ///
    /// # Errors
    ///
    /// What is wrong, as the rest of a sentence that begins with the name: it was deleted, replaced, shortened or written
    /// by somebody else.
    pub(crate) fn check(&self, path: &Path, bytes: u64) -> Result<(), String> {
        let own = self.file.metadata().map_err(|error| format!("cannot be found any more ({error})"))?;
        match fs::metadata(path) {
            Err(_) => Err("was deleted or moved while it was written: it is not there".into()),
            Ok(found) if (found.dev(), found.ino()) != (own.dev(), own.ino()) => {
                Err("was replaced while it was written: what is there now is something else".into())
            }
            Ok(_) if own.len() != bytes => {
                let length = own.len();
                Err(format!(
                    "was changed by another program while it was written: it has {length} of {bytes} bytes"
                ))
            }
            Ok(_) => Ok(()),
        }
    }
}

/// Where a file is to be written later: what stands there now is locked until then, and what comes there meanwhile is not
/// replaced.
#[derive(Debug)]
pub struct ReservedOutput {
    place: Place,
    existing: Existing,
}

impl ReservedOutput {
    /// Looks at what stands there, and locks a file.
    ///
    /// # Errors
    ///
    /// As for [`OutputFile::create`]; [`ErrorKind::InvalidInput`] for a device or a pipe.
    pub(crate) fn new(path: &Path, force: bool) -> io::Result<ReservedOutput> {
        match find(path, force)? {
            (_, Existing::Other) => Err(ErrorKind::InvalidInput.into()),
            (place, existing) => Ok(ReservedOutput { place, existing }),
        }
    }

    /// Creates the file.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::AlreadyExists`] where somebody else has created one meanwhile; the kernel's.
    pub(crate) fn create(self, readers: Readers) -> io::Result<OutputFile> {
        OutputFile::create_at(self.place, self.existing, readers)
    }
}

fn create_new(place: &Place, readers: Readers) -> io::Result<File> {
    let mode = match readers {
        Readers::Owner => Mode::S_IRUSR | Mode::S_IWUSR,
        Readers::Umask => Mode::from_bits_truncate(0o666),
    };
    // With O_EXCL the last part of the path is no link. Appended: what another program cuts off the file is missing from its
    // length then, and no hole.
    let flags = OFlag::O_WRONLY | OFlag::O_APPEND | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
    let file = File::from(openat(&place.folder, place.name.as_os_str(), flags, mode)?);
    lock(&file)?;
    let own = file.metadata()?;
    if !is_at(place, (own.dev(), own.ino())) {
        // Between creation and lock another program took it for an old one.
        return Err(ErrorKind::AlreadyExists.into());
    }
    if let Some((user, group)) = sudo_user() {
        fchown(&file, Some(user), Some(group))?;
    }
    Ok(file)
}

#[cfg(test)]
mod tests;
