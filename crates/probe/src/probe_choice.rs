//! Which probe set this kernel allows, and by which kind of probe the entries of functions are seen.

use overlay_trace_format::ProbeSet;

use crate::{calibrate, error::StartError, load::Loader, probe_kind::ProbeKind, sys::kernel::Kernel, tc};

/// The probe set of a recording.
pub struct ProbeChoice {
    pub set: ProbeSet,
    /// Why it is not a richer one, if the kernel is the reason.
    pub reason: Option<String>,
    /// By which kind of probe the entries of functions are seen; `None` if they are not.
    pub entry: Option<ProbeKind>,
}

impl ProbeChoice {
    /// The wanted set, or the richest that the kernel allows.
    ///
    /// # Errors
    ///
    /// [`StartError::SetNotPossible`].
    pub fn new(
        kernel: &Kernel,
        loader: &mut Loader,
        wanted: Option<ProbeSet>,
        kprobes_only: bool,
    ) -> Result<ProbeChoice, StartError> {
        if let Some(set @ (ProbeSet::Device | ProbeSet::Tc)) = wanted {
            return Ok(ProbeChoice { set, reason: None, entry: None });
        }
        let with = |entry| {
            Ok(ProbeChoice { set: wanted.unwrap_or(ProbeSet::Full), reason: None, entry: Some(entry) })
        };
        let fentry = match kprobes_only {
            true => Err(anyhow::anyhow!("not wanted")),
            false => calibrate::works(kernel, loader, ProbeKind::Fentry),
        };
        let Err(fentry) = fentry else { return with(ProbeKind::Fentry) };
        let Err(kprobe) = calibrate::works(kernel, loader, ProbeKind::Kprobe) else {
            return with(ProbeKind::Kprobe);
        };
        match wanted {
            Some(set) => {
                let reason =
                    format!("this kernel allows neither fentry ({fentry:#}) nor kprobes ({kprobe:#})");
                Err(StartError::SetNotPossible { set, reason })
            }
            None => {
                let reads = calibrate::works(kernel, loader, ProbeKind::TpBtf).is_ok();
                let set = if reads || tc::works(loader).is_err() { ProbeSet::Device } else { ProbeSet::Tc };
                let reason = match set {
                    ProbeSet::Tc => "this kernel does not let programs read its memory",
                    _ => "this kernel allows neither fentry nor kprobes",
                };
                let reason = format!("{reason}; `overlay-trace doctor` says why");
                Ok(ProbeChoice { set, reason: Some(reason), entry: None })
            }
        }
    }
}
