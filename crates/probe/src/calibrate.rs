//! What one hit of a probe costs on the running kernel, dispatch included.
//!
//! A probe of each kind is attached to a place that `prctl(PR_SET_NAME)` passes (`__set_task_comm`, and
//! in it the tracepoint `task:task_rename`), and the call is timed with and without it. The program does
//! the same accounting as for a real packet, on an invented one. What besides is done once on a packet's way
//! is measured on a packet that the kernel itself makes for test runs: see `invented`.

use std::time::Instant;

use overlay_trace_common::{flags::ProbeFlags, probe_spec::ProbeSpec, record::Outcome};

use super::{
    invented,
    load::Loader,
    plan::{Attachment, Plan, ProbeKind},
};
use crate::sys::kernel::Kernel;
use overlay_trace_format::ProbeCost;

/// The function that is probed for the measurement.
const FUNCTION: &str = "__set_task_comm";
const TRACEPOINT: &str = "task_rename";
/// All functions that are probed for measurements.
pub const FUNCTIONS: [&str; 2] = [FUNCTION, invented::FUNCTION];
/// The best of so many batches counts: what disturbs a measurement only lengthens it.
pub const BATCHES: u32 = 5;
const CALLS: u32 = 4000;

/// Whether this kernel lets functions be probed by this kind of probe, and if not, why.
pub fn works(kernel: &Kernel, loader: &Loader, kind: ProbeKind) -> anyhow::Result<()> {
    loader.attach(kernel, &step(kernel, kind, 0)?).map(drop)
}

/// Measures the kinds of probes that are used: of functions' entries the usual one, and kprobes if the plan
/// has some besides.
pub fn measure(kernel: &Kernel, loader: &Loader, entry: Option<ProbeKind>, plan: &Plan) -> ProbeCost {
    let cost_of = |kind: ProbeKind, outcome: u8| {
        let before = call_ns();
        let probe = loader.attach(kernel, &step(kernel, kind, outcome).ok()?).ok()?;
        let with = call_ns();
        drop(probe);
        let cost = with - before.min(call_ns());
        // Not positive: the machine was too busy for a measurement.
        (cost > 0.0).then_some(cost)
    };
    let cost = |kind: ProbeKind| cost_of(kind, 0);
    let kprobes = plan.points.iter().any(|point| point[0].kind == ProbeKind::Kprobe);
    let besides = kprobes && entry == Some(ProbeKind::Fentry);
    ProbeCost {
        entry: entry.and_then(cost),
        kprobe: besides.then(|| cost(ProbeKind::Kprobe)).flatten(),
        exit: entry.filter(|kind| *kind == ProbeKind::Fentry).and_then(|_| cost(ProbeKind::Fexit)),
        tracepoint: cost(ProbeKind::TpBtf),
        again: entry.and_then(|kind| cost_of(kind, Outcome::Delivered as u8)),
        ..ProbeCost::default()
    }
}

/// The probe of a stage that an invented packet enters; again, if there is an outcome.
fn step(kernel: &Kernel, kind: ProbeKind, outcome: u8) -> anyhow::Result<Attachment> {
    let target = if kind == ProbeKind::TpBtf { TRACEPOINT } else { FUNCTION };
    attachment(kernel, kind, target, ProbeSpec::new(0, 0, outcome, ProbeFlags::CALIBRATE))
}

/// A probe for a measurement.
pub fn attachment(
    kernel: &Kernel,
    kind: ProbeKind,
    target: &'static str,
    row: ProbeSpec,
) -> anyhow::Result<Attachment> {
    let missing = || anyhow::anyhow!("this kernel has no {target}");
    let type_id = match kind {
        ProbeKind::TpBtf => kernel.tracepoint(target).ok_or_else(missing)?.id,
        ProbeKind::Kprobe => 0,
        _ => kernel.function(target).ok_or_else(missing)?.id,
    };
    let program = match kind {
        ProbeKind::Kprobe => "kprobe_0",
        ProbeKind::Fexit => "typed_exit_0",
        _ => "typed_0",
    };
    Ok(Attachment {
        stage: 0,
        point: 0,
        kind,
        target,
        type_id,
        module: None,
        argument: 0,
        arguments: 0,
        program: program.to_owned(),
        row,
    })
}

/// Nanoseconds of one call.
fn call_ns() -> f64 {
    (0..BATCHES)
        .map(|_| {
            let begin = Instant::now();
            for _ in 0..CALLS {
                // SAFETY: the name is NUL-terminated and outlives the call.
                unsafe { libc::prctl(libc::PR_SET_NAME, c"overlay-trace".as_ptr()) };
            }
            begin.elapsed().as_nanos() as f64 / CALLS as f64
        })
        .fold(f64::INFINITY, f64::min)
}
