//! The ways to attach the probes of one point of the stage map on a kernel.

use overlay_trace_common::{
    flags::ProbeFlags,
    probe_spec::ProbeSpec,
    record::Outcome,
    stage::{Action, Layer, Point, Probe, Sets, Stage, Target},
};

use crate::{
    attachment::Attachment,
    modules,
    probe_kind::ProbeKind,
    program::{ARGUMENTS, Program},
    sys::{kernel::Kernel, signature::Signature},
    unprobed::Unprobed,
};

/// The tracepoint that sees transmissions through devices of all link kinds.
const TRANSMIT: &str = "net_dev_start_xmit";

/// A point of the stage map, on a kernel and in a probe set.
pub struct Site<'a> {
    pub kernel: &'a Kernel,
    pub set: Sets,
    /// Probe functions by kprobe also where fentry would do.
    pub kprobes_only: bool,
    /// Index into the stage map.
    pub stage_number: u8,
    pub stage: &'a Stage,
    /// Index into the stage's points.
    pub point_number: usize,
    pub point: &'a Point,
}

impl Site<'_> {
    /// The ways to attach one probe, the cheapest first; none for a link kind that another one's program serves.
    ///
    /// # Errors
    ///
    /// Why there is no way.
    pub fn alternatives(&self, probe: &Probe) -> Result<Vec<Attachment>, Unprobed> {
        match probe.target {
            Target::Tracepoint(name) => Ok(vec![self.tracepoint(name, probe)?]),
            // One program serves all link kinds; it is planned with the NIC's.
            Target::Transmit(_) if self.stage.layer != Layer::Driver => Ok(Vec::new()),
            Target::Transmit(_) => {
                let signature = self.kernel.tracepoint(TRANSMIT).ok_or(Unprobed::NoTracepoint(TRANSMIT))?;
                Ok(vec![self.attachment(ProbeKind::TpBtf, TRANSMIT, Some(&signature), 0, self.spec())])
            }
            Target::Function(_) if self.set == Sets::DEVICE || self.set == Sets::TC => {
                Err(Unprobed::TracepointsOnly)
            }
            Target::Function(name) => self.function(name, probe),
        }
    }

    fn spec(&self) -> ProbeSpec {
        ProbeSpec::of(self.stage_number, self.stage, self.point, self.set)
    }

    fn tracepoint(&self, name: &'static str, probe: &Probe) -> Result<Attachment, Unprobed> {
        let signature = self.kernel.tracepoint(name).ok_or(Unprobed::NoTracepoint(name))?;
        let argument = signature.packet(probe.argument).unwrap_or(probe.argument);
        let has_reason = self.stage.outcome == Some(Outcome::Dropped) && signature.arguments >= 3;
        let spec = if has_reason { self.spec().with(ProbeFlags::DROP_REASON) } else { self.spec() };
        Ok(self.attachment(ProbeKind::TpBtf, name, Some(&signature), argument, spec))
    }

    fn function(&self, name: &'static str, probe: &Probe) -> Result<Vec<Attachment>, Unprobed> {
        if self.kernel.symbol(name).is_none() {
            return Err(modules::missing(name));
        }
        let signature = self.kernel.function(name);
        let wants_sock = self.point.action == Action::Note;
        let argument = signature
            .as_ref()
            .and_then(|signature| if wants_sock { signature.sock } else { signature.packet(probe.argument) })
            .unwrap_or(argument_without_btf(probe, |version| self.kernel.at_least(version)));
        if argument >= ARGUMENTS {
            return Err(Unprobed::ArgumentTooFar { function: name, argument });
        }
        let indirect =
            signature.as_ref().map_or(probe.indirect, |signature| signature.indirect && !wants_sock);
        let spec = if indirect { self.spec().with(ProbeFlags::INDIRECT) } else { self.spec() };
        let at_exit = at_exit(self.point);
        let mut found = Vec::new();
        if let (Some(signature), false) = (&signature, self.kprobes_only) {
            let kind = if at_exit { ProbeKind::Fexit } else { ProbeKind::Fentry };
            found.push(self.attachment(kind, name, Some(signature), argument, spec));
        }
        if !at_exit {
            found.push(self.attachment(ProbeKind::Kprobe, name, None, argument, spec));
        }
        if found.is_empty() { Err(Unprobed::NeedsFexit(name)) } else { Ok(found) }
    }

    fn attachment(
        &self,
        kind: ProbeKind,
        target: &'static str,
        signature: Option<&Signature>,
        argument: u8,
        spec: ProbeSpec,
    ) -> Attachment {
        // A tracepoint is no symbol: what module has it does not matter.
        let module = if kind == ProbeKind::TpBtf { None } else { self.kernel.symbol(target) };
        Attachment {
            stage: self.stage_number,
            point: self.point_number,
            kind,
            target,
            type_id: signature.map_or(0, |signature| signature.id),
            module: module.cloned().flatten(),
            argument,
            arguments: signature.map_or(0, |signature| signature.arguments),
            program: match self.set {
                Sets::TC => Program::tc(spec),
                _ => Program::generic(kind, argument, spec),
            },
            spec,
        }
    }
}

/// The position of the packet if the kernel has no BTF for the function.
fn argument_without_btf(probe: &Probe, at_least: impl Fn((u32, u32)) -> bool) -> u8 {
    match probe.before {
        Some((version, argument)) if !at_least(version) => argument,
        _ => probe.argument,
    }
}

/// Whether only the function's exit is probed.
fn at_exit(point: &Point) -> bool {
    let by_action = point.action == Action::Join || point.action == Action::Copy && point.exit;
    by_action || point.if_zero
}

#[cfg(test)]
mod tests {
    use overlay_trace_common::stage_map::STAGES;

    use super::*;

    /// Modules of kernels before 5.11 have no BTF, so that only kprobes can be had there, which see no exits.
    #[test]
    fn exits_are_watched_only_of_functions_of_the_kernel_itself() {
        let points = STAGES.iter().flat_map(|stage| stage.points);
        for probe in points.filter(|point| point.exit || at_exit(point)).flat_map(|point| point.probes) {
            let Target::Function(name) = probe.target else { panic!("only functions have exits") };
            assert_eq!(modules::module_of(name), None, "{name}");
        }
    }

    #[test]
    fn without_type_information_the_kernels_version_says_where_the_packet_is() {
        let tables = STAGES.iter().find(|stage| stage.name == "iptables").unwrap();
        let probe = &tables.points[0].probes[0];
        assert_eq!(argument_without_btf(probe, |version| version <= (5, 10)), 0);
        assert_eq!(argument_without_btf(probe, |version| version <= (6, 1)), 1);
    }
}
