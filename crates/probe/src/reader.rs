//! Moves records from the ring buffer to the file, and writes what the workers report.

use std::{
    fs::File,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, Sender},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::Result;
use aya::maps::{MapData, PerCpuArray, RingBuf};
use overlay_trace_common::record::COUNTERS;
use overlay_trace_format::{Checkpoint, Counters, HopName, Names, NicCount, Writer, is_whole_record};

use crate::{
    drops::Drops,
    latency_threshold::LatencyThreshold,
    load::Loader,
    probes::{Misses, Probes},
    sched_policy::SchedPolicy,
    summary::Summary,
    sys::{clock::read_clocks, kallsyms::Kallsyms},
    worker_message::{Request, WorkerMessage},
};

/// How often the ring buffer is polled. Records do not wake the reader: a wake-up costs more than the record.
const POLL_INTERVAL: Duration = Duration::from_millis(20);
const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(1);
const KALLSYMS: &str = "/proc/kallsyms";
/// Attempts, at the end, to read the counters at a moment when no record has been added to those that were read.
const FINAL_ATTEMPTS: usize = 100;

/// Between the reader and the workers.
pub struct WorkerChannels {
    pub requests: Sender<Request>,
    pub messages: Receiver<WorkerMessage>,
}

/// What a [`Reader`] works with.
pub struct ReaderParts {
    /// The recording, with its header written.
    pub writer: Writer,
    /// The kernel side's counters before the recording: calibration has counted hits.
    pub counters_before: [u64; COUNTERS],
    pub probes: Probes,
    pub workers: WorkerChannels,
    pub drops: Drops,
    /// With tail sampling only.
    pub threshold: Option<LatencyThreshold>,
    pub sched_policy: SchedPolicy,
    /// Where others see the progress.
    pub progress: Arc<Mutex<Summary>>,
}

/// Moves records from the ring buffer to the file.
pub struct Reader {
    records: RingBuf<MapData>,
    counters: PerCpuArray<MapData, [u64; COUNTERS]>,
    parts: ReaderParts,
    start: Instant,
    hops: u16,
    notes: Vec<String>,
    /// Records that another CPU wrote to while they were sent: both saw the packet's end.
    torn_records: u64,
    /// The counters when the last record was read.
    final_counters: Option<Counters>,
    /// The kernel's list of its addresses, opened while this program may see them.
    kallsyms: Option<File>,
}

impl Reader {
    /// Takes the ring buffer and the counters over from the loader. The recording starts now.
    ///
    /// # Errors
    ///
    /// The kernel object has no such maps.
    pub fn new(loader: &mut Loader, parts: ReaderParts) -> Result<Reader> {
        Ok(Reader {
            records: loader.take_map("RECORDS")?,
            counters: loader.take_map("COUNTS")?,
            parts,
            start: Instant::now(),
            hops: 0,
            notes: Vec::new(),
            torn_records: 0,
            final_counters: None,
            kallsyms: File::open(KALLSYMS).ok(),
        })
    }

    /// Polls the ring buffer until `stop` is set, and reads what is left then.
    ///
    /// # Errors
    ///
    /// The file cannot be written any more.
    pub fn run(mut self, stop: &AtomicBool) -> Result<Reader> {
        let mut checkpoint = Instant::now();
        loop {
            if stop.load(Ordering::Relaxed) {
                self.drain_finally()?;
                return Ok(self);
            }
            self.drain()?;
            self.write_messages()?;
            if let Some(threshold) = &mut self.parts.threshold {
                threshold.update()?;
            }
            if checkpoint.elapsed() >= CHECKPOINT_INTERVAL {
                checkpoint = Instant::now();
                self.checkpoint()?;
            }
            thread::sleep(POLL_INTERVAL);
        }
    }

    /// Writes how far the recording has come, and lets others see it.
    fn checkpoint(&mut self) -> Result<()> {
        let locations = self.parts.drops.take_new_locations();
        if !locations.is_empty() {
            // A worker that has ended has reported why; names that are missing are looked up at the end.
            let _ = self.parts.workers.requests.send(Request::AddressNames(locations));
        }
        let summary = self.summary(self.parts.probes.misses());
        let Summary { duration_ns, counters, .. } = summary.clone();
        if let Ok(mut progress) = self.parts.progress.lock() {
            *progress = summary;
        }
        self.parts.writer.checkpoint(&Checkpoint { duration_ns, counters, clocks: Some(read_clocks()) })
    }

    fn drain(&mut self) -> Result<()> {
        let mut bytes = 0;
        while let Some(record) = self.records.next() {
            bytes += record.len();
            self.parts.sched_policy.has_read(bytes);
            if !is_whole_record(&record) {
                self.torn_records += 1;
                continue;
            }
            self.parts.drops.add(&record);
            self.parts.writer.records(&record)?;
        }
        self.parts.sched_policy.caught_up(bytes);
        Ok(())
    }

