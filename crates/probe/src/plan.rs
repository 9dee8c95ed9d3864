//! The attach plan: which program goes where on this kernel, and which stages cannot be seen and why.

use std::collections::{BTreeMap, HashSet};

use overlay_trace_common::{
    stage::{Action, Point, Sets, Stage},
    stage_map::STAGES,
};
use overlay_trace_format::ProbeSet;

use crate::{
    alternatives::Site, attachment::Attachment, parallel, probe_kind::ProbeKind, sys::kernel::Kernel,
    unprobed::Unprobed,
};

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

/// The probe set as the stage map names it.
fn sets_of(set: ProbeSet) -> Sets {
    match set {
        ProbeSet::Full => Sets::FULL,
        ProbeSet::Light => Sets::LIGHT,
        ProbeSet::Device => Sets::DEVICE,
        ProbeSet::Tc => Sets::TC,
    }
}

impl Plan {
    /// Makes the plan for a probe set on a kernel. With `kprobes_only` functions are probed by kprobe also where
    /// fentry would do.
    pub fn new(kernel: &Kernel, set: ProbeSet, kprobes_only: bool) -> Plan {
        let mut plan = Plan { set, points: Vec::new(), unseen: BTreeMap::new(), missing: Vec::new() };
        for (number, stage) in STAGES.iter().enumerate() {
            if stage.sets.contains(sets_of(set)) {
                plan.add_stage(kernel, number as u8, stage, kprobes_only);
            }
        }
        plan
    }

    fn add_stage(&mut self, kernel: &Kernel, number: u8, stage: &'static Stage, kprobes_only: bool) {
        let mut reasons = Vec::new();
        let mut seen = stage.points.is_empty();
        // Of the tracepoints the set `tc` has those at which a packet ends.
        let is_tc = self.set == ProbeSet::Tc;
        let is_of_set = |point: &Point| !is_tc || point.action == Action::End;
        let wanted = |point: &Point| {
            is_of_set(point) && point.without.is_none_or(|better| kernel.tracepoint(better).is_none())
        };
        for (index, point) in stage.points.iter().enumerate().filter(|(_, point)| wanted(point)) {
            let site = Site {
                kernel,
                set: sets_of(self.set),
                kprobes_only,
                stage_number: number,
                stage,
                point_number: index,
                point,
            };
            let mut found = Vec::new();
            let mut failures = Vec::new();
            for probe in point.probes {
                match site.alternatives(probe) {
                    Ok(attachments) => found.extend(attachments),
                    Err(reason) => failures.push(reason),
                }
            }
            if kprobes_only || self.set == ProbeSet::Light {
                // A tracepoint costs less than a kprobe, and less than fentry. The light set accepts what it misses:
                // `netif_rx` does not see the packets that RPS puts into the backlog of another CPU.
                found.sort_by_key(|attachment: &Attachment| attachment.kind != ProbeKind::TpBtf);
            }
            // The first alternative is the one to make possible. Link kinds have none: they share one program.
            let failure = failures.into_iter().next();
            seen |= !found.is_empty() || failure.is_none();
            if !found.is_empty() {
                self.points.push(found);
            } else if let Some(failure) = failure {
                self.missing.push((number, index, failure.clone()));
                reasons.push(failure);
            }
        }
        if let (false, Some(reason)) = (seen, reasons.into_iter().next()) {
            self.unseen.insert(number, reason);
        }
    }

    /// Attaches the whole plan, on several processors at once: `attach` gets the alternatives of each point, and gives
    /// what it has attached, or why none could be. What cannot be attached is moved to the unseen stages.
    pub fn attach<T: Send>(
        &mut self,
        attach: impl Fn(&[Attachment]) -> Result<Vec<T>, Unprobed> + Sync,
    ) -> Vec<T> {
        let mut attached = Vec::new();
        let mut seen = HashSet::new();
        let mut failures: Vec<(u8, usize, Unprobed)> = Vec::new();
        // The ends first, since packets are tracked already when a module is loaded late: few of them miss their end.
        let points: Vec<_> = self.points.iter().rev().collect();
        let results = parallel::map(&points, |point| attach(point));
        for (point, result) in points.into_iter().zip(results) {
            match result {
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
