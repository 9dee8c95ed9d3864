//! What a hit of a hook costs.

use std::os::fd::AsFd;

use anyhow::{Context, Result};
use aya::maps::Array;
use overlay_trace_common::{
    abi::TrackingPhase,
    flags::ProbeFlags,
    probe_spec::ProbeSpec,
    record::Outcome,
    stage::Action,
    tc::{HOOK_NAME, Hook, Side},
};
use overlay_trace_format::ProbeCost;

use super::hooks::{CALIBRATION_HOOK, connect, load, write_hook};
use crate::{
    attachment::Attachment,
    calibrate::{self, BATCHES},
    load::Loader,
    probe_kind::ProbeKind,
    program::Program,
    synthetic_skb_cost::datagram,
    sys::{bpf, kernel::Kernel},
};

/// Fewer than a path has words.
const RUNS: u32 = 200;

/// What a hit of the set's probes costs. What cannot be measured is left out.
pub fn measure(kernel: &Kernel, loader: &mut Loader) -> ProbeCost {
    let spec = ProbeSpec::new(0, Action::End as u8, Outcome::Freed as u8, ProbeFlags::NONE);
    let end = calibrate::attachment(kernel, ProbeKind::TpBtf, calibrate::TRACEPOINT, spec);
    let end = end.map(|end| Attachment { program: Program::TcEnd, ..end });
    let tracepoint = end.ok().and_then(|end| calibrate::cost_of(kernel, loader, &end));
    ProbeCost { tc: hook_ns(loader), tracepoint, ..ProbeCost::default() }
}

/// What a packet that passes a hook costs, in ns, measured on a synthetic packet (`BPF_PROG_TEST_RUN`) that comes to the
/// same hook again and again. `None` where the kernel does not allow that.
fn hook_ns(loader: &mut Loader) -> Option<f64> {
    let measured = run(loader).inspect_err(|error| tracing::debug!("cost of a TC hook: {error:#}"));
    measured.ok().map(f64::from)
}

fn run(loader: &mut Loader) -> Result<u32> {
    connect(loader)?;
    let hook =
        Hook { stage: Side::Egress.stage(), starts: 1, has_ethernet: 1, calibrates: 1, ..Hook::default() };
    write_hook(loader, CALIBRATION_HOOK, hook)?;
    let program = load(loader, &format!("{HOOK_NAME}{CALIBRATION_HOOK}"))?.fd()?.try_clone()?;
    set_phase(loader, TrackingPhase::All)?;
    let ns = bpf::run_ns(program.as_fd(), &datagram(), BATCHES, RUNS);
    set_phase(loader, TrackingPhase::Off)?;
    Ok(ns?)
}

fn set_phase(loader: &mut Loader, phase: TrackingPhase) -> Result<()> {
    let map = loader.maps.map_mut("TRACKING_PHASE").context("the kernel object has no map TRACKING_PHASE")?;
    Ok(Array::<_, u64>::try_from(map)?.set(0, phase as u64, 0)?)
}
