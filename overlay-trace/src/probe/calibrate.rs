//! What one hit of a probe costs on the running kernel, dispatch included.
//!
//! A probe of each kind is attached to a place that `prctl(PR_SET_NAME)` passes (`__set_task_comm`, and
//! in it the tracepoint `task:task_rename`), and the call is timed with and without it. The program does
//! the same accounting as for a real packet, on an invented one.

use std::time::Instant;

use overlay_trace_common::row::{ROW_CALIBRATE, Row};

use super::{
    load::Loader,
    plan::{Attachment, Plan, ProbeKind},
};
use crate::{sys::kernel::Kernel, trace::ProbeCost};

/// The function that is probed for the measurement.
pub const FUNCTION: &str = "__set_task_comm";
const TRACEPOINT: &str = "task_rename";
/// The best of so many batches counts: what disturbs a measurement only lengthens it.
const BATCHES: u32 = 5;
const CALLS: u32 = 4000;

/// Whether this kernel lets functions be probed by this kind of probe, and if not, why.
pub fn works(kernel: &Kernel, loader: &Loader, kind: ProbeKind) -> anyhow::Result<()> {
    loader.attach(kernel, &attachment(kernel, kind)?).map(drop)
}

/// Measures the kinds of probes that are used: of functions' entries the usual one, and kprobes if the plan
/// has some besides.
pub fn measure(kernel: &Kernel, loader: &Loader, entry: Option<ProbeKind>, plan: &Plan) -> ProbeCost {
    let cost = |kind: ProbeKind| {
        let before = call_ns();
        let probe = loader.attach(kernel, &attachment(kernel, kind).ok()?).ok()?;
        let with = call_ns();
        drop(probe);
        let cost = with - before.min(call_ns());
        // Not positive: the machine was too busy for a measurement.
        (cost > 0.0).then_some(cost)
    };
    let kprobes = plan.points.iter().any(|point| point[0].kind == ProbeKind::Kprobe);
    let besides = kprobes && entry == Some(ProbeKind::Fentry);
    ProbeCost {
        entry: entry.and_then(cost),
        kprobe: besides.then(|| cost(ProbeKind::Kprobe)).flatten(),
        exit: entry.filter(|kind| *kind == ProbeKind::Fentry).and_then(|_| cost(ProbeKind::Fexit)),
        tracepoint: cost(ProbeKind::TpBtf),
        tc: None,
    }
}

fn attachment(kernel: &Kernel, kind: ProbeKind) -> anyhow::Result<Attachment> {
    let missing = |what: &str| anyhow::anyhow!("this kernel has no {what}");
    let (target, type_id) = match kind {
        ProbeKind::TpBtf => (TRACEPOINT, kernel.tracepoint(TRACEPOINT).ok_or(missing(TRACEPOINT))?.id),
        ProbeKind::Kprobe => (FUNCTION, 0),
        _ => (FUNCTION, kernel.function(FUNCTION).ok_or(missing(FUNCTION))?.id),
    };
    let program = match kind {
        ProbeKind::Kprobe => "kprobe_0",
        ProbeKind::Fexit => "typed_exit_0",
        _ => "typed_0",
    };
    let row = Row::new(0, 0, 0, ROW_CALIBRATE);
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
