//! The kinds of probes.

use serde::{Deserialize, Serialize};

/// The kind of a stage's probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProbeKind {
    Fentry,
    Kprobe,
    /// A BTF-typed raw tracepoint.
    TpBtf,
    Tracepoint,
    Tc,
}

impl ProbeKind {
    /// The kind's name in every output.
    pub fn name(self) -> &'static str {
        match self {
            ProbeKind::Fentry => "fentry",
            ProbeKind::Kprobe => "kprobe",
            ProbeKind::TpBtf => "tp_btf",
            ProbeKind::Tracepoint => "tracepoint",
            ProbeKind::Tc => "tc",
        }
    }
}
