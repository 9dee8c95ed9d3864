//! A folder of results, a file for each lab: what a comparison goes on from.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Serialize, de::DeserializeOwned};

use super::{Conditions, LabResult, Machine, Outcome};

/// Where a comparison's results are.
#[derive(Debug)]
pub struct Folder(PathBuf);

impl Folder {
    /// The folder of a plan's results within `path`; it is made if need be.
    ///
    /// # Errors
    ///
    /// When it cannot be made.
    pub fn open(path: &Path, plan: &str) -> Result<Folder> {
        let path = path.join(plan);
        fs::create_dir_all(&path).with_context(|| format!("cannot make the folder {}", path.display()))?;
        Ok(Folder(path))
    }

    /// A file in it.
    pub fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// The lab's result, if it was measured under these conditions.
    pub fn result(&self, lab: &str, conditions: &Conditions) -> Option<LabResult> {
        let result: LabResult = self.read(&format!("{lab}.json"))?;
        let holds = result.conditions == *conditions && result.lab == lab;
        (holds && matches!(result.outcome, Outcome::Measured(_))).then_some(result)
    }

    /// Keeps a lab's result.
    ///
    /// # Errors
    ///
    /// When the file cannot be written.
    pub fn keep(&self, result: &LabResult) -> Result<()> {
        self.write_json(&format!("{}.json", result.lab), result)
    }

    /// What the machine can offer, as it was found before: so that all labs get the same.
    pub fn machine(&self) -> Option<Machine> {
        self.read(MACHINE)
    }

    /// Keeps what the machine can offer.
    ///
    /// # Errors
    ///
    /// When the file cannot be written.
    pub fn keep_machine(&self, machine: &Machine) -> Result<()> {
        self.write_json(MACHINE, machine)
    }

    /// Writes a file so that it is there as a whole or not at all.
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

    /// `None` also for what another version wrote, or what is damaged: it is measured anew.
    fn read<T: DeserializeOwned>(&self, name: &str) -> Option<T> {
        serde_json::from_slice(&fs::read(self.file(name)).ok()?).ok()
    }
}

const MACHINE: &str = "machine-can.json";
