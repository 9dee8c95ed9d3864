//! The attach plan: which program goes where on this kernel, and which stages cannot be seen and why.

use std::collections::{BTreeMap, HashSet};

use overlay_trace_common::{
    flags::ProbeFlags,
    probe_spec::*,
    record::Outcome,
    stage::{Action, Point, Probe, Sets, Stage, Target},
    stage_map::STAGES,
};

use overlay_trace_format::ProbeSet;

use super::{modules, unprobed::Unprobed};
use crate::sys::kernel::{Functions, Kernel, Typed};

/// The stages that a set watches.
fn stages_of(set: ProbeSet) -> Sets {
    match set {
        ProbeSet::Full => Sets::FULL,
        ProbeSet::Light => Sets::LIGHT,
        ProbeSet::Device => Sets::DEVICE,
    }
}

/// How a probe is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ProbeKind {
    Fentry,
    Fexit,
    Kprobe,
    TpBtf,
}

impl ProbeKind {
    pub fn name(self) -> &'static str {
        match self {
            ProbeKind::Fentry => "fentry",
            ProbeKind::Fexit => "fexit",
            ProbeKind::Kprobe => "kprobe",
            ProbeKind::TpBtf => "tp_btf",
        }
    }
}

/// One program to be attached.
#[derive(Clone, Debug)]
pub struct Attachment {
    /// Index into [`STAGES`].
    pub stage: u8,
    /// Which of the stage's points.
    pub point: usize,
    pub kind: ProbeKind,
    /// The function or the tracepoint.
    pub target: &'static str,
    /// BTF type to attach to, for all kinds but kprobe.
    pub type_id: u32,
    pub module: Option<String>,
    /// The argument that the packet is, from 0.
    pub argument: u8,
    /// How many arguments the function has, where BTF tells.
    pub arguments: u8,
    /// The generic program that is copied where there is none for the row's class.
    pub program: String,
    pub row: ProbeSpec,
}

/// What is attached, and what cannot be seen.
#[derive(Debug)]
pub struct Plan {
    pub set: ProbeSet,
    /// For each point its alternatives, the best first.
    pub points: Vec<Vec<Attachment>>,
    /// Stages of the set that cannot be seen at all, with the reason.
    pub unseen: BTreeMap<u8, Unprobed>,
    /// Points that cannot be probed, whether or not their stage has others: stage, point, reason.
    pub missing: Vec<(u8, usize, Unprobed)>,
}

/// The highest argument position that there is a generic program for, plus 1.
const POSITIONS: u8 = 4;

/// The functions that the stage map names, and where each usually is.
pub fn wanted_functions() -> Functions {
    STAGES
        .iter()
        .flat_map(|stage| stage.points)
        .flat_map(|point| point.probes)
        .filter_map(|probe| match probe.target {
            Target::Function(name) => Some(name),
            _ => None,
        })
        .chain(crate::calibrate::FUNCTIONS)
        .map(|function| (function, modules::module_of(function)))
        .collect()
}

impl Plan {
    /// Makes the plan for a probe set on the running kernel. With `kprobes_only` functions are probed by
    /// kprobe also where fentry would do.
    pub fn new(kernel: &Kernel, set: ProbeSet, kprobes_only: bool) -> Plan {
        let mut plan = Plan { set, points: Vec::new(), unseen: BTreeMap::new(), missing: Vec::new() };
        for (number, stage) in STAGES.iter().enumerate() {
            if stage.sets.contains(stages_of(set)) {
                plan.add_stage(kernel, number as u8, stage, kprobes_only);
            }
        }
        plan
    }

