//! The probe sets: which stages a recording watched.

use std::str::FromStr;

use anyhow::{Context, Error, Result};

/// Which probes are attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProbeSet {
    /// Kernel functions and tracepoints: every stage.
    Full,
    /// Queues and layer boundaries only: less than half the cost.
    Light,
    /// Tracepoints only: for kernels without kprobes and fentry, or under lockdown.
    Device,
    /// TC hooks of devices: for kernels in which programs may not read kernel memory.
    Tc,
}

impl ProbeSet {
    /// The set's name on the command line and in every output.
    pub fn name(self) -> &'static str {
        match self {
            ProbeSet::Full => "full",
            ProbeSet::Light => "light",
            ProbeSet::Device => "device",
            ProbeSet::Tc => "tc",
        }
    }
}

impl FromStr for ProbeSet {
    type Err = Error;

    fn from_str(name: &str) -> Result<ProbeSet> {
        [ProbeSet::Full, ProbeSet::Light, ProbeSet::Device, ProbeSet::Tc]
            .into_iter()
            .find(|set| set.name() == name)
            .with_context(|| format!("'{name}' is no probe set: give full, light, device or tc"))
    }
}