    /// Reads what is left. The programs are still attached: a packet that ends later is not counted any more.
    fn drain_finally(&mut self) -> Result<()> {
        let mut counted = self.counters();
        for _ in 0..FINAL_ATTEMPTS {
            self.drain()?;
            let now = self.counters();
            if now.finished == counted.finished {
                break;
            }
            counted = now;
        }
        self.final_counters = Some(counted);
        Ok(())
    }

    /// Writes what the workers have reported.
    fn write_messages(&mut self) -> Result<()> {
        while let Ok(message) = self.parts.workers.messages.try_recv() {
            match message {
                WorkerMessage::Stages(stages) => self.parts.writer.later(&stages)?,
                WorkerMessage::Names(names) => self.write_names(&names)?,
                WorkerMessage::Notes(notes) => self.notes.extend(notes),
                WorkerMessage::KernelCounters(counters) => self.parts.writer.kernel_counters(&counters)?,
                WorkerMessage::Translations(new) => self.parts.writer.translations(&new)?,
                WorkerMessage::Hops(hops) => {
                    self.hops = hops.iter().map(|(number, _)| *number).fold(self.hops, u16::max);
                    self.parts.writer.hops(&hops)?;
                    self.parts.drops.hops(hops);
                }
            }
        }
        Ok(())
    }

    fn write_names(&mut self, names: &Names) -> Result<()> {
        self.parts.drops.names(names);
        self.parts.writer.names(names)
    }

    fn summary(&self, misses: Misses) -> Summary {
        Summary {
            duration_ns: self.start.elapsed().as_nanos() as u64,
            counters: Counters {
                probe_misses: misses.counted,
                untold_probes: misses.uncounted_probes,
                ..self.final_counters.clone().unwrap_or_else(|| self.counters())
            },
            hops: self.hops,
            file_bytes: self.parts.writer.bytes(),
            notes: self.notes.clone(),
            drops: self.parts.drops.counts(),
            nics: Vec::new(),
        }
    }

    fn counters(&self) -> Counters {
        let mut sums = sum_counters(&self.counters);
        sums.iter_mut().zip(self.parts.counters_before).for_each(|(sum, before)| *sum -= before.min(*sum));
        let slow_from_ns = self.parts.threshold.as_ref().map(LatencyThreshold::ns);
        let counters = Counters::from_kernel(&sums);
        let lost_records = counters.lost_records + self.torn_records;
        Counters { slow_from_ns, lost_records, ..counters }
    }

    /// Removes the recording.
    pub fn discard(&self) {
        self.parts.writer.discard();
    }

    /// Writes the names that are still missing, what passed the NICs (which `nics` gives, who gets the names of hops), the
    /// results of traffic and the last checkpoint, and closes the file.
    ///
    /// # Errors
    ///
    /// The file cannot be written any more.
    pub fn finish(
        mut self,
        traffic: &[serde_json::Value],
        misses: Misses,
        nics: impl FnOnce(&dyn Fn(u16) -> Option<HopName>) -> Result<Vec<NicCount>>,
    ) -> Result<Summary> {
        let duration_ns = self.start.elapsed().as_nanos() as u64;
        self.write_messages()?;
        let nics = nics(&|hop| self.parts.drops.hop(hop).cloned())?;
        self.parts.writer.nics(&nics)?;
        let unnamed = self.parts.drops.unnamed_locations();
        if !unnamed.is_empty() {
            let list = self.kallsyms.take();
            let kallsyms =
                list.and_then(|list| Kallsyms::read_open(list, |_, _| ()).ok()).unwrap_or_default();
            let symbols = kallsyms.names(&unnamed).into_iter().collect();
            self.write_names(&Names { symbols, ..Names::default() })?;
        }
        if !traffic.is_empty() {
            self.parts.writer.traffic(traffic)?;
        }
        let name = |count: &NicCount| self.parts.drops.hop(count.hop).cloned().unwrap_or_default();
        let nics = nics.into_iter().map(|count| (name(&count), count)).collect();
        let summary = Summary { duration_ns, nics, ..self.summary(misses) };
        let counters = summary.counters.clone();
        let last = Checkpoint { duration_ns, counters, clocks: Some(read_clocks()) };
        let file_bytes = self.parts.writer.finish(&last)?;
        Ok(Summary { file_bytes, ..summary })
    }
}

/// The kernel side's counters, summed over the CPUs.
pub fn sum_counters<T: std::borrow::Borrow<MapData>>(
    counters: &PerCpuArray<T, [u64; COUNTERS]>,
) -> [u64; COUNTERS] {
    let mut sums = [0u64; COUNTERS];
    if let Ok(values) = counters.get(&0, 0) {
        for cpu in values.iter() {
            sums.iter_mut().zip(cpu).for_each(|(sum, value)| *sum += value);
        }
    }
    sums
}