    fn add_stage(&mut self, kernel: &Kernel, number: u8, stage: &'static Stage, kprobes_only: bool) {
        let mut reasons = Vec::new();
        let mut seen = stage.points.is_empty();
        let wanted = |point: &Point| point.without.is_none_or(|better| kernel.tracepoint(better).is_none());
        for (index, point) in stage.points.iter().enumerate().filter(|(_, point)| wanted(point)) {
            let mut found = Vec::new();
            let mut lacks = Vec::new();
            for probe in point.probes {
                match alternatives(kernel, self.set, number, index, stage, point, probe, kprobes_only) {
                    Ok(attachments) => found.extend(attachments),
                    Err(reason) => lacks.push(reason),
                }
            }
            if kprobes_only || self.set == ProbeSet::Light {
                // A tracepoint costs less than a kprobe, and less than fentry. What it does not see, the light set
                // does without: `netif_rx` not the packets that RPS puts into another CPU's backlog.
                found.sort_by_key(|attachment: &Attachment| attachment.kind != ProbeKind::TpBtf);
            }
            // What the first alternative lacks is what to get. The rows of link kinds share one program.
            let lack = lacks.into_iter().next();
            seen |= !found.is_empty() || lack.is_none();
            if !found.is_empty() {
                self.points.push(found);
            } else if let Some(lack) = lack {
                self.missing.push((number, index, lack.clone()));
                reasons.push(lack);
            }
        }
        if let (false, Some(reason)) = (seen, reasons.into_iter().next()) {
            self.unseen.insert(number, reason);
        }
    }

    /// Attaches the whole plan: `attach` gets the alternatives of each point, and gives what it has attached, or why
    /// none could be. What cannot be attached is moved to the unseen stages.
    pub fn attach<T>(&mut self, mut attach: impl FnMut(&[Attachment]) -> Result<Vec<T>, Unprobed>) -> Vec<T> {
        let mut attached = Vec::new();
        let mut seen = HashSet::new();
        let mut failures: Vec<(u8, usize, Unprobed)> = Vec::new();
        // The ends first: no packet may be followed whose end would be missed.
        for point in self.points.iter().rev() {
            match attach(point) {
                Ok(programs) => {
                    seen.insert(point[0].stage);
                    attached.extend(programs);
                }
                Err(reason) => failures.push((point[0].stage, point[0].point, reason)),
            }
        }
        for (stage, point, reason) in failures {
            if !seen.contains(&stage) {
                self.unseen.insert(stage, reason.clone());
            }
            self.missing.push((stage, point, reason));
        }
        attached
    }
}

/// The ways to attach one probe, the cheapest first.
#[allow(clippy::too_many_arguments)]
fn alternatives(
    kernel: &Kernel,
    set: ProbeSet,
    number: u8,
    index: usize,
    stage: &Stage,
    point: &Point,
    probe: &Probe,
    kprobes_only: bool,
) -> Result<Vec<Attachment>, Unprobed> {
    let row = ProbeSpec::of(number, stage, point, stages_of(set));
    let module = match probe.target {
        Target::Function(name) => kernel.symbol(name).and_then(Option::as_ref),
        _ => None,
    };
    let attachment = |kind, target, typed: Option<&Typed>, argument: u8, row: ProbeSpec| Attachment {
        stage: number,
        point: index,
        kind,
        target,
        type_id: typed.map_or(0, |typed| typed.id),
        module: module.cloned(),
        argument,
        arguments: typed.map_or(0, |typed| typed.arguments),
        program: program(kind, argument, row),
        row,
    };
    match probe.target {
        Target::Tracepoint(name) => {
            let typed = kernel.tracepoint(name).ok_or(Unprobed::NoTracepoint(name))?;
            let argument = typed.packet(probe.argument).unwrap_or(probe.argument);
            let drops = stage.outcome == Some(Outcome::Dropped);
            let row = if drops && typed.arguments >= 3 { row.with(ProbeFlags::DROP_REASON) } else { row };
            Ok(vec![attachment(ProbeKind::TpBtf, name, Some(&typed), argument, row)])
        }
        Target::Transmit(_) => {
            // One program serves all link kinds; it is planned with the first of them.
            if stage.layer == overlay_trace_common::stage::Layer::Driver {
                let typed = kernel
                    .tracepoint("net_dev_start_xmit")
                    .ok_or(Unprobed::NoTracepoint("net_dev_start_xmit"))?;
                Ok(vec![attachment(ProbeKind::TpBtf, "net_dev_start_xmit", Some(&typed), 0, row)])
            } else {
                Ok(Vec::new())
            }
        }
        Target::Function(_) if set == ProbeSet::Device => Err(Unprobed::TracepointsOnly),
        Target::Function(name) => {
            if kernel.symbol(name).is_none() {
                return Err(modules::missing(name));
            }
            let typed = kernel.function(name);
            let wants_sock = matches!(point.action, Action::Note);
            let argument = typed
                .as_ref()
                .and_then(|typed| if wants_sock { typed.sock } else { typed.packet(probe.argument) })
                .unwrap_or(untyped(probe, |version| kernel.at_least(version)));
            if argument >= POSITIONS {
                return Err(Unprobed::ArgumentTooFar { function: name, argument });
            }
            let indirect = typed.as_ref().map_or(probe.indirect, |typed| typed.indirect && !wants_sock);
            let row = if indirect { row.with(ProbeFlags::INDIRECT) } else { row };
            let mut found = Vec::new();
            if let (Some(typed), false) = (&typed, kprobes_only) {
                let kind = if at_exit(point) { ProbeKind::Fexit } else { ProbeKind::Fentry };
                found.push(attachment(kind, name, Some(typed), argument, row));
            }
            if !at_exit(point) {
                found.push(attachment(ProbeKind::Kprobe, name, None, argument, row));
            }
            if found.is_empty() {
                return Err(Unprobed::NeedsFexit(name));
            }
            Ok(found)
        }
    }
}

