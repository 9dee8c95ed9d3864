//! What one hit of a probe costs on the running kernel, the kernel's call of the program included.
//!
//! A probe of each kind is attached to a function that `prctl(PR_SET_NAME)` calls (`__set_task_comm`, and in it the
//! tracepoint `task:task_rename`), and the call is timed with and without the probe. The program does the same
//! accounting as for a real packet, on a synthetic one. One-time costs of a packet are measured on a synthetic skb:
//! see `synthetic_skb_cost.rs`.

use std::time::Instant;

use overlay_trace_common::{flags::ProbeFlags, probe_spec::ProbeSpec, record::Outcome};
use overlay_trace_format::ProbeCost;

use crate::{
    attachment::Attachment, load::Loader, plan::Plan, probe_kind::ProbeKind, program::Program,
    sys::kernel::Kernel,
};

/// The function that is probed for the measurement.
pub const FUNCTION: &str = "__set_task_comm";
const TRACEPOINT: &str = "task_rename";
/// The best of this many batches counts: what disturbs a measurement only lengthens it.
pub const BATCHES: u32 = 5;
const CALLS: u32 = 4000;

/// Attaches a probe of this kind to a kernel function, for a moment.
///
/// # Errors
///
/// Why this kernel does not allow it.
pub fn works(kernel: &Kernel, loader: &Loader, kind: ProbeKind) -> anyhow::Result<()> {
    loader.attach(kernel, &step(kernel, kind, 0)?).map(drop)
}

/// Measures the kinds of probes that are used: `entry` for the entries of functions, and kprobes if the plan has some
/// besides. What cannot be measured is left out.
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

/// The probe of a stage that a synthetic packet enters; if there is an outcome, one that it is in already.
fn step(kernel: &Kernel, kind: ProbeKind, outcome: u8) -> anyhow::Result<Attachment> {
    let target = if kind == ProbeKind::TpBtf { TRACEPOINT } else { FUNCTION };
    attachment(kernel, kind, target, ProbeSpec::new(0, 0, outcome, ProbeFlags::CALIBRATE))
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
