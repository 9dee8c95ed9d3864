//! A recording under way: programs attached, a thread that moves records from the ring buffer to the
//! file.

use std::{
    collections::{BTreeSet, HashMap},
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use aya::maps::{Array, MapData, PerCpuArray, RingBuf};
use overlay_trace_common::{
    kernel::{ARMED_ALL, ARMED_BIRTHS},
    record::{COUNTERS, Hop},
    stage_map::{STAGES, transmit_stages},
};

use super::{
    calibrate,
    filter::FilterOptions,
    load::{Attached, Loader, Sizes},
    plan::{Plan, ProbeKind, ProbeSet, wanted_functions},
};
use crate::{
    sys::{
        kernel::{self, Kernel, symbol_names},
        netns, privilege,
    },
    trace::{self, Checkpoint, Counters, Header, HopName, Names, UnseenStage, Writer},
};

/// How often the ring buffer is emptied. Records do not wake the reader: a wake-up costs more than the
/// record.
const POLL: Duration = Duration::from_millis(20);
const CHECKPOINT: Duration = Duration::from_secs(1);
/// For how long a packet is ordinarily under way, at the most.
const UNDER_WAY: Duration = Duration::from_millis(200);
/// From this kernel on the skipped kprobe programs are counted.
const KPROBE_MISSES_SINCE: (u32, u32) = (6, 7);
/// Offset of `drop_location` in a record's header.
const DROP_LOCATION: usize = std::mem::offset_of!(overlay_trace_common::record::RecordHeader, drop_location);

/// What to record.
#[derive(Clone, Debug, Default)]
pub struct SessionOptions {
    /// `None`: the richest set that the kernel allows.
    pub set: Option<ProbeSet>,
    /// Probe functions by kprobe also where fentry would do.
    pub kprobes_only: bool,
    pub filter: FilterOptions,
    pub output: PathBuf,
    /// Overwrite the output file.
    pub force: bool,
    pub sizes: Sizes,
}

/// What a recording has seen so far, or in the end.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    pub duration_ns: u64,
    pub counters: Counters,
    /// Bytes of the file.
    pub file_bytes: u64,
}

/// A recording under way; [`stop`](Session::stop) finishes it. Dropped without that, it leaves a
/// recording that is complete up to the last checkpoint.
pub struct Session {
    set: ProbeSet,
    set_reason: Option<String>,
    unseen: usize,
    attached: Vec<Attached>,
    gate: Gate,
    progress: Arc<Mutex<Summary>>,
    stop: Arc<AtomicBool>,
    reader: Option<JoinHandle<Result<Reader>>>,
    traffic: Vec<serde_json::Value>,
}

impl Session {
    /// Attaches the programs and begins to record.
    ///
    /// # Errors
    ///
    /// A missing privilege, a kernel that lacks what is needed, an output file that exists.
    pub fn start(options: SessionOptions) -> Result<Session> {
        trace::check_output(&options.output, options.force)?;
        privilege::check()?;
        let kernel = Kernel::read(&wanted_functions())?;
        let mut loader = Loader::new(&kernel, &options.filter, options.sizes)?;
        let (set, set_reason, entry) = choose_set(&kernel, &loader, &options)?;
        let mut plan = Plan::new(&kernel, set, options.kprobes_only);
        let cost = calibrate::measure(&kernel, &loader, entry, &plan);
        let counts = loader.maps.map("COUNTS").context("the map COUNTS is missing")?;
        let before = sum_counts(&PerCpuArray::<&MapData, _>::try_from(counts)?);
        let attached = loader.attach_plan(&kernel, &mut plan);
        if attached.is_empty() {
            bail!(
                "not one probe of the set {} could be attached: `overlay-trace doctor` says why",
                set.name()
            );
        }
        let mut gate = Gate::new(&mut loader)?;
        let header = Header { probe_cost_ns: cost, ..header(&kernel, &options, &plan, &attached) };
        let mut writer = Writer::create(&options.output, options.force, &header)?;
        let reasons = kernel.enumeration("skb_drop_reason").into_iter().collect();
        writer.names(&Names { drop_reasons: reasons, ..Names::default() })?;
        gate.open()?;
        let mut session = Session {
            set,
            set_reason,
            unseen: plan.unseen.len(),
            attached,
            gate,
            progress: Arc::default(),
            stop: Arc::default(),
            reader: None,
            traffic: Vec::new(),
        };
        let reader = Reader::new(&mut loader, writer, before, session.progress.clone())?;
        let stop = session.stop.clone();
        session.reader = Some(thread::Builder::new().name("reader".into()).spawn(move || reader.run(&stop))?);
        Ok(session)
    }

