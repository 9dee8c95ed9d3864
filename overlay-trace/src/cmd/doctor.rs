//! `doctor`: what this kernel allows.

mod text;

use std::process::ExitCode;

use anyhow::Result;

use overlay_trace_probe::sys::{bpf, kernel, kernel::Kernel, privilege};
use overlay_trace_probe::{
    FilterOptions, Plan, ProbeKind, ProbeSet,
    calibrate::{self, works},
    load::{Loader, Sizes},
    wanted_functions,
};

use super::output::line;
use text::Abilities;

#[derive(clap::Args)]
#[command(after_help = "The exit code is 0 if packets can be recorded with some probe set, and 1 if not.")]
pub struct Doctor {}

impl Doctor {
    pub fn run(self) -> Result<ExitCode> {
        print(&text::system(&kernel::release(), &privilege::missing(), bpf::has_vmlinux_btf()));
        privilege::check()?;
        let kernel = Kernel::read(&wanted_functions())?;
        let loader = Loader::new(&kernel, &FilterOptions::default(), Sizes::default())?;
        let can = |kind| works(&kernel, &loader, kind).map_err(|error| format!("{error:#}"));
        let abilities = Abilities {
            tracepoints: can(ProbeKind::TpBtf),
            fentry: can(ProbeKind::Fentry),
            kprobes: can(ProbeKind::Kprobe),
            lockdown: privilege::lockdown(),
        };
        print(&text::abilities(&abilities));
        let Some(richest) = abilities.sets().first().copied() else { return Ok(ExitCode::FAILURE) };
        let mut plan = Plan::new(&kernel, richest, false);
        print(&text::costs(&calibrate::measure(&kernel, &loader, abilities.entry(), &plan)));
        // Only attaching shows what the kernel really accepts.
        let attached = loader.attach_plan(&kernel, &mut plan);
        let attachments: Vec<_> = attached.iter().map(|one| one.attachment.clone()).collect();
        drop(attached);
        print(&text::stages(&kernel, &plan, &attachments));
        Ok(ExitCode::SUCCESS)
    }
}

impl Abilities {
    /// The possible probe sets, the richest first.
    fn sets(&self) -> &'static [ProbeSet] {
        match (&self.tracepoints, self.entry()) {
            (Err(_), _) => &[],
            (Ok(()), None) => &[ProbeSet::Device],
            (Ok(()), Some(_)) => &[ProbeSet::Full, ProbeSet::Light, ProbeSet::Device],
        }
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

/// Prints lines, each of which ends with a line break.
fn print(text: &str) {
    text.lines().for_each(line);
}
