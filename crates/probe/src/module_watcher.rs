//! What takes long: attaching what becomes possible when a module is loaded, looking for tunnel devices, and
//! looking up names in the kernel's list of symbols.

use std::{
    collections::{BTreeMap, HashSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, RecvTimeoutError, Sender},
    },
    time::Duration,
};

use anyhow::Result;
use overlay_trace_common::stage_map::STAGES;

use super::{
    load::{Attached, Loader},
    modules::Modules,
    news::{News, Working},
    plan::{Plan, ProbeKind, wanted_functions},
    reasons::drop_reasons,
    tunnels,
};
use crate::sys::{
    clock::monotonic_ns,
    kernel::{self, Kernel},
};
use overlay_trace_format::{Names, ProbeSet, SeenLater};

/// How often it is looked whether a module was loaded or devices have changed.
const LOOK: Duration = Duration::from_millis(100);
/// From this kernel on the skipped kprobe programs are counted.
const KPROBE_MISSES_SINCE: (u32, u32) = (6, 7);

/// How often the kernel skipped probes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Misses {
    /// As far as it tells; `None` where it tells of no probe.
    pub counted: Option<u64>,
    /// Probes of which it does not.
    pub untold_probes: u64,
}

/// The attached programs; more can come.
#[derive(Clone, Default)]
pub struct Probes(Arc<Mutex<Vec<Attached>>>);

impl Probes {
    pub fn new(attached: Vec<Attached>) -> Probes {
        Probes(Arc::new(Mutex::new(attached)))
    }

    /// All of them, for as long as this is held.
    pub fn all(&self) -> MutexGuard<'_, Vec<Attached>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How often the kernel skipped a probe.
    pub fn misses(&self) -> Misses {
        let all = self.all();
        let is_told = |attached: &&Attached| {
            attached.attachment.kind != ProbeKind::Kprobe || kernel::at_least(KPROBE_MISSES_SINCE)
        };
        let (told, untold): (Vec<&Attached>, Vec<&Attached>) = all.iter().partition(is_told);
        let counted = (!told.is_empty()).then(|| told.iter().map(|attached| attached.misses()).sum());
        Misses { counted, untold_probes: untold.len() as u64 }
    }
}

/// What is needed to attach more.
pub struct Helper {
    pub kernel: Kernel,
    pub loader: Loader,
    pub set: ProbeSet,
    pub kprobes_only: bool,
    pub probes: Probes,
    /// The modules that the attach plan was made with.
    pub modules: Modules,
    pub tunnels: tunnels::Watch,
}

impl Helper {
    /// Goes to work on a thread of its own: answers what is asked, and tells what it has attached.
    ///
    /// # Errors
    ///
    /// If there can be no more threads.
    pub fn start(self, asked: Receiver<Vec<u64>>, tell: Sender<News>) -> Result<Working> {
        Working::start("helper", move |is_over| self.work(&asked, &tell, is_over))
    }

    fn work(mut self, asked: &Receiver<Vec<u64>>, tell: &Sender<News>, is_over: &AtomicBool) {
        while !is_over.load(Ordering::Relaxed) {
            let news = match asked.recv_timeout(LOOK) {
                Ok(addresses) => {
                    let symbols = self.kernel.addresses().names(&addresses).into_iter().collect();
                    vec![News::Names(Names { symbols, ..Names::default() })]
                }
                Err(RecvTimeoutError::Timeout) if self.modules.have_come() => self.take_up_modules(),
                Err(RecvTimeoutError::Timeout) => {
                    self.tunnels.look(&mut self.loader.maps);
                    Vec::new()
                }
                Err(RecvTimeoutError::Disconnected) => return,
            };
            if news.into_iter().any(|news| tell.send(news).is_err()) {
                return;
            }
        }
    }

    /// Attaches what modules have made possible, and learns their reasons to drop packets.
    fn take_up_modules(&mut self) -> Vec<News> {
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
        vec![News::Stages(stages), News::Names(names)]
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
            probe: probe_name(attachment.kind),
            exit: false,
        });
        stage.exit |= attachment.kind == ProbeKind::Fexit;
    }
    stages.into_values().collect()
}

/// What a recording calls a kind of probe.
pub fn probe_name(kind: ProbeKind) -> overlay_trace_format::ProbeKind {
    match kind {
        ProbeKind::Fentry | ProbeKind::Fexit => overlay_trace_format::ProbeKind::Fentry,
        ProbeKind::Kprobe => overlay_trace_format::ProbeKind::Kprobe,
        ProbeKind::TpBtf => overlay_trace_format::ProbeKind::TpBtf,
    }
}
