//! The header of a recording that starts now.

use std::ffi::OsString;

use overlay_trace_common::{
    flags::ProbeFlags,
    stage_map::{STAGES, transmit_stages},
    tc::Side,
};
use overlay_trace_format::{
    Detection, Header, ProbeCost, ProbeKind as RecordedKind, Sampling, UnseenStage, printable_bytes,
};

use crate::{
    load::Attached,
    plan::Plan,
    probe_kind::ProbeKind,
    sys::{clock::monotonic_ns, kernel::Kernel, machine::machine},
};

/// What the header says beyond the plan and the kernel.
pub struct HeaderParts {
    pub cost: ProbeCost,
    /// The filter as the user gave it.
    pub filter: String,
    pub sampling: Option<Sampling>,
    pub sample: Option<u32>,
    /// `None` where looking for them took too long.
    pub networks: Option<Vec<Detection>>,
    pub command: String,
    /// The hooks of the set `tc`.
    pub hooks: Option<HookCoverage>,
}

/// What the hooks of the set `tc` see.
pub struct HookCoverage {
    /// Why packets cannot be seen at some sides of devices.
    pub unseen: Vec<String>,
}

/// A command line for the header. What comes behind `--` is another program's: its arguments can hold passwords and
/// tokens, so that without `keep` only its name is left.
pub fn command_line(arguments: impl IntoIterator<Item = OsString>, keep: bool) -> String {
    let mut shown: Vec<String> = Vec::new();
    let mut arguments = arguments.into_iter().map(|argument| printable_bytes(argument.as_encoded_bytes()));
    while let Some(argument) = arguments.next() {
        let is_end = argument == "--" && !keep;
        shown.push(argument);
        if is_end {
            shown.extend(arguments.next());
            if arguments.next().is_some() {
                shown.push("(arguments left out)".to_owned());
            }
            break;
        }
    }
    shown.join(" ")
}

/// The header of a recording that starts now, with these programs attached.
pub fn header(kernel: &Kernel, plan: &Plan, attached: &[Attached], parts: HeaderParts) -> Header {
    let mut header = Header {
        kernel: kernel.release.clone(),
        node: nix::unistd::gethostname()
            .map(|name| printable_bytes(name.as_encoded_bytes()))
            .unwrap_or_default(),
        cpus: aya::util::online_cpus().ok().map(|cpus| cpus.len() as u32),
        machine: Some(machine()),
        probe_set: plan.set.name().to_owned(),
        start_wall_ns: std::time::SystemTime::UNIX_EPOCH
            .elapsed()
            .map_or(0, |elapsed| elapsed.as_nanos() as u64),
        start_monotonic_ns: monotonic_ns(),
        filter: parts.filter,
        sampling: parts.sampling,
        sample: parts.sample,
        networks: parts.networks,
        probe_cost_ns: parts.cost,
        command: parts.command,
        unseen_stages: unseen_stages(plan),
        ..Header::new()
    };
    mark_probes(&mut header, attached);
    if let Some(hooks) = parts.hooks {
        mark_hooks(&mut header, hooks);
    }
    header
}

fn unseen_stages(plan: &Plan) -> Vec<UnseenStage> {
    let unseen = plan.unseen.iter().map(|(stage, reason)| UnseenStage {
        stage: STAGES[*stage as usize].name.to_owned(),
        reason: reason.to_string(),
        module: reason.module().map(str::to_owned),
    });
    unseen.collect()
}

/// Writes into the rows of the stages between TC hooks by what they are probed, and which hooks are missing.
fn mark_hooks(header: &mut Header, hooks: HookCoverage) {
    for side in Side::ALL {
        header.stages[usize::from(side.stage())].probe = Some(RecordedKind::Tc);
    }
    let stage = STAGES[usize::from(Side::Ingress.stage())].name;
    header.unseen_stages.extend(hooks.unseen.into_iter().map(|reason| UnseenStage {
        stage: stage.to_owned(),
        reason,
        module: None,
    }));
}

/// Writes into each stage's row by what it is probed.
fn mark_probes(header: &mut Header, attached: &[Attached]) {
    for row in &mut header.stages {
        row.exit = false;
    }
    // One program serves the stages of all link kinds.
    let is_transmit = |one: &Attached| transmit_stages().any(|(stage, _)| stage == one.attachment.stage);
    if attached.iter().any(is_transmit) {
        for (stage, _) in transmit_stages() {
            header.stages[stage as usize].probe = Some(RecordedKind::TpBtf);
        }
    }
    for Attached { attachment, .. } in attached {
        let row = &mut header.stages[attachment.stage as usize];
        // The cost of a stage that has several kinds of probes is reckoned by the dearest.
        if row.probe != Some(RecordedKind::Kprobe) {
            row.probe = Some(attachment.kind.into());
        }
        row.exit |= attachment.kind == ProbeKind::Fexit;
        row.looks |= attachment.kind == ProbeKind::Kprobe && attachment.spec.has(ProbeFlags::DEVICE);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt;

    use super::*;

    fn shown(arguments: &[&str], keep: bool) -> String {
        command_line(arguments.iter().map(OsString::from), keep)
    }

    #[test]
    fn arguments_of_another_program_are_left_out() {
        let secret =
            ["overlay-trace", "record", "-o", "a.otr", "--", "curl", "-u", "admin:hunter2", "--", "x"];
        assert_eq!(shown(&secret, false), "overlay-trace record -o a.otr -- curl (arguments left out)");
        assert_eq!(shown(&secret, true), secret.join(" "));
        assert_eq!(shown(&secret[..6], false), "overlay-trace record -o a.otr -- curl");
        assert_eq!(shown(&secret[..4], false), "overlay-trace record -o a.otr");
    }

    #[test]
    fn a_file_name_can_be_any_bytes() {
        let arguments = [OsString::from("record"), OsString::from_vec(b"a\xff\x1b.otr".to_vec())];
        assert_eq!(command_line(arguments, false), "record a\u{fffd}\\x1b.otr");
    }
}
