//! The probe set as an option.

use overlay_trace_probe::ProbeSet;

/// A probe set, or the richest one that the kernel allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Probes {
    /// The richest set that this kernel allows
    Auto,
    /// All functions of the path
    Full,
    /// Queues and layer boundaries only: cheaper
    Light,
    /// Tracepoints only: works on kernels without kprobes and fentry
    Device,
    /// TC hooks of devices: works where programs may not read kernel memory
    Tc,
}

impl Probes {
    /// The set, or `None` for the richest.
    pub fn set(self) -> Option<ProbeSet> {
        match self {
            Probes::Auto => None,
            Probes::Full => Some(ProbeSet::Full),
            Probes::Light => Some(ProbeSet::Light),
            Probes::Device => Some(ProbeSet::Device),
            Probes::Tc => Some(ProbeSet::Tc),
        }
    }
}
