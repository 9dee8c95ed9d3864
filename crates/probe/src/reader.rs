//! Moves records from the ring buffer to the file, and writes what the workers report.

use std::{
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
use overlay_trace_format::{Checkpoint, Counters, Names, Writer};

use crate::{
    drops::Drops,
    latency_threshold::LatencyThreshold,
    load::Loader,
    probes::{Misses, Probes},
    sched_policy::SchedPolicy,
    summary::Summary,
    sys::kallsyms::Kallsyms,
    worker_message::WorkerMessage,
};

/// How often the ring buffer is polled. Records do not wake the reader: a wake-up costs more than the record.
const POLL_INTERVAL: Duration = Duration::from_millis(20);
const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(1);
/// Attempts, at the end, to read the counters at a moment when no record has been added to those that were read.
const FINAL_ATTEMPTS: usize = 100;

/// Between the reader and the workers.
pub struct WorkerChannels {
    /// Requests for the names of addresses in the kernel.
    pub requests: Sender<Vec<u64>>,
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
    /// The counters when the last record was read.
    final_counters: Option<Counters>,
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
            final_counters: None,
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
            let _ = self.parts.workers.requests.send(locations);
        }
        let summary = self.summary(self.parts.probes.misses());
        let Summary { duration_ns, counters, .. } = summary.clone();
        if let Ok(mut progress) = self.parts.progress.lock() {
            *progress = summary;
        }
        self.parts.writer.checkpoint(&Checkpoint { duration_ns, counters })
    }

    fn drain(&mut self) -> Result<()> {
        let mut bytes = 0;
        while let Some(record) = self.records.next() {
            bytes += record.len();
            self.parts.sched_policy.has_read(bytes);
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
            drops: self.parts.drops.counts(),
        }
    }

    fn counters(&self) -> Counters {
        let mut sums = sum_counters(&self.counters);
        sums.iter_mut().zip(self.parts.counters_before).for_each(|(sum, before)| *sum -= before.min(*sum));
        let slow_from_ns = self.parts.threshold.as_ref().map(LatencyThreshold::ns);
        Counters { slow_from_ns, ..Counters::from_kernel(&sums) }
    }

    /// Writes the names that are still missing, the results of traffic and the last checkpoint, and closes the file.
    ///
    /// # Errors
    ///
    /// The file cannot be written any more.
    pub fn finish(mut self, traffic: &[serde_json::Value], misses: Misses) -> Result<Summary> {
        let duration_ns = self.start.elapsed().as_nanos() as u64;
        self.write_messages()?;
        let unnamed = self.parts.drops.unnamed_locations();
        if !unnamed.is_empty() {
            let kallsyms = Kallsyms::read(|_, _| ()).unwrap_or_default();
            let symbols = kallsyms.names(&unnamed).into_iter().collect();
            self.write_names(&Names { symbols, ..Names::default() })?;
        }
        if !traffic.is_empty() {
            self.parts.writer.traffic(traffic)?;
        }
        let summary = Summary { duration_ns, ..self.summary(misses) };
        let last = Checkpoint { duration_ns, counters: summary.counters.clone() };
        self.parts.writer.finish(&last)?;
        Ok(summary)
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
