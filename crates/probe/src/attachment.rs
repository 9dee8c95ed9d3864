//! One program that is to be attached, and what to.

use overlay_trace_common::{flags::ProbeFlags, probe_spec::ProbeSpec, stage::Action};

use crate::{probe_kind::ProbeKind, program::Program};

/// One program that is to be attached.
#[derive(Clone, Debug)]
pub struct Attachment {
    /// Index into [`STAGES`](overlay_trace_common::stage_map::STAGES).
    pub stage: u8,
    /// Index into the stage's points.
    pub point: usize,
    pub kind: ProbeKind,
    /// The function or the tracepoint.
    pub target: &'static str,
    /// BTF type to attach to, for all kinds but kprobe.
    pub type_id: u32,
    /// The module that has the target, `None` for the kernel itself.
    pub module: Option<String>,
    /// Position of the argument that is the packet, from 0.
    pub argument: u8,
    /// How many arguments the function has, where BTF has its prototype.
    pub arguments: u8,
    /// The program that is copied where there is none for the class of `spec`.
    pub program: Program,
    /// What is patched into the copy.
    pub spec: ProbeSpec,
}

impl Attachment {
    /// Whether the path of a packet that is not known yet starts here.
    pub fn starts_paths(&self) -> bool {
        [Action::Start, Action::PickUp].map(|action| action as u8).contains(&self.spec.action())
    }

    /// The attachment of the exit, if the point asks for it. Only fexit has the arguments at the exit, so a function
    /// that is entered by kprobe has none: its stage ends with the entry of the next one.
    pub fn exit(&self) -> Option<Attachment> {
        let wanted = self.kind == ProbeKind::Fentry && self.spec.has(ProbeFlags::EXIT);
        wanted.then(|| Attachment {
            kind: ProbeKind::Fexit,
            program: Program::Exit { argument: self.argument },
            ..self.clone()
        })
    }
}
