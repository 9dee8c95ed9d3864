//! The results folder of a comparison: one file per lab, from which an interrupted comparison continues.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use overlay_trace_format::{check_folder, is_trusted};
use serde::{Serialize, de::DeserializeOwned};

use super::machine_limits::Machine;
use super::result::{Conditions, LabResult, Outcome};

/// The folder with a comparison's results.
#[derive(Debug)]
pub struct Folder(PathBuf);

impl Folder {
    /// Opens the folder of a plan's results in `path`, and creates it if necessary.
    ///
    /// # Errors
    ///
    /// When it cannot be created, or others may change what is in it: they could make this process overwrite any file.
    pub fn open(path: &Path, plan: &str) -> Result<Folder> {
        let folder = path.join(plan);
        fs::create_dir_all(&folder)
            .with_context(|| format!("cannot create the folder {}", folder.display()))?;
        check_folder(&folder)?;
        for folder in [path, &folder] {
            let found = fs::metadata(folder)?;
            ensure!(
                is_trusted(found.uid()) && found.mode() & 0o002 == 0,
                "other users can change what is in the folder {}: choose another one with --output",
                folder.display()
            );
        }
        Ok(Folder(folder))
    }

    /// The path of a file in it.
    pub fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// The lab's result, if it was measured under these conditions.
    pub fn result(&self, lab: &str, conditions: &Conditions) -> Option<LabResult> {
        let result: LabResult = self.read(&format!("{lab}.json"))?;
        let holds = result.conditions == *conditions && result.lab == lab;
        (holds && matches!(result.outcome, Outcome::Measured(_))).then_some(result)
    }

    /// Stores a lab's result.
    ///
    /// # Errors
    ///
    /// When the file cannot be written.
    pub fn keep(&self, result: &LabResult) -> Result<()> {
        self.write_json(&format!("{}.json", result.lab), result)
    }

    /// The stored limits of the machine, so that all labs get the same rates.
    pub fn machine(&self) -> Option<Machine> {
        self.read(MACHINE)
    }

    /// Stores the limits of the machine.
    ///
    /// # Errors
    ///
    /// When the file cannot be written.
    pub fn keep_machine(&self, machine: &Machine) -> Result<()> {
        self.write_json(MACHINE, machine)
    }

    /// Writes a file atomically.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let (path, part) = (self.file(name), self.file(&format!(".{name}.part")));
        replace(&part, bytes)
            .and_then(|()| fs::rename(&part, &path))
            .with_context(|| format!("cannot write {}", path.display()))
    }

    fn write_json(&self, name: &str, value: &impl Serialize) -> Result<()> {
        self.write(name, &serde_json::to_vec_pretty(value)?)
    }

    /// `None` also for a damaged file or one of another version: the lab is then measured again.
    fn read<T: DeserializeOwned>(&self, name: &str) -> Option<T> {
        serde_json::from_slice(&fs::read(self.file(name)).ok()?).ok()
    }
}

/// Writes a new file in place of what an interrupted run may have left. No link is followed.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let _ = fs::remove_file(path);
    OpenOptions::new().write(true).create_new(true).open(path)?.write_all(bytes)
}

const MACHINE: &str = "machine-can.json";

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn no_link_is_written_through_and_no_folder_of_everybody_used() {
        let dir = tempfile::TempDir::new().unwrap();
        let (precious, output) = (dir.path().join("precious"), dir.path().join("results"));
        fs::write(&precious, "precious").unwrap();
        let folder = Folder::open(&output, "quick").unwrap();
        symlink(&precious, folder.file(".compare.json.part")).unwrap();
        symlink(&precious, folder.file("compare.json")).unwrap();
        folder.write("compare.json", b"{}").unwrap();
        assert_eq!(fs::read_to_string(&precious).unwrap(), "precious");
        assert_eq!(fs::read_to_string(folder.file("compare.json")).unwrap(), "{}");
        fs::set_permissions(&output, fs::Permissions::from_mode(0o777)).unwrap();
        assert!(Folder::open(&output, "quick").unwrap_err().to_string().contains("other users can change"));
    }
}
