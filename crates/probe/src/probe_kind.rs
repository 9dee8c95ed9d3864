//! The kinds of probes.

/// How a probe is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ProbeKind {
    Fentry,
    Fexit,
    Kprobe,
    TpBtf,
}

impl ProbeKind {
    /// The kind's name in every output.
    pub fn name(self) -> &'static str {
        match self {
            ProbeKind::Fentry => "fentry",
            ProbeKind::Fexit => "fexit",
            ProbeKind::Kprobe => "kprobe",
            ProbeKind::TpBtf => "tp_btf",
        }
    }
}

/// What a recording calls the kind: an exit belongs to the entry that it is the exit of.
impl From<ProbeKind> for overlay_trace_format::ProbeKind {
    fn from(kind: ProbeKind) -> overlay_trace_format::ProbeKind {
        match kind {
            ProbeKind::Fentry | ProbeKind::Fexit => overlay_trace_format::ProbeKind::Fentry,
            ProbeKind::Kprobe => overlay_trace_format::ProbeKind::Kprobe,
            ProbeKind::TpBtf => overlay_trace_format::ProbeKind::TpBtf,
        }
    }
}
