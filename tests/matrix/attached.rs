//! What of the stage map the running kernel lets be probed, and how.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use anyhow::Result;
use overlay_trace_common::stage_map::{STAGES, transmit_stages};
use overlay_trace_probe::load::{Loader, Sizes};
use overlay_trace_probe::sys::{bpf, kernel::Kernel};
use overlay_trace_probe::wanted_functions;
use overlay_trace_probe::{FilterOptions, Plan, ProbeKind, ProbeSet, StartProgress, Unprobed};

use crate::describe;

/// The probes of a set, as this kernel accepts them.
pub struct Attached {
    /// By stage number the kinds of probes that enter it.
    kinds: BTreeMap<u8, BTreeSet<&'static str>>,
    /// The points that cannot be probed: stage, point, reason.
    pub missing: Vec<(u8, usize, Unprobed)>,
    /// How many points are probed.
    pub points: usize,
}

impl Attached {
    /// Loads the modules that the stage map names, and attaches the set for a moment.
    pub fn of(set: ProbeSet) -> Result<Attached> {
        describe::load_modules();
        bpf::explain_refusals();
        let kernel = Kernel::read(&wanted_functions())?;
        let loader = Loader::new(&kernel, &FilterOptions::default(), Sizes::default())?;
        let mut plan = Plan::new(&kernel, set, false);
        let attached = loader.attach_plan(&kernel, &mut plan, &StartProgress::default());
        let mut kinds: BTreeMap<u8, BTreeSet<&str>> = BTreeMap::new();
        let mut points = HashSet::new();
        for one in &attached {
            let attachment = &one.attachment;
            // A watched exit does not enter a stage; where only the exit is probed, it does.
            let kind = if attachment.kind == ProbeKind::Fexit { "fentry" } else { attachment.kind.name() };
            kinds.entry(attachment.stage).or_default().insert(kind);
            points.insert((attachment.stage, attachment.point));
        }
        let transmits: Vec<u8> = transmit_stages().map(|(stage, _)| stage).collect();
        if transmits.iter().any(|stage| kinds.contains_key(stage)) {
            // One program serves the rows of all link kinds.
            transmits.iter().for_each(|stage| {
                kinds.entry(*stage).or_default().insert(ProbeKind::TpBtf.name());
            });
        }
        Ok(Attached { kinds, missing: plan.missing, points: points.len() })
    }

    /// The kinds of probes by which a row is entered; empty if it cannot be.
    pub fn kinds(&self, row: &str) -> String {
        let number = STAGES.iter().position(|stage| stage.name == row);
        let kinds = number.and_then(|number| self.kinds.get(&(number as u8)));
        kinds.into_iter().flatten().copied().collect::<Vec<_>>().join(" and ")
    }
}
