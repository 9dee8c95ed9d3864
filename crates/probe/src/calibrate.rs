//! What one hit of a probe costs on the running kernel, the kernel's call of the program included.
//!
//! A probe of each kind is attached to a function that `prctl(PR_SET_NAME)` calls (`__set_task_comm`, and in it the
//! tracepoint `task:task_rename`), and the call is timed with and without the probe. The program does the same
//! accounting as for a real packet, on a synthetic one. One-time costs of a packet are measured on a synthetic skb:
//! see `synthetic_skb_cost.rs`.

use std::time::Instant;

use overlay_trace_common::{
    flags::ProbeFlags,
    probe_spec::{ProbeSpec, calibration},
};
use overlay_trace_format::ProbeCost;

use crate::{
    attachment::Attachment, load::Loader, plan::Plan, probe_kind::ProbeKind, program::Program,
    sys::kernel::Kernel,
};

/// The function that is probed for the measurement.
pub const FUNCTION: &str = "__set_task_comm";
pub const TRACEPOINT: &str = "task_rename";
/// The best of this many batches counts: what disturbs a measurement only lengthens it.
pub const BATCHES: u32 = 5;
const CALLS: u32 = 4000;

/// Attaches a probe of this kind to a kernel function, for a moment.
///
/// # Errors
///
/// Why this kernel does not allow it.
pub fn works(kernel: &Kernel, loader: &Loader, kind: ProbeKind) -> anyhow::Result<()> {
    loader.attach(kernel, &step(kernel, kind, calibration::STEP)?).map(drop)
}

/// Measures the kinds of probes that are used: `entry` for the entries of functions, and kprobes if the plan has some
/// besides. What cannot be measured is left out.
pub fn measure(kernel: &Kernel, loader: &Loader, entry: Option<ProbeKind>, plan: &Plan) -> ProbeCost {
    let cost_of = |kind: ProbeKind, spec| cost_of(kernel, loader, &step(kernel, kind, spec).ok()?);
    let cost = |kind: ProbeKind| cost_of(kind, calibration::STEP);
    let kprobes = plan.points.iter().any(|point| point[0].kind == ProbeKind::Kprobe);
    let besides = kprobes && entry == Some(ProbeKind::Fentry);
    let entry_ns = entry.and_then(cost);
    let kprobe_ns = besides.then(|| cost(ProbeKind::Kprobe)).flatten();
    let look = || {
        let with = cost_of(ProbeKind::Kprobe, calibration::STEP_WITH_DEVICE)?;
        Some((with - kprobe_ns.or(entry_ns)?).max(0.0))
    };
    // All rows that repeat are in modules, and so of one kind.
    let repeats = plan.points.iter().map(|point| &point[0]).find(|one| one.spec.has(ProbeFlags::REPEATS));
    ProbeCost {
        entry: entry_ns,
        kprobe: kprobe_ns,
        look: kprobes.then(look).flatten(),
        exit: entry.filter(|kind| *kind == ProbeKind::Fentry).and_then(|_| cost(ProbeKind::Fexit)),
        tracepoint: cost(ProbeKind::TpBtf),
        again: repeats
            .map(|one| one.kind)
            .or(entry)
            .and_then(|kind| cost_of(kind, calibration::REPEATED_STEP)),
        ..ProbeCost::default()
    }
}

/// What a hit of this probe costs in ns, which the process's renaming hits.
pub fn cost_of(kernel: &Kernel, loader: &Loader, probe: &Attachment) -> Option<f64> {
    let before = call_ns();
    let probe = loader.attach(kernel, probe).ok()?;
    let with = call_ns();
    drop(probe);
    let cost = with - before.min(call_ns());
    // Not positive: the machine was too busy for a measurement.
    (cost > 0.0).then_some(cost)
}

/// The probe of a stage that a synthetic packet enters.
fn step(kernel: &Kernel, kind: ProbeKind, spec: ProbeSpec) -> anyhow::Result<Attachment> {
    let target = if kind == ProbeKind::TpBtf { TRACEPOINT } else { FUNCTION };
    attachment(kernel, kind, target, spec)
}

/// A probe for a measurement.
///
/// # Errors
///
/// This kernel lacks the function or tracepoint.
pub fn attachment(
    kernel: &Kernel,
    kind: ProbeKind,
    target: &'static str,
    spec: ProbeSpec,
) -> anyhow::Result<Attachment> {
    let missing = || anyhow::anyhow!("this kernel has no {target}");
    let type_id = match kind {
        ProbeKind::TpBtf => kernel.tracepoint(target).ok_or_else(missing)?.id,
        ProbeKind::Kprobe => 0,
        _ => kernel.function(target).ok_or_else(missing)?.id,
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
        program: Program::generic(kind, 0, spec),
        spec,
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
