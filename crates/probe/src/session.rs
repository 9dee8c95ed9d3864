//! A recording in progress: programs attached, and a thread that moves records from the ring buffer to the file.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
        mpsc::{Sender, channel},
    },
    thread::{self, JoinHandle},
};

use anyhow::{Context, Result, ensure};
use aya::maps::{MapData, PerCpuArray};
use overlay_trace_common::record::COUNTERS;
use overlay_trace_format::{
    Detection, Header, Names, ProbeCost, ProbeSet, ReservedOutput, RingFolder, Writer, reserve_output,
};

use crate::{
    baseline_program::BaselineProgram,
    calibrate, detection,
    drop_reasons::drop_reasons,
    drops::Drops,
    error::StartError,
    filter::FilterOptions,
    filter_watch::FilterWatch,
    functions::wanted_functions,
    hop_names::HopNames,
    kernel_counters::CountersSince,
    kernel_log,
    late_probes::{LateProbes, ProbeParts},
    latency_threshold::LatencyThreshold,
    load::{Attached, Loader, SampleRates, Sizes},
    modules::Modules,
    nic_counts::NicCounts,
    plan::Plan,
    privileged::{self, PrivilegedParts},
    probe_choice::ProbeChoice,
    probes::Probes,
    reader::{Reader, ReaderParts, WorkerChannels, sum_counters},
    recording_header::{HeaderParts, HookCoverage, command_line, header},
    sampling::{PacketSampling, TailSampling},
    sched_policy::{SchedPolicy, to_leave_idle},
    start_gate::StartGate,
    start_progress::StartProgress,
    summary::Summary,
    synthetic_skb_cost,
    sys::{capabilities::drop_in_thread, kernel::Kernel, limits, netns_names::NetnsNames, privilege},
    tc::{self, Part},
    tracking_phase::Tracking,
    tunnels::TunnelWatcher,
    worker::Worker,
    worker_message::Request,
};

/// What to record.
#[derive(Clone, Debug, Default)]
pub struct SessionOptions {
    /// `None`: the richest set that the kernel allows.
    pub set: Option<ProbeSet>,
    /// Probe functions by kprobe also where fentry would do.
    pub kprobes_only: bool,
    /// Attach the set `tc` by filters in `clsact` also where the kernel has tcx.
    pub clsact_only: bool,
    /// Print what a kernel side that was built with a log says.
    pub kernel_log: bool,
    /// Attach these instead of the recorder's programs: nothing is recorded.
    pub baseline: Option<BaselineProgram>,
    pub filter: FilterOptions,
    pub output: PathBuf,
    /// Overwrite the output file.
    pub force: bool,
    /// Where the last packets are kept, and how many bytes of them at most; the recording never ends then, and there is no
    /// output file.
    pub ring: Option<(PathBuf, u64)>,
    /// Write the arguments of the command that runs meanwhile to the header: they can hold passwords.
    pub keep_command_line: bool,
    pub sizes: Sizes,
    /// `None`: every packet that is followed has its record.
    pub sampling: Option<TailSampling>,
    /// `None`: every packet is followed.
    pub sample: Option<PacketSampling>,
    /// By which another thread can call the start off.
    pub gate: StartGate,
    /// By which another thread can see how far the start has come.
    pub progress: StartProgress,
}

/// A recording in progress; [`stop`](Session::stop) finishes it. Dropped without that, it leaves a recording that is
/// complete up to the last checkpoint.
pub struct Session {
    set: ProbeSet,
    set_reason: Option<String>,
    unseen: usize,
    networks: Option<Vec<Detection>>,
    probes: Probes,
    tracking: Tracking,
    progress: Arc<Mutex<Summary>>,
    stop: Arc<AtomicBool>,
    reader: Option<JoinHandle<Result<Reader>>>,
    late_probes: LateProbes,
    privileged: Option<Worker>,
    requests: Sender<Request>,
    nics: NicCounts,
    /// With the set `tc`: its thread, and the number of its hooks.
    tc: Option<Worker>,
    hooks: usize,
    _kernel_log: Option<Worker>,
    traffic: Vec<serde_json::Value>,
}

