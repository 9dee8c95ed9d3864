//! The results folder of a comparison: one file per lab, from which an interrupted comparison continues.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
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
    /// When it cannot be created.
    pub fn open(path: &Path, plan: &str) -> Result<Folder> {
        let path = path.join(plan);
        fs::create_dir_all(&path).with_context(|| format!("cannot create the folder {}", path.display()))?;
        Ok(Folder(path))
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
        fs::write(&part, bytes)
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

const MACHINE: &str = "machine-can.json";
