//! A recording in progress: programs attached, and a thread that moves records from the ring buffer to the file.

use std::{
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
        mpsc::channel,
    },
    thread::{self, JoinHandle},
};

use anyhow::{Context, Result};
use aya::maps::{MapData, PerCpuArray};
use overlay_trace_common::record::COUNTERS;
use overlay_trace_format::{Detection, Names, ProbeCost, ProbeSet, Writer};

use crate::{
    baseline_program::BaselineProgram,
    calibrate, detection,
    drop_reasons::drop_reasons,
    drops::Drops,
    error::StartError,
    filter::FilterOptions,
    functions::wanted_functions,
    hop_names::HopNames,
    latency_threshold::LatencyThreshold,
    load::{Attached, Loader, Sizes},
    module_watcher::ModuleWatcher,
    modules::Modules,
    plan::Plan,
    probe_choice::ProbeChoice,
    probes::Probes,
    reader::{Reader, ReaderParts, WorkerChannels, sum_counters},
    recording_header::{HeaderParts, header},
    sched_policy::SchedPolicy,
    summary::Summary,
    synthetic_skb_cost,
    sys::{kernel::Kernel, privilege},
    tail_sampling::TailSampling,
    tracking_phase::Tracking,
    tunnels::TunnelWatcher,
    worker::Worker,
};

/// What to record.
#[derive(Clone, Debug, Default)]
pub struct SessionOptions {
    /// `None`: the richest set that the kernel allows.
    pub set: Option<ProbeSet>,
    /// Probe functions by kprobe also where fentry would do.
    pub kprobes_only: bool,
    /// Attach these instead of the recorder's programs: nothing is recorded.
    pub baseline: Option<BaselineProgram>,
    pub filter: FilterOptions,
    pub output: PathBuf,
    /// Overwrite the output file.
    pub force: bool,
    pub sizes: Sizes,
    /// `None`: every packet has its record.
    pub sampling: Option<TailSampling>,
}

/// A recording in progress; [`stop`](Session::stop) finishes it. Dropped without that, it leaves a recording that is
/// complete up to the last checkpoint.
pub struct Session {
    set: ProbeSet,
    set_reason: Option<String>,
    unseen: usize,
    networks: Vec<Detection>,
    probes: Probes,
    tracking: Tracking,
    progress: Arc<Mutex<Summary>>,
    stop: Arc<AtomicBool>,
    reader: Option<JoinHandle<Result<Reader>>>,
    module_watcher: Option<Worker>,
    hop_names: Option<Worker>,
    traffic: Vec<serde_json::Value>,
}

impl Session {
    /// Attaches the programs and starts to record.
    ///
    /// # Errors
    ///
    /// A missing privilege, a kernel that lacks what is needed, an output file that exists.
    pub fn start(options: SessionOptions) -> Result<Session, StartError> {
        overlay_trace_format::check_output(&options.output, options.force).map_err(StartError::Output)?;
        privilege::check()?;
        Ok(Attaching::attach(&options)?.record(&options)?)
    }

    /// The set in use, and why it is not a richer one.
    pub fn set(&self) -> (ProbeSet, Option<&str>) {
        (self.set, self.set_reason.as_deref())
    }

    /// How many programs are attached, and how many stages of the set cannot be seen.
    pub fn coverage(&self) -> (usize, usize) {
        (self.probes.all().len(), self.unseen)
    }

    /// The container networks that were detected on this machine.
    pub fn networks(&self) -> &[Detection] {
        &self.networks
    }

    /// What has been seen so far.
    pub fn progress(&self) -> Summary {
        self.progress.lock().map(|progress| progress.clone()).unwrap_or_default()
    }