impl Session {
    /// Attaches the programs and starts to record.
    ///
    /// # Errors
    ///
    /// A missing privilege, a kernel that lacks what is needed, an output file that exists.
    pub fn start(mut options: SessionOptions) -> Result<Session, StartError> {
        let output = Output::reserve(&options).map_err(StartError::Output)?;
        privilege::check()?;
        options.filter.find_pods()?;
        Ok(Attaching::attach(&options)?.record(&options, output)?)
    }

    /// The set in use, and why it is not a richer one.
    pub fn set(&self) -> (ProbeSet, Option<&str>) {
        (self.set, self.set_reason.as_deref())
    }

    /// How many programs are attached, and how many stages of the set cannot be seen.
    pub fn coverage(&self) -> (usize, usize) {
        (self.probes.all().len() + self.hooks, self.unseen)
    }

    /// The container networks that were detected on this machine; `None` where looking took too long.
    pub fn networks(&self) -> Option<&[Detection]> {
        self.networks.as_deref()
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
    /// The file could not be written; what was written before is kept. Or it is not what was written: somebody else has
    /// deleted, replaced or changed it.
    pub fn stop(mut self) -> Result<Summary> {
        // No further programs are attached from here on.
        self.late_probes.close();
        let drivers = self.nics.drivers_now(&self.requests);
        self.tracking.stop()?;
        self.tc.take();
        let misses = self.probes.misses();
        self.stop.store(true, Ordering::Relaxed);
        let reader = self.reader.take().context("the recording has been stopped already")?;
        let reader = reader.join().map_err(|_| anyhow::anyhow!("the reader has failed"))??;
        // All hops are known now: this waits until their names have been reported.
        self.privileged.take();
        reader.finish(&self.traffic, misses, |name| self.nics.since_start(&drivers, name))
    }
}

impl Session {
    /// Ends the recording, and removes its file.
    pub fn discard(mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(Ok(Ok(reader))) = self.reader.take().map(JoinHandle::join) {
            reader.discard();
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.late_probes.close();
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Where packets are written to.
enum Output {
    File(ReservedOutput),
    Ring(RingFolder),
}

impl Output {
    fn reserve(options: &SessionOptions) -> Result<Output> {
        Ok(match &options.ring {
            Some((folder, keep)) => Output::Ring(RingFolder::take(folder, *keep)?),
            None => Output::File(reserve_output(&options.output, options.force)?),
        })
    }

    fn create(self, path: &Path, header: &Header) -> Result<Writer> {
        match self {
            Output::File(reserved) => Writer::create_reserved(reserved, path, header),
            Output::Ring(folder) => Writer::create_ring(folder, header),
        }
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
    tc: Option<Part>,
    kernel_log: Option<Worker>,
    cost: ProbeCost,
    /// Since before the first hop was described.
    netns_names: NetnsNames,
}

impl Attaching {
    fn attach(options: &SessionOptions) -> Result<Attaching, StartError> {
        if !cfg!(target_arch = "x86_64") {
            return Err(StartError::Architecture);
        }
        tc::clean_after_kill(Path::new(tc::FOLDER));
        let modules = Modules::now();
        let kernel = Kernel::read(&wanted_functions())?;
        let rates = SampleRates {
            one_in: options.sampling.map_or(0, |sampling| sampling.one_in),
            sample: options.sample.map_or(0, |sample| sample.0),
        };
        let mut loader = Loader::sampling(&kernel, &options.filter, options.sizes, rates)?;
        let kernel_log = options.kernel_log.then(|| kernel_log::start(&mut loader)).transpose()?;
        let choice = ProbeChoice::new(&kernel, &mut loader, options.set, options.kprobes_only)?;
        let mut plan = Plan::new(&kernel, choice.set, options.kprobes_only);
        limits::allow_probes(plan.points.len())?;
        limits::allow_priority();
        let is_tc = choice.set == ProbeSet::Tc;
        let cost = match is_tc {
            true => tc::measure(&kernel, &mut loader),
            false => calibrate::measure(&kernel, &loader, choice.entry, &plan),
        };
        if let Some(baseline) = options.baseline {
            loader.replace_programs(baseline);
        }
        let netns_names = NetnsNames::now();
        let attached = loader.attach_plan(&kernel, &mut plan, &options.progress);
        let attach_hooks =
            || Part::attach(&mut loader, &options.filter, options.clsact_only, options.sizes.states);
        let tc = is_tc.then(attach_hooks).transpose()?;
        trigger_device_event();
        if tc.is_none() && !attached.iter().any(|one| one.attachment.starts_paths()) {
            return Err(StartError::NothingAttached { set: choice.set });
        }
        let cost = synthetic_skb_cost::measure(&kernel, &mut loader, choice.entry, cost);
        Ok(Attaching { kernel, loader, modules, choice, plan, attached, tc, kernel_log, cost, netns_names })
    }

    /// Creates the file, starts to track packets, and starts the threads.
    fn record(self, options: &SessionOptions, output: Output) -> Result<Session> {
        let Attaching {
            kernel,
            mut loader,
            modules,
            choice,
            plan,
            attached,
            tc,
            kernel_log,
            cost,
            netns_names,
        } = self;
        let counters_before = counters(&loader)?;
        let mut tracking = Tracking::new(&mut loader)?;
        let networks = detection::look_within_limit(&options.filter.netns);
        let filter_watch = FilterWatch::new(&options.filter);
        let parts = HeaderParts {
            cost,
            filter: options.filter.to_string(),
            sampling: options.sampling.map(Into::into),
            sample: options.sample.map(|sample| sample.0),
            networks: networks.clone(),
            command: command_line(std::env::args_os(), options.keep_command_line),
            hooks: tc.as_ref().map(|tc| HookCoverage { unseen: tc.unseen().to_vec() }),
        };
        let header = header(&kernel, &plan, &attached, parts);
        ensure!(options.gate.pass(), "the start of the recording was called off");
        let mut writer = output.create(&options.output, &header)?;
        let reasons = Names { drop_reasons: drop_reasons(&kernel), ..Names::default() };
        writer.names(&reasons)?;
        let threshold = options
            .sampling
            .map(|sampling| LatencyThreshold::new(&mut loader, sampling.threshold))
            .transpose()?;
        let mut nics = NicCounts::new(&mut loader)?;
        let kernel_counters = CountersSince::start();
        tracking.start()?;
        nics.start()?;
        let hooks = tc.as_ref().map_or(0, Part::count);
        let unseen_hooks = tc.as_ref().map_or(0, |tc| tc.unseen().len());
        let probes = Probes::new(attached);
        let ((requests, received_requests), (send_message, messages)) = (channel(), channel());
        let hop_names = HopNames::new(&mut loader, netns_names, filter_watch, kernel_counters)?;
        let progress: Arc<Mutex<Summary>> = Arc::default();
        let parts = ReaderParts {
            writer,
            counters_before,
            probes: probes.clone(),
            workers: WorkerChannels { requests: requests.clone(), messages },
            drops: Drops::new(reasons),
            threshold,
            sched_policy: SchedPolicy::new(options.sizes.ring_bytes),
            progress: Arc::clone(&progress),
        };
        let reader = Reader::new(&mut loader, parts)?;
        let tunnels = TunnelWatcher::new(&mut loader, Arc::clone(&progress))?;
        let (set, kprobes_only) = (choice.set, options.kprobes_only);
        let late_probes =
            LateProbes::new(ProbeParts { kernel, loader, set, kprobes_only, probes: probes.clone() });
        let tc = tc.map(|tc| tc.start(late_probes.clone())).transpose()?;
        let privileged = privileged::start(PrivilegedParts {
            hop_names,
            tunnels,
            modules,
            late_probes: late_probes.clone(),
            requests: received_requests,
            messages: send_message,
        })?;
        let stop = Arc::new(AtomicBool::new(false));
        let flag = stop.clone();
        let reader = thread::Builder::new().name("reader".into()).spawn(move || {
            drop_in_thread("reader", to_leave_idle());
            reader.run(&flag)
        })?;
        Ok(Session {
            set: choice.set,
            set_reason: choice.reason,
            unseen: plan.unseen.len() + unseen_hooks,
            networks,
            probes,
            tracking,
            progress,
            stop,
            reader: Some(reader),
            late_probes,
            privileged: Some(privileged),
            requests,
            nics,
            tc,
            hooks,
            _kernel_log: kernel_log,
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
