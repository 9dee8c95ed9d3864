//! Where a path leads, without the links that strangers may have put on the way.

use std::{
    ffi::{OsStr, OsString},
    io::{self, ErrorKind},
    os::{fd::OwnedFd, unix::ffi::OsStrExt},
    path::{Path, PathBuf},
};

use nix::{
    fcntl::{AT_FDCWD, AtFlags, OFlag, openat, readlinkat},
    sys::stat::{FileStat, Mode, SFlag, fstatat},
    unistd::geteuid,
};

/// So many links are followed, as by the kernel.
const LINKS_MAX: usize = 40;

/// To look for what is in a folder; Linux needs no right to list it for that.
#[cfg(target_os = "linux")]
const SEARCH: OFlag = OFlag::O_PATH;
#[cfg(not(target_os = "linux"))]
const SEARCH: OFlag = OFlag::O_RDONLY;

/// A name in a folder. The folder is open: replacing it, or a part of its path, changes nothing any more.
#[derive(Debug)]
pub(crate) struct Place {
    pub folder: OwnedFd,
    pub name: OsString,
}

impl Place {
    /// The place of a path, whose folders must exist. What its last part is does not matter.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::PermissionDenied`], with a sentence, where a folder is found by a link of another user; the kernel's.
    pub fn of(path: &Path) -> io::Result<Place> {
        let here = openat(AT_FDCWD, ".", SEARCH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
        Place::from(here, path)
    }

    /// The place that a link in this place's folder leads to.
    ///
    /// # Errors
    ///
    /// As for [`Place::of`].
    pub fn of_link(self) -> io::Result<Place> {
        let target = read_link(&self.folder, &self.name)?;
        Place::from(self.folder, &target)
    }

    fn from(start: OwnedFd, path: &Path) -> io::Result<Place> {
        let name = path.file_name().filter(|_| !path.as_os_str().as_bytes().ends_with(b"/"));
        let name = name.ok_or_else(|| io::Error::from(ErrorKind::IsADirectory))?.to_owned();
        let folder = open_folder(start, path.parent().unwrap_or(Path::new("")))?;
        Ok(Place { folder, name })
    }

    /// What stands there; the link itself where it is one.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`] where nothing does; the kernel's.
    pub fn look(&self) -> io::Result<FileStat> {
        look(&self.folder, &self.name)
    }

    /// Whether links there are the kernel's own, which lead to what is open: their text is no path to it.
    pub fn is_in_proc(&self) -> bool {
        is_in_proc(&self.folder)
    }
}

/// Checks that a folder is found without a link of another user.
///
/// # Errors
///
/// It is not, or it does not exist.
pub fn check_folder(path: &Path) -> io::Result<()> {
    Place::of(&path.join("file")).map(drop)
}

/// The type of what was looked at.
pub(crate) fn kind(found: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(found.st_mode) & SFlag::S_IFMT
}

/// Whether what belongs to this user was put there by the user of this program, or by root.
pub fn is_trusted(owner: u32) -> bool {
    owner == 0 || owner == geteuid().as_raw() || sudo_user().is_some_and(|(user, _)| user == owner)
}

/// The user and the group who called `sudo`, where root runs for them.
pub(crate) fn sudo_user() -> Option<(u32, u32)> {
    let number = |name| std::env::var(name).ok()?.parse().ok();
    geteuid().is_root().then(|| Some((number("SUDO_UID")?, number("SUDO_GID")?)))?
}

/// Opens a folder. Links on the way are followed only if they belong to root or to the user: the links of others are
/// theirs to change, also in folders where everybody may put something.
fn open_folder(start: OwnedFd, path: &Path) -> io::Result<OwnedFd> {
    let mut folder = start;
    // The one that comes next is the last.
    let mut parts = parts_of(path);
    let mut at = PathBuf::new();
    for _ in 0..=LINKS_MAX {
        let Some(part) = next_link(&mut folder, &mut parts, &mut at)? else { return Ok(folder) };
        if is_in_proc(&folder) {
            folder = open(&folder, &part, OFlag::empty())?;
            at.push(part);
        } else {
            parts.extend(parts_of(&read_link(&folder, &part)?));
        }
    }
    Err(nix::Error::ELOOP.into())
}

/// Goes on until a link that may be followed, and returns its name; `None` at the end.
fn next_link(
    folder: &mut OwnedFd,
    parts: &mut Vec<OsString>,
    at: &mut PathBuf,
) -> io::Result<Option<OsString>> {
    while let Some(part) = parts.pop() {
        let found = look(&*folder, &part)?;
        if kind(&found) == SFlag::S_IFLNK {
            if is_trusted(found.st_uid) {
                return Ok(Some(part));
            }
            let link = at.join(&part);
            let said = format!("{} is a link of another user: give the path without it", link.display());
            return Err(io::Error::new(ErrorKind::PermissionDenied, said));
        }
        *folder = open(&*folder, &part, OFlag::O_NOFOLLOW)?;
        at.push(part);
    }
    Ok(None)
}

/// The parts of a path, the first of which is the last.
fn parts_of(path: &Path) -> Vec<OsString> {
    path.components().rev().map(|part| part.as_os_str().to_owned()).collect()
}

fn look(folder: &OwnedFd, name: &OsStr) -> io::Result<FileStat> {
    Ok(fstatat(folder, name, AtFlags::AT_SYMLINK_NOFOLLOW)?)
}

fn open(folder: &OwnedFd, name: &OsStr, flags: OFlag) -> io::Result<OwnedFd> {
    let flags = SEARCH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC | flags;
    Ok(openat(folder, name, flags, Mode::empty())?)
}

/// What a link of a trusted user says.
///
/// # Errors
///
/// It is none, or somebody puts another one in its place meanwhile: renaming changes the time of a link.
fn read_link(folder: &OwnedFd, name: &OsStr) -> io::Result<PathBuf> {
    let identity = || {
        let found = look(folder, name)?;
        let is_trusted = is_trusted(found.st_uid);
        Ok::<_, io::Error>((is_trusted, found.st_dev, found.st_ino, found.st_ctime, found.st_ctime_nsec))
    };
    let before = identity()?;
    let target = readlinkat(folder, name)?;
    if before.0 && identity()? == before {
        Ok(target.into())
    } else {
        Err(io::Error::new(ErrorKind::PermissionDenied, "a link on the way is changed by another user"))
    }
}

#[cfg(target_os = "linux")]
fn is_in_proc(folder: &OwnedFd) -> bool {
    use nix::sys::statfs::{PROC_SUPER_MAGIC, fstatfs};
    fstatfs(folder).is_ok_and(|found| found.filesystem_type() == PROC_SUPER_MAGIC)
}

#[cfg(not(target_os = "linux"))]
fn is_in_proc(_: &OwnedFd) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::{
            fd::AsRawFd,
            unix::fs::{MetadataExt, lchown, symlink},
        },
    };

    use super::*;

    fn leads_to(path: &Path, folder: &Path) -> bool {
        let place = Place::of(path).unwrap();
        let open = fs::metadata(format!("/proc/self/fd/{}", place.folder.as_raw_fd())).unwrap();
        let found = fs::metadata(folder).unwrap();
        assert_eq!(place.name, "file");
        (open.dev(), open.ino()) == (found.dev(), found.ino())
    }

    #[test]
    fn own_links_on_the_way_are_followed() {
        let dir = tempfile::TempDir::new().unwrap();
        let at = |path: &str| dir.path().join(path);
        fs::create_dir_all(at("a/b")).unwrap();
        symlink("a", at("relative")).unwrap();
        symlink(at("relative/b"), at("a/absolute")).unwrap();
        symlink("circle", at("circle")).unwrap();
        for path in ["a/b/file", "relative/b/file", "a/absolute/file", "a/absolute/../b/./file"] {
            assert!(leads_to(&at(path), &at("a/b")), "{path}");
        }
        assert!(leads_to(Path::new("/proc/self/cwd/file"), Path::new(".")));
        assert!(leads_to(Path::new("file"), Path::new(".")));
        let error = |path: &Path| Place::of(path).unwrap_err().kind();
        assert_eq!(Place::of(&at("circle/file")).unwrap_err().raw_os_error(), Some(libc_eloop()));
        assert_eq!(error(&at("missing/file")), ErrorKind::NotFound);
        for folder in [Path::new("/"), Path::new(".."), &at("a/"), Path::new("")] {
            assert_eq!(error(folder), ErrorKind::IsADirectory, "{}", folder.display());
        }
    }

    fn libc_eloop() -> i32 {
        nix::Error::ELOOP as i32
    }

    #[test]
    fn links_of_others_on_the_way_are_not() {
        if !geteuid().is_root() {
            eprintln!("skipped: only root can give a link to another user");
            return;
        }
        let dir = tempfile::TempDir::new().unwrap();
        let at = |path: &str| dir.path().join(path);
        fs::create_dir_all(at("a/b")).unwrap();
        symlink("a", at("foreign")).unwrap();
        symlink("foreign", at("own")).unwrap();
        lchown(at("foreign"), Some(12345), None).unwrap();
        for path in ["foreign/file", "own/file", "foreign/b/file", "a/../foreign/b/file"] {
            let error = Place::of(&at(path)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{path}: {error}");
            assert!(error.to_string().contains("foreign is a link of another user"), "{path}: {error}");
        }
    }
}