    /// Whether the reader has ended with an error, as on a full disk.
    pub fn failed(&self) -> bool {
        self.reader.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Adds results of traffic to the recording.
    pub fn traffic(&mut self, results: impl IntoIterator<Item = serde_json::Value>) {
        self.traffic.extend(results);
    }

    /// Reads what is left, closes the file, and detaches the programs. Detaching comes last: the kernel takes long for
    /// it, and that time is no part of the recording.
    ///
    /// # Errors
    ///
    /// The file could not be written; what was written before is kept.
    pub fn stop(mut self) -> Result<Summary> {
        // No further programs are attached from here on.
        self.module_watcher.take();
        self.tracking.stop()?;
        let misses = self.probes.misses();
        self.stop.store(true, Ordering::Relaxed);
        let reader = self.reader.take().context("the recording has been stopped already")?;
        let reader = reader.join().map_err(|_| anyhow::anyhow!("the reader has failed"))??;
        // All hops are known now: this waits until their names have been reported.
        self.hop_names.take();
        reader.finish(&self.traffic, misses)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Programs that are attached while nothing is tracked yet.
struct Attaching {
    kernel: Kernel,
    loader: Loader,
    /// The modules that were loaded before the kernel was read.
    modules: Modules,
    choice: ProbeChoice,
    plan: Plan,
    attached: Vec<Attached>,
    cost: ProbeCost,
}

impl Attaching {
    fn attach(options: &SessionOptions) -> Result<Attaching, StartError> {
        let modules = Modules::now();
        let kernel = Kernel::read(&wanted_functions())?;
        let one_in = options.sampling.map_or(0, |sampling| sampling.one_in);
        let mut loader = Loader::sampling(&kernel, &options.filter, options.sizes, one_in)?;
        let choice = ProbeChoice::new(&kernel, &loader, options.set, options.kprobes_only)?;
        let mut plan = Plan::new(&kernel, choice.set, options.kprobes_only);
        let cost = calibrate::measure(&kernel, &loader, choice.entry, &plan);
        if let Some(baseline) = options.baseline {
            loader.replace_programs(baseline);
        }
        let attached = loader.attach_plan(&kernel, &mut plan);
        trigger_device_event();
        if attached.is_empty() {
            return Err(StartError::NothingAttached { set: choice.set });
        }
        let cost = synthetic_skb_cost::measure(&kernel, &mut loader, choice.entry, cost);
        Ok(Attaching { kernel, loader, modules, choice, plan, attached, cost })
    }

    /// Creates the file, starts to track packets, and starts the threads.
    fn record(self, options: &SessionOptions) -> Result<Session> {
        let Attaching { kernel, mut loader, modules, choice, plan, attached, cost } = self;
        let counters_before = counters(&loader)?;
        let mut tracking = Tracking::new(&mut loader)?;
        let networks = detection::look(&options.filter.netns);
        let parts = HeaderParts {
            cost,
            filter: options.filter.to_string(),
            sampling: options.sampling.map(Into::into),
            networks: networks.clone(),
        };
        let header = header(&kernel, &plan, &attached, parts);
        let mut writer = Writer::create(&options.output, options.force, &header)?;
        let reasons = Names { drop_reasons: drop_reasons(&kernel), ..Names::default() };
        writer.names(&reasons)?;
        let threshold = options
            .sampling
            .map(|sampling| LatencyThreshold::new(&mut loader, sampling.threshold))
            .transpose()?;
        tracking.start()?;
        let probes = Probes::new(attached);
        let ((requests, received_requests), (send_message, messages)) = (channel(), channel());
        let hop_names = HopNames::new(&mut loader)?.start(send_message.clone())?;
        let progress: Arc<Mutex<Summary>> = Arc::default();
        let parts = ReaderParts {
            writer,
            counters_before,
            probes: probes.clone(),
            workers: WorkerChannels { requests, messages },
            drops: Drops::new(reasons),
            threshold,
            sched_policy: SchedPolicy::new(options.sizes.ring_bytes),
            progress: Arc::clone(&progress),
        };
        let reader = Reader::new(&mut loader, parts)?;
        let module_watcher = ModuleWatcher {
            kernel,
            loader,
            set: choice.set,
            kprobes_only: options.kprobes_only,
            probes: probes.clone(),
            modules,
            tunnels: TunnelWatcher::new(Arc::clone(&progress)),
        };
        let module_watcher = module_watcher.start(received_requests, send_message)?;
        let stop = Arc::new(AtomicBool::new(false));
        let flag = stop.clone();
        let reader = thread::Builder::new().name("reader".into()).spawn(move || reader.run(&flag))?;
        Ok(Session {
            set: choice.set,
            set_reason: choice.reason,
            unseen: plan.unseen.len(),
            networks,
            probes,
            tracking,
            progress,
            stop,
            reader: Some(reader),
            module_watcher: Some(module_watcher),
            hop_names: Some(hop_names),
            traffic: Vec::new(),
        })
    }
}

/// The kernel side's counters so far.
fn counters(loader: &Loader) -> Result<[u64; COUNTERS]> {
    let map = loader.maps.map("COUNTS").context("the kernel object has no map COUNTS")?;
    Ok(sum_counters(&PerCpuArray::<&MapData, _>::try_from(map)?))
}

/// Creates a network namespace, and with it a device, for a moment. The kernel side learns from the event that it sees
/// changes of devices, so that it need not read each device again for each packet. Without the event it does that.
fn trigger_device_event() {
    let _ = thread::spawn(|| nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET)).join();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_output_that_exists_is_an_error_of_its_own() {
        let output = tempfile::NamedTempFile::new().unwrap();
        let options = SessionOptions { output: output.path().to_owned(), ..SessionOptions::default() };
        let Err(error) = Session::start(options) else { panic!("the file was overwritten") };
        assert!(matches!(error, StartError::Output(_)), "{error:?}");
        assert!(error.to_string().contains("exists already"), "{error}");
    }
}
