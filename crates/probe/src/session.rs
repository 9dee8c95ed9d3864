//! A recording under way: programs attached, a thread that moves records from the ring buffer to the
//! file.

use std::{
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
        mpsc::channel,
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use aya::maps::{Array, MapData, PerCpuArray};
use overlay_trace_common::{
    abi::TrackingPhase,
    stage_map::{STAGES, transmit_stages},
};

use super::{
    calibrate,
    drops::Drops,
    filter::FilterOptions,
    helper::{Helper, Probes, probe_name},
    hops::Hops,
    invented,
    load::{Attached, Loader, Sizes},
    manners::Manners,
    modules::Modules,
    news::Working,
    plan::{Plan, ProbeKind, wanted_functions},
    reader::{Link, Reader, Summary, sum_counts},
    reasons::drop_reasons,
    slow::{Slow, Watch},
    stub::Stub,
    tunnels,
};
use crate::detection;

use crate::sys::{clock::monotonic_ns, kernel::Kernel, privilege};
use overlay_trace_format::{Detection, Header, Names, ProbeSet, UnseenStage, Writer};

/// For how long a packet is ordinarily under way, at the most.
const UNDER_WAY: Duration = Duration::from_millis(200);

/// What to record.
#[derive(Clone, Debug, Default)]
pub struct SessionOptions {
    /// `None`: the richest set that the kernel allows.
    pub set: Option<ProbeSet>,
    /// Probe functions by kprobe also where fentry would do.
    pub kprobes_only: bool,
    /// Attach these instead of the recorder's programs: nothing is recorded.
    pub stub: Option<Stub>,
    pub filter: FilterOptions,
    pub output: PathBuf,
    /// Overwrite the output file.
    pub force: bool,
    pub sizes: Sizes,
    /// Keep only the slow packets whole.
    pub slow: Option<Slow>,
}

/// A recording under way; [`stop`](Session::stop) finishes it. Dropped without that, it leaves a
/// recording that is complete up to the last checkpoint.
pub struct Session {
    set: ProbeSet,
    set_reason: Option<String>,
    unseen: usize,
    networks: Vec<Detection>,
    probes: Probes,
    gate: Gate,
    progress: Arc<Mutex<Summary>>,
    stop: Arc<AtomicBool>,
    reader: Option<JoinHandle<Result<Reader>>>,
    helper: Option<Working>,
    names: Option<Working>,
    traffic: Vec<serde_json::Value>,
}

impl Session {
    /// Attaches the programs and begins to record.
    ///
    /// # Errors
    ///
    /// A missing privilege, a kernel that lacks what is needed, an output file that exists.
    pub fn start(options: SessionOptions) -> Result<Session> {
        overlay_trace_format::check_output(&options.output, options.force)?;
        privilege::check()?;
        let modules = Modules::now();
        let kernel = Kernel::read(&wanted_functions())?;
        let one_in = options.slow.map_or(0, |slow| slow.one_in);
        let mut loader = Loader::sampling(&kernel, &options.filter, options.sizes, one_in)?;
        let (set, set_reason, entry) = choose_set(&kernel, &loader, &options)?;
        let mut plan = Plan::new(&kernel, set, options.kprobes_only);
        let cost = calibrate::measure(&kernel, &loader, entry, &plan);
        if let Some(stub) = options.stub {
            loader.replace_programs(stub);
        }
        let attached = loader.attach_plan(&kernel, &mut plan);
        stir_devices();
        if attached.is_empty() {
            bail!(
                "not one probe of the set {} could be attached: `overlay-trace doctor` says why",
                set.name()
            );
        }
        let cost = invented::measure(&kernel, &mut loader, entry, cost);
        let counts = loader.maps.map("COUNTS").context("the map COUNTS is missing")?;
        let before = sum_counts(&PerCpuArray::<&MapData, _>::try_from(counts)?);
        let mut gate = Gate::new(&mut loader)?;
        let header = Header { probe_cost_ns: cost, ..header(&kernel, &options, &plan, &attached) };
        let networks = header.networks.clone().unwrap_or_default();
        let mut writer = Writer::create(&options.output, options.force, &header)?;
        let reasons = Names { drop_reasons: drop_reasons(&kernel), ..Names::default() };
        writer.names(&reasons)?;
        let slow = options.slow.map(|slow| Watch::new(&mut loader, slow.above)).transpose()?;
        gate.open()?;
        let probes = Probes::new(attached);
        let ((ask, asked), (tell, news)) = (channel(), channel());
        let names = Hops::new(&mut loader)?.start(tell.clone())?;
        let progress: Arc<Mutex<Summary>> = Arc::default();
        let beside = (probes.clone(), Link { ask, news });
        let kept = (Drops::new(reasons), slow, Manners::new(options.sizes.ring_bytes));
        let reader = Reader::new(&mut loader, writer, before, beside, kept, Arc::clone(&progress))?;
        let kprobes_only = options.kprobes_only;
        let tunnels = tunnels::Watch::new(Arc::clone(&progress));
        let helper = Helper { kernel, loader, set, kprobes_only, probes: probes.clone(), modules, tunnels }
            .start(asked, tell)?;
        let stop = Arc::new(AtomicBool::new(false));
        let until = stop.clone();
        let reader = thread::Builder::new().name("reader".into()).spawn(move || reader.run(&until))?;
        Ok(Session {
            set,
            set_reason,
            unseen: plan.unseen.len(),
            networks,
            probes,
            gate,
            progress,
            stop,
            reader: Some(reader),
            helper: Some(helper),
            names: Some(names),
            traffic: Vec::new(),
        })
    }

    /// The set in use, and why it is not a richer one.
    pub fn set(&self) -> (ProbeSet, Option<&str>) {
        (self.set, self.set_reason.as_deref())
    }

    /// How many programs are attached, and how many stages of the set cannot be seen.
    pub fn coverage(&self) -> (usize, usize) {
        (self.probes.all().len(), self.unseen)
    }

    /// What the machine looks like.
    pub fn networks(&self) -> &[Detection] {
        &self.networks
    }

    /// What has been seen so far.
    pub fn progress(&self) -> Summary {
        self.progress.lock().map(|progress| progress.clone()).unwrap_or_default()
    }

    /// Whether the reader has given up, as on a full disk.
    pub fn failed(&self) -> bool {
        self.reader.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Adds results of traffic to the recording.
    pub fn traffic(&mut self, results: impl IntoIterator<Item = serde_json::Value>) {
        self.traffic.extend(results);
    }

    /// Reads what is left, closes the file, and detaches the programs: that comes last, because the kernel takes its
    /// time for it, which is no part of the recording.
    ///
    /// # Errors
    ///
    /// If the file could not be written; what was written before is kept.
    pub fn stop(mut self) -> Result<Summary> {
        // Nothing more is to be attached.
        self.helper.take();
        self.gate.close()?;
        let misses = self.probes.misses();
        self.stop.store(true, Ordering::Relaxed);
        let reader = self.reader.take().context("the recording has ended before")?;
        let reader = reader.join().map_err(|_| anyhow::anyhow!("the reader has failed"))??;
        // All hops have come up; what they are called is told before this returns.
        self.names.take();
        reader.finish(&self.traffic, misses)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// What lets packets' ways begin.
struct Gate {
    armed: Array<MapData, u64>,
}

impl Gate {
    fn new(loader: &mut Loader) -> Result<Gate> {
        let map = loader.maps.take_map("TRACKING_PHASE").context("the map TRACKING_PHASE is missing")?;
        Ok(Gate { armed: Array::try_from(map)? })
    }

    /// Lets ways begin: first those of packets that are born, so that a packet that was under way while
    /// the probes were attached is not taken for one whose beginning is unknown.
    fn open(&mut self) -> Result<()> {
        self.armed.set(0, TrackingPhase::StartsOnly as u64, 0)?;
        thread::sleep(UNDER_WAY);
        Ok(self.armed.set(0, TrackingPhase::All as u64, 0)?)
    }

    /// Lets no more ways begin, and gives those that have begun time to end.
    fn close(&mut self) -> Result<()> {
        self.armed.set(0, 0, 0)?;
        thread::sleep(UNDER_WAY);
        Ok(())
    }
}

/// The set to use, why not a richer one, and by which kind of probe functions are entered.
fn choose_set(
    kernel: &Kernel,
    loader: &Loader,
    options: &SessionOptions,
) -> Result<(ProbeSet, Option<String>, Option<ProbeKind>)> {
    if options.set == Some(ProbeSet::Device) {
        return Ok((ProbeSet::Device, None, None));
    }
    let fentry = match options.kprobes_only {
        true => Err(anyhow::anyhow!("not wanted")),
        false => calibrate::works(kernel, loader, ProbeKind::Fentry),
    };
    let Err(fentry) = fentry else {
        return Ok((options.set.unwrap_or(ProbeSet::Full), None, Some(ProbeKind::Fentry)));
    };
    let Err(kprobe) = calibrate::works(kernel, loader, ProbeKind::Kprobe) else {
        return Ok((options.set.unwrap_or(ProbeSet::Full), None, Some(ProbeKind::Kprobe)));
    };
    let reason = format!("this kernel allows neither fentry ({fentry:#}) nor kprobes ({kprobe:#})");
    match options.set {
        Some(set) => bail!("the probe set {} is not possible: {reason}; use --probes device", set.name()),
        None => {
            let reason = "this kernel allows neither fentry nor kprobes; `overlay-trace doctor` says why";
            Ok((ProbeSet::Device, Some(reason.to_owned()), None))
        }
    }
}

fn header(kernel: &Kernel, options: &SessionOptions, plan: &Plan, attached: &[Attached]) -> Header {
    let mut header = Header::new();
    header.kernel = kernel.release.clone();
    header.node =
        nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    header.cpus = aya::util::online_cpus().ok().map(|cpus| cpus.len() as u32);
    header.probe_set = plan.set.name().to_owned();
    header.start_wall_ns =
        std::time::SystemTime::UNIX_EPOCH.elapsed().map_or(0, |elapsed| elapsed.as_nanos() as u64);
    header.start_monotonic_ns = monotonic_ns();
    header.filter = options.filter.to_string();
    header.sampling = options.slow.map(Slow::sampling);
    header.networks = Some(detection::look(&options.filter.netns));
    header.command = std::env::args().collect::<Vec<_>>().join(" ");
    header.unseen_stages = plan
        .unseen
        .iter()
        .map(|(stage, reason)| UnseenStage {
            stage: STAGES[*stage as usize].name.to_owned(),
            reason: reason.to_string(),
            module: reason.module().map(str::to_owned),
        })
        .collect();
    for row in &mut header.stages {
        row.exit = false;
    }
    // One program serves the stages of all link kinds.
    for (stage, _) in transmit_stages() {
        header.stages[stage as usize].probe = Some(overlay_trace_format::ProbeKind::TpBtf);
    }
    for Attached { attachment, .. } in attached {
        let row = &mut header.stages[attachment.stage as usize];
        let dearest = row.probe == Some(overlay_trace_format::ProbeKind::Kprobe);
        // A stage that is probed by both is told, and its cost reckoned, by the dearer.
        row.probe =
            Some(if dearest { overlay_trace_format::ProbeKind::Kprobe } else { probe_name(attachment.kind) });
        row.exit |= attachment.kind == ProbeKind::Fexit;
    }
    header
}

/// Makes a namespace, and with it a device, for a moment: that tells the kernel side that it is told of
/// changes, so that it need not look at each device each time. If it cannot be made, it does.
fn stir_devices() {
    let _ = thread::spawn(|| nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET)).join();
}
