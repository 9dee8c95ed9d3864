//! The header of a recording that starts now.

use overlay_trace_common::stage_map::{STAGES, transmit_stages};
use overlay_trace_format::{Detection, Header, ProbeCost, ProbeKind as RecordedKind, Sampling, UnseenStage};

use crate::{
    load::Attached,
    plan::Plan,
    probe_kind::ProbeKind,
    sys::{clock::monotonic_ns, kernel::Kernel},
};

/// What the header says beyond the plan and the kernel.
pub struct HeaderParts {
    pub cost: ProbeCost,
    /// The filter as the user gave it.
    pub filter: String,
    pub sampling: Option<Sampling>,
    pub networks: Vec<Detection>,
}

/// The header of a recording that starts now, with these programs attached.
pub fn header(kernel: &Kernel, plan: &Plan, attached: &[Attached], parts: HeaderParts) -> Header {
    let mut header = Header {
        kernel: kernel.release.clone(),
        node: nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default(),
        cpus: aya::util::online_cpus().ok().map(|cpus| cpus.len() as u32),
        probe_set: plan.set.name().to_owned(),
        start_wall_ns: std::time::SystemTime::UNIX_EPOCH
            .elapsed()
            .map_or(0, |elapsed| elapsed.as_nanos() as u64),
        start_monotonic_ns: monotonic_ns(),
        filter: parts.filter,
        sampling: parts.sampling,
        networks: Some(parts.networks),
        probe_cost_ns: parts.cost,
        command: std::env::args().collect::<Vec<_>>().join(" "),
        unseen_stages: unseen_stages(plan),
        ..Header::new()
    };
    mark_probes(&mut header, attached);
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

/// Writes into each stage's row by what it is probed.
fn mark_probes(header: &mut Header, attached: &[Attached]) {
    for row in &mut header.stages {
        row.exit = false;
    }
    // One program serves the stages of all link kinds.
    for (stage, _) in transmit_stages() {
        header.stages[stage as usize].probe = Some(RecordedKind::TpBtf);
    }
    for Attached { attachment, .. } in attached {
        let row = &mut header.stages[attachment.stage as usize];
        // The cost of a stage that has several kinds of probes is reckoned by the dearest.
        if row.probe != Some(RecordedKind::Kprobe) {
            row.probe = Some(attachment.kind.into());
        }
        row.exit |= attachment.kind == ProbeKind::Fexit;
    }
}
