//! Follows what changes in the kernel during a recording: modules that are loaded make more probes possible, and
//! devices that come may be tunnels. It also looks up the names of kernel addresses. All this takes too long for the
//! thread that reads the ring buffer.

use std::{
    collections::{BTreeMap, HashSet},
    sync::{
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, RecvTimeoutError, Sender},
    },
    time::Duration,
};

use anyhow::Result;
use overlay_trace_common::stage_map::STAGES;
use overlay_trace_format::{Names, ProbeSet, SeenLater};

use crate::{
    drop_reasons::drop_reasons,
    functions::wanted_functions,
    load::{Attached, Loader},
    modules::Modules,
    plan::Plan,
    probe_kind::ProbeKind,
    probes::Probes,
    sys::{clock::monotonic_ns, kernel::Kernel},
    tunnels::TunnelWatcher,
    worker::Worker,
    worker_message::WorkerMessage,
};

/// How often modules and devices are checked.
const INTERVAL: Duration = Duration::from_millis(100);

/// What is needed to attach more probes.
pub struct ModuleWatcher {
    pub kernel: Kernel,
    pub loader: Loader,
    pub set: ProbeSet,
    pub kprobes_only: bool,
    pub probes: Probes,
    /// The modules that the attach plan was made with.
    pub modules: Modules,
    pub tunnels: TunnelWatcher,
}

impl ModuleWatcher {
    /// Starts a thread that answers `requests` for the names of kernel addresses, and reports what it has attached.
    ///
    /// # Errors
    ///
    /// The thread cannot be created.
    pub fn start(self, requests: Receiver<Vec<u64>>, messages: Sender<WorkerMessage>) -> Result<Worker> {
        Worker::start("module-watcher", move |stop| self.work(&requests, &messages, stop))
    }

    fn work(mut self, requests: &Receiver<Vec<u64>>, messages: &Sender<WorkerMessage>, stop: &AtomicBool) {
        while !stop.load(Ordering::Relaxed) {
            let found = match requests.recv_timeout(INTERVAL) {
                Ok(addresses) => {
                    let symbols = self.kernel.kallsyms().names(&addresses).into_iter().collect();
                    vec![WorkerMessage::Names(Names { symbols, ..Names::default() })]
                }
                Err(RecvTimeoutError::Timeout) if self.modules.have_been_added() => self.attach_more(),
                Err(RecvTimeoutError::Timeout) => {
                    self.tunnels.update(&mut self.loader.maps);
                    Vec::new()
                }
                Err(RecvTimeoutError::Disconnected) => return,
            };
            if found.into_iter().any(|message| messages.send(message).is_err()) {
                return;
            }
        }
    }

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
        let attached = self.loader.attach_plan(&self.kernel, &mut plan);
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