    /// The set in use, and why it is not a richer one.
    pub fn set(&self) -> (ProbeSet, Option<&str>) {
        (self.set, self.set_reason.as_deref())
    }

    /// How many programs are attached, and how many stages of the set cannot be seen.
    pub fn coverage(&self) -> (usize, usize) {
        (self.attached.len(), self.unseen)
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

    /// How often the kernel skipped a probe; `None` where it does not tell.
    fn misses(&self) -> Option<u64> {
        let told = |attached: &Attached| {
            attached.attachment.kind != ProbeKind::Kprobe || kernel::at_least(KPROBE_MISSES_SINCE)
        };
        self.attached.iter().all(told).then(|| self.attached.iter().map(Attached::misses).sum())
    }

    /// Detaches the programs, reads what is left, and closes the file.
    ///
    /// # Errors
    ///
    /// If the file could not be written; what was written before is kept.
    pub fn stop(mut self) -> Result<Summary> {
        let misses = self.misses();
        self.gate.close()?;
        // The programs are detached while the reader still runs: detaching takes a while.
        self.attached.clear();
        self.stop.store(true, Ordering::Relaxed);
        let reader = self.reader.take().context("the recording has ended before")?;
        let mut reader = reader.join().map_err(|_| anyhow::anyhow!("the reader has failed"))??;
        reader.probe_misses = misses;
        reader.finish(&self.traffic)
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
        let map = loader.maps.take_map("ARMED").context("the map ARMED is missing")?;
        Ok(Gate { armed: Array::try_from(map)? })
    }

    /// Lets ways begin: first those of packets that are born, so that a packet that was under way while
    /// the probes were attached is not taken for one whose beginning is unknown.
    fn open(&mut self) -> Result<()> {
        self.armed.set(0, ARMED_BIRTHS, 0)?;
        thread::sleep(UNDER_WAY);
        Ok(self.armed.set(0, ARMED_ALL, 0)?)
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
    header.probe_set = plan.set.name().to_owned();
    header.start_wall_ns =
        std::time::SystemTime::UNIX_EPOCH.elapsed().map_or(0, |elapsed| elapsed.as_nanos() as u64);
    header.start_monotonic_ns = monotonic_ns();
    header.filter = options.filter.to_string();
    header.command = std::env::args().collect::<Vec<_>>().join(" ");
    header.unseen_stages = plan
        .unseen
        .iter()
        .map(|(stage, reason)| UnseenStage {
            stage: STAGES[*stage as usize].name.to_owned(),
            reason: reason.clone(),
        })
        .collect();
    for row in &mut header.stages {
        row.exit = false;
    }
    // One program serves the stages of all link kinds.
    for (stage, _) in transmit_stages() {
        header.stages[stage as usize].probe = Some(trace::ProbeKind::TpBtf);
    }
    for Attached { attachment, .. } in attached {
        let row = &mut header.stages[attachment.stage as usize];
        row.probe = Some(match attachment.kind {
            // A stage that is probed by both is told, and its cost reckoned, by the dearer.
            ProbeKind::Fentry if row.probe == Some(trace::ProbeKind::Kprobe) => trace::ProbeKind::Kprobe,
            ProbeKind::Fentry => trace::ProbeKind::Fentry,
            ProbeKind::Kprobe => trace::ProbeKind::Kprobe,
            ProbeKind::TpBtf => trace::ProbeKind::TpBtf,
            ProbeKind::Fexit => {
                row.exit = true;
                trace::ProbeKind::Fentry
            }
        });
    }
    header
}

/// The clock of the records.
pub fn monotonic_ns() -> u64 {
    let clock = nix::time::ClockId::CLOCK_MONOTONIC;
    nix::time::clock_gettime(clock)
        .map_or(0, |time| time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64)
}

/// A hop as the kernel side describes it.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct RawHop(Hop);
// SAFETY: a repr(C) struct of plain integers and bytes.
unsafe impl aya::Pod for RawHop {}

/// Moves records from the ring buffer to the file.
struct Reader {
    records: RingBuf<MapData>,
    counts: PerCpuArray<MapData, [u64; COUNTERS]>,
    hop_count: Array<MapData, u64>,
    hops: Array<MapData, RawHop>,
    hops_known: u32,
    /// The sum of all CPUs' counts before the recording: calibration has counted hits.
    before: [u64; COUNTERS],
    drop_locations: BTreeSet<u64>,
    probe_misses: Option<u64>,
    begin: Instant,
    writer: Writer,
    progress: Arc<Mutex<Summary>>,
}

impl Reader {
    fn new(
        loader: &mut Loader,
        writer: Writer,
        before: [u64; COUNTERS],
        progress: Arc<Mutex<Summary>>,
    ) -> Result<Reader> {
        let mut take =
            |name: &str| loader.maps.take_map(name).with_context(|| format!("the map {name} is missing"));
        let mut reader = Reader {
            records: RingBuf::try_from(take("RECORDS")?)?,
            counts: PerCpuArray::try_from(take("COUNTS")?)?,
            hop_count: Array::try_from(take("HOP_COUNT")?)?,
            hops: Array::try_from(take("HOPS")?)?,
            hops_known: 0,
            before,
            drop_locations: BTreeSet::new(),
            probe_misses: None,
            begin: Instant::now(),
            writer,
            progress,
        };
        // Hops were given out from the first attached probe on.
        reader.name_hops()?;
        Ok(reader)
    }

    fn run(mut self, stop: &AtomicBool) -> Result<Reader> {
        let mut checkpoint = Instant::now();
        loop {
            let last = stop.load(Ordering::Relaxed);
            self.drain()?;
            if last {
                return Ok(self);
            }
            if checkpoint.elapsed() >= CHECKPOINT {
                checkpoint = Instant::now();
                self.name_hops()?;
                let summary = self.summary();
                let Summary { duration_ns, counters, .. } = summary.clone();
                if let Ok(mut progress) = self.progress.lock() {
                    *progress = summary;
                }
                self.writer.checkpoint(&Checkpoint { duration_ns, counters })?;
            }
            thread::sleep(POLL);
        }
    }

    fn drain(&mut self) -> Result<()> {
        while let Some(record) = self.records.next() {
            if let Some(location) = record.get(DROP_LOCATION..DROP_LOCATION + 8) {
                let location = u64::from_ne_bytes(location.try_into()?);
                if location != 0 {
                    self.drop_locations.insert(location);
                }
            }
            self.writer.records(&record)?;
        }
        Ok(())
    }

    fn name_hops(&mut self) -> Result<()> {
        let count = self.hop_count.get(&0, 0)? as u32;
        let last = count.min(self.hops.len().saturating_sub(1));
        if last <= self.hops_known {
            return Ok(());
        }
        let namespaces = netns::names();
        let mut names = Vec::new();
        for number in self.hops_known + 1..=last {
            let RawHop(hop) = self.hops.get(&number, 0)?;
            names.push((number as u16, name_of(&hop, &namespaces)));
        }
        self.hops_known = last;
        self.writer.hops(&names)
    }

    fn summary(&self) -> Summary {
        Summary {
            duration_ns: self.begin.elapsed().as_nanos() as u64,
            counters: self.counters(),
            file_bytes: self.writer.bytes(),
        }
    }

    fn counters(&self) -> Counters {
        let mut sums = sum_counts(&self.counts);
        sums.iter_mut().zip(self.before).for_each(|(sum, before)| *sum -= before.min(*sum));
        Counters { probe_misses: self.probe_misses, ..Counters::from_kernel(&sums) }
    }

    fn finish(mut self, traffic: &[serde_json::Value]) -> Result<Summary> {
        self.name_hops()?;
        let locations: Vec<u64> = self.drop_locations.iter().copied().collect();
        if !locations.is_empty() {
            let symbols = symbol_names(&locations).into_iter().collect();
            self.writer.names(&Names { symbols, ..Names::default() })?;
        }
        if !traffic.is_empty() {
            self.writer.traffic(traffic)?;
        }
        let mut summary = self.summary();
        summary.file_bytes = self.writer.bytes();
        let last = Checkpoint { duration_ns: summary.duration_ns, counters: summary.counters.clone() };
        self.writer.finish(&last)?;
        Ok(summary)
    }
}

/// The sums of all CPUs' counts.
fn sum_counts<T: std::borrow::Borrow<MapData>>(counts: &PerCpuArray<T, [u64; COUNTERS]>) -> [u64; COUNTERS] {
    let mut sums = [0u64; COUNTERS];
    if let Ok(values) = counts.get(&0, 0) {
        for cpu in values.iter() {
            sums.iter_mut().zip(cpu).for_each(|(sum, value)| *sum += value);
        }
    }
    sums
}

fn name_of(hop: &Hop, namespaces: &HashMap<u32, String>) -> HopName {
    HopName {
        netns_inode: hop.netns,
        netns: namespaces.get(&hop.netns).cloned().unwrap_or_else(|| format!("netns:{}", hop.netns)),
        ifindex: hop.ifindex,
        device: text(&hop.device),
        kind: text(&hop.kind),
    }
}

fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}