/// Where the packet is if no BTF tells.
fn untyped(probe: &Probe, at_least: impl Fn((u32, u32)) -> bool) -> u8 {
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

impl Attachment {
    /// The name of the program for the row's class; `None` for an exit, for the drops, and where the kernel
    /// decides what the program has to do.
    pub fn class_program(&self) -> Option<String> {
        let kind = match self.kind {
            ProbeKind::Kprobe => "kprobe",
            ProbeKind::Fentry | ProbeKind::TpBtf => "typed",
            ProbeKind::Fexit => return None,
        };
        let is_special = ["typed_drop", "typed_queued"].contains(&&*self.program)
            || self.row.action() == Action::Copy as u8;
        let is_plain = !self.row.has(ProbeFlags::OF_KERNEL | ProbeFlags::CALIBRATE) && !is_special;
        is_plain.then(|| format!("{kind}_class_{:x}", self.row.class()))
    }

    /// The attachment of the exit, if the point asks for it; only fexit gives the arguments at the exit,
    /// so a kprobe has none and the stage then ends with the next one's entry.
    pub fn exit(&self) -> Option<Attachment> {
        let wanted = self.kind == ProbeKind::Fentry && self.row.has(ProbeFlags::EXIT);
        wanted.then(|| Attachment {
            kind: ProbeKind::Fexit,
            program: self.program.replace("typed_", "typed_exit_"),
            ..self.clone()
        })
    }
}

fn program(kind: ProbeKind, argument: u8, row: ProbeSpec) -> String {
    match kind {
        ProbeKind::TpBtf if row.action() == Action::End as u8 && row.outcome() == Outcome::Dropped as u8 => {
            "typed_drop".to_owned()
        }
        ProbeKind::TpBtf if row.has(ProbeFlags::AFTER_HANDOVER) => "typed_queued".to_owned(),
        ProbeKind::Fexit => format!("typed_exit_{argument}"),
        ProbeKind::Kprobe if row.action() == Action::Copy as u8 => "kprobe_pair".to_owned(),
        _ if row.action() == Action::Copy as u8 => "typed_pair".to_owned(),
        ProbeKind::Kprobe => format!("kprobe_{argument}"),
        ProbeKind::Fentry | ProbeKind::TpBtf => format!("typed_{argument}"),
    }
}

#[cfg(test)]
mod tests {
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
        assert_eq!(untyped(probe, |version| version <= (5, 10)), 0);
        assert_eq!(untyped(probe, |version| version <= (6, 1)), 1);
    }
}
