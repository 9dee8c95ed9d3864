//! Folders that only root can read or change, for what labs keep on disk. In a folder of everybody, as /tmp, another
//! user could put a link where root writes a file, or a program where root looks for one.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use nix::unistd::geteuid;
use overlay_trace_probe::tc;

/// The folder of everything that labs keep, created if it is missing. `/run` belongs to root, and is empty after a boot,
/// as the labs are gone.
pub fn root() -> Result<PathBuf> {
    ensure!(geteuid().is_root(), "labs need network namespaces: run as root");
    let path = PathBuf::from(tc::FOLDER);
    create(&path)?;
    Ok(path)
}

/// Creates a folder for the user of this process alone. One that exists must be such a folder.
pub fn create(path: &Path) -> Result<()> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => {
            return Err(error).with_context(|| format!("cannot create the folder {}", path.display()));
        }
        _ => {}
    }
    let found =
        fs::symlink_metadata(path).with_context(|| format!("cannot use the folder {}", path.display()))?;
    ensure!(
        found.is_dir() && found.uid() == geteuid().as_raw() && found.mode() & 0o077 == 0,
        "{} must be a folder that only its owner, user {}, can use: remove it",
        path.display(),
        geteuid()
    );
    Ok(())
}

/// Writes a new file into such a folder. No link is followed, and nothing is overwritten.
pub fn write_new(path: &Path, content: &[u8]) -> Result<()> {
    let write = || -> io::Result<()> {
        let mut file: File = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW)
            .open(path)?;
        file.write_all(content)
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

/// Writes a file of such a folder as a whole: whoever reads it finds what it was before, or all that is new.
pub fn replace(path: &Path, content: &[u8]) -> Result<()> {
    let new = path.with_extension("new");
    // One that a killed run has left.
    let _ = fs::remove_file(&new);
    write_new(&new, content)?;
    fs::rename(&new, path).with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, chown, symlink};

    use super::*;

    #[test]
    fn a_folder_that_others_can_use_is_refused() {
        let dir = tempfile::TempDir::new().unwrap();
        let path = dir.path().join("own");
        create(&path).unwrap();
        create(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o700);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o750)).unwrap();
        assert!(create(&path).unwrap_err().to_string().contains("only its owner"));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
        symlink(&path, dir.path().join("link")).unwrap();
        assert!(create(&dir.path().join("link")).is_err());
        if geteuid().is_root() {
            chown(&path, Some(12345), None).unwrap();
            assert!(create(&path).is_err());
        }
    }

    #[test]
    fn a_link_that_lies_there_is_not_written_through() {
        let dir = tempfile::TempDir::new().unwrap();
        let (precious, link) = (dir.path().join("precious"), dir.path().join("bird.conf"));
        fs::write(&precious, "precious").unwrap();
        symlink(&precious, &link).unwrap();
        symlink(dir.path().join("nothing"), dir.path().join("dangling")).unwrap();
        assert!(write_new(&link, b"router id").is_err());
        assert!(write_new(&dir.path().join("dangling"), b"router id").is_err());
        assert_eq!(fs::read_to_string(&precious).unwrap(), "precious");
        assert!(!dir.path().join("nothing").exists());
        write_new(&dir.path().join("new"), b"router id").unwrap();
        symlink(&precious, dir.path().join("made.new")).unwrap();
        for content in [b"first", b"again"] {
            replace(&dir.path().join("made.json"), content).unwrap();
            assert_eq!(fs::read(dir.path().join("made.json")).unwrap(), content);
        }
        assert_eq!(fs::read_to_string(&precious).unwrap(), "precious");
    }
}
