//! `doctor`: what this kernel allows.

mod text;

use std::{path::Path, process::ExitCode};

use anyhow::Result;

use overlay_trace_probe::sys::{bpf, kernel, kernel::Kernel, limits, privilege};
use overlay_trace_probe::{
    FilterOptions, Plan, ProbeKind, ProbeSet, StartProgress,
    calibrate::{self, works},
    load::{Loader, Sizes},
    tc, wanted_functions,
};

use super::output::{line, print};
use text::Abilities;

#[derive(clap::Args)]
#[command(after_help = "The exit code is 0 if packets can be recorded with some probe set, and 1 if not.")]
pub struct Doctor {
    /// Only remove the TC filters that recorders which were killed have left on devices
    #[arg(long)]
    clean: bool,
}

impl Doctor {
    pub fn run(self) -> Result<ExitCode> {
        if self.clean {
            return clean();
        }
        bpf::explain_refusals();
        print(text::system(&kernel::release(), &privilege::missing(), bpf::has_vmlinux_btf()).as_bytes())?;
        privilege::check()?;
        let kernel = Kernel::read(&wanted_functions())?;
        let mut loader = Loader::new(&kernel, &FilterOptions::default(), Sizes::default())?;
        let can = |kind| works(&kernel, &loader, kind).map_err(|error| format!("{error:#}"));
        let abilities = Abilities {
            tracepoints: can(ProbeKind::TpBtf),
            fentry: can(ProbeKind::Fentry),
            kprobes: can(ProbeKind::Kprobe),
            tc: tc::works(&mut loader).map_err(|error| format!("{error:#}")),
            lockdown: privilege::lockdown(),
        };
        print(text::abilities(&abilities).as_bytes())?;
        let Some(richest) = abilities.sets().first().copied() else { return Ok(ExitCode::FAILURE) };
        let mut plan = Plan::new(&kernel, richest, false);
        let cost = match richest {
            ProbeSet::Tc => tc::measure(&kernel, &mut loader),
            _ => calibrate::measure(&kernel, &loader, abilities.entry(), &plan),
        };
        print(text::costs(&cost).as_bytes())?;
        limits::allow_probes(plan.points.len())?;
        // Only attaching shows what the kernel really accepts.
        let attached = loader.attach_plan(&kernel, &mut plan, &StartProgress::default());
        let attachments: Vec<_> = attached.iter().map(|one| one.attachment.clone()).collect();
        drop(attached);
        print(text::stages(&kernel, &plan, &attachments).as_bytes())?;
        Ok(ExitCode::SUCCESS)
    }
}

impl Abilities {
    /// The possible probe sets, the richest first.
    fn sets(&self) -> Vec<ProbeSet> {
        let by_functions = match (&self.tracepoints, self.entry()) {
            (Err(_), _) => &[][..],
            (Ok(()), None) => &[ProbeSet::Device],
            (Ok(()), Some(_)) => &[ProbeSet::Full, ProbeSet::Light, ProbeSet::Device],
        };
        by_functions.iter().copied().chain(self.tc.is_ok().then_some(ProbeSet::Tc)).collect()
    }

    /// The kind of probe that sees the entries of functions.
    fn entry(&self) -> Option<ProbeKind> {
        match (&self.fentry, &self.kprobes) {
            (Ok(()), _) => Some(ProbeKind::Fentry),
            (Err(_), Ok(())) => Some(ProbeKind::Kprobe),
            (Err(_), Err(_)) => None,
        }
    }
}

/// Removes what recorders that were killed have left behind. The exit code is 1 if something could not be removed.
fn clean() -> Result<ExitCode> {
    let cleaned = tc::clean(Path::new(tc::FOLDER));
    line(&text::cleaned(&cleaned))?;
    Ok(if cleaned.failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
