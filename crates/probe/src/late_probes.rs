//! Probes in modules that are loaded during a recording. Attaching them takes seconds, so a thread of its own does it.

use std::{
    collections::{BTreeMap, HashSet},
    sync::{Arc, Mutex, PoisonError, TryLockError, mpsc::Sender},
    thread::{self, JoinHandle},
};

use overlay_trace_common::stage_map::STAGES;
use overlay_trace_format::{Names, ProbeSet, SeenLater};

use crate::{
    drop_reasons::drop_reasons,
    functions::wanted_functions,
    load::{Attached, Loader},
    plan::Plan,
    probe_kind::ProbeKind,
    probes::Probes,
    start_progress::StartProgress,
    sys::{clock::monotonic_ns, kernel::Kernel},
    worker_message::WorkerMessage,
};

/// What is needed to attach more probes.
pub struct ProbeParts {
    pub kernel: Kernel,
    pub loader: Loader,
    pub set: ProbeSet,
    pub kprobes_only: bool,
    pub probes: Probes,
}

/// Attaches more probes until it is closed. The thread that attaches holds the lock meanwhile.
#[derive(Clone)]
pub struct LateProbes(Arc<Mutex<Option<ProbeParts>>>);

impl LateProbes {
    pub fn new(parts: ProbeParts) -> LateProbes {
        LateProbes(Arc::new(Mutex::new(Some(parts))))
    }

    /// Starts a thread that attaches the probes that have become possible, and reports them. It has the capabilities of
    /// the calling thread. `None`, and a warning, where no thread can be made.
    pub fn attach(&self, messages: Sender<WorkerMessage>) -> Option<JoinHandle<()>> {
        let LateProbes(parts) = self.clone();
        let work = move || {
            let mut parts = parts.lock().unwrap_or_else(PoisonError::into_inner);
            for message in parts.as_mut().map(ProbeParts::attach_more).unwrap_or_default() {
                // The reader may have ended with an error.
                let _ = messages.send(message);
            }
        };
        let started = thread::Builder::new().name("attach".into()).spawn(work);
        started.inspect_err(|error| tracing::warn!("no thread to attach probes of a module: {error}")).ok()
    }

    /// The names of addresses in the kernel; `None` while probes are being attached, and when it is closed.
    pub fn address_names(&self, addresses: &[u64]) -> Option<Names> {
        let parts = match self.0.try_lock() {
            Err(TryLockError::WouldBlock) => return None,
            Ok(parts) => parts,
            Err(TryLockError::Poisoned(parts)) => parts.into_inner(),
        };
        let symbols = parts.as_ref()?.kernel.kallsyms().names(addresses).into_iter().collect();
        Some(Names { symbols, ..Names::default() })
    }

    /// Does something with the loader, unless it is in use or closed.
    pub fn with_loader(&self, work: impl FnOnce(&mut Loader)) {
        if let Ok(mut parts) = self.0.try_lock()
            && let Some(parts) = parts.as_mut()
        {
            work(&mut parts.loader);
        }
    }

    /// Waits until nothing is being attached; nothing is attached afterwards.
    pub fn close(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

impl ProbeParts {
    /// Attaches the probes that have become possible, and reads the drop reasons of new modules.
    fn attach_more(&mut self) -> Vec<WorkerMessage> {
        if let Err(error) = self.kernel.refresh(&wanted_functions()) {
            tracing::warn!("a module was loaded, but its functions cannot be read: {error:#}");
            return Vec::new();
        }
        let done: HashSet<(u8, usize)> = self
            .probes
            .all()
            .iter()
            .map(|Attached { attachment, .. }| (attachment.stage, attachment.point))
            .collect();
        let mut plan = Plan::new(&self.kernel, self.set, self.kprobes_only);
        plan.points.retain(|point| point.iter().all(|choice| !done.contains(&(choice.stage, choice.point))));
        let attached = self.loader.attach_plan(&self.kernel, &mut plan, &StartProgress::default());
        let stages = seen_later(&attached);
        self.probes.all().extend(attached);
        let names = Names { drop_reasons: drop_reasons(&self.kernel), ..Names::default() };
        vec![WorkerMessage::Stages(stages), WorkerMessage::Names(names)]
    }
}

/// The stages of these programs, each once.
fn seen_later(attached: &[Attached]) -> Vec<SeenLater> {
    let since_ns = monotonic_ns();
    let mut stages: BTreeMap<u8, SeenLater> = BTreeMap::new();
    for Attached { attachment, .. } in attached {
        let stage = stages.entry(attachment.stage).or_insert_with(|| SeenLater {
            stage: STAGES[attachment.stage as usize].name.to_owned(),
            since_ns,
            probe: attachment.kind.into(),
            exit: false,
        });
        stage.exit |= attachment.kind == ProbeKind::Fexit;
    }
    stages.into_values().collect()
}
