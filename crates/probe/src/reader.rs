//! What moves records from the ring buffer to the file, and the rest of what a recording says.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, Sender},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use aya::maps::{MapData, PerCpuArray, RingBuf};
use overlay_trace_common::record::COUNTERS;

use super::{
    drops::{DropCount, Drops},
    helper::{Misses, Probes},
    load::Loader,
    manners::Manners,
    news::News,
    slow::Watch,
};
use crate::sys::addresses::Addresses;
use overlay_trace_format::{Checkpoint, Counters, Names, Writer};

/// How often the ring buffer is emptied. Records do not wake the reader: a wake-up costs more than the
/// record.
const POLL: Duration = Duration::from_millis(20);
const CHECKPOINT: Duration = Duration::from_secs(1);
/// How often at the end it is tried to have the counts of just the records that were read.
const TRIES: usize = 100;

/// What a recording has seen so far, or in the end.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    pub duration_ns: u64,
    pub counters: Counters,
    /// Devices and namespaces that packets have come by.
    pub hops: u16,
    /// Bytes of the file.
    pub file_bytes: u64,
    /// Which packets were dropped so far, and where.
    pub drops: Vec<DropCount>,
}

/// To and from the threads beside the reader.
pub struct Link {
    /// Asks for the names of addresses in the kernel.
    pub ask: Sender<Vec<u64>>,
    pub news: Receiver<News>,
}

/// Moves records from the ring buffer to the file.
pub struct Reader {
    records: RingBuf<MapData>,
    counts: PerCpuArray<MapData, [u64; COUNTERS]>,
    /// The sum of all CPUs' counts before the recording: calibration has counted hits.
    before: [u64; COUNTERS],
    probes: Probes,
    link: Link,
    begin: Instant,
    hops: u16,
    writer: Writer,
    progress: Arc<Mutex<Summary>>,
    drops: Drops,
    /// What had been counted when the last record was read.
    counted: Option<Counters>,
    /// What says from where on packets are slow, if only those are kept whole.
    slow: Option<Watch>,
    manners: Manners,
}

impl Reader {
    /// What will write the recording; `before` is what was counted before it begins, `slow` says from where on
    /// packets are slow if only those are kept whole.
    ///
    /// # Errors
    ///
    /// If the loader's maps are not there, or the file cannot be written.
    pub fn new(
        loader: &mut Loader,
        writer: Writer,
        before: [u64; COUNTERS],
        (probes, link): (Probes, Link),
        (drops, slow, manners): (Drops, Option<Watch>, Manners),
        progress: Arc<Mutex<Summary>>,
    ) -> Result<Reader> {
        let mut take =
            |name: &str| loader.maps.take_map(name).with_context(|| format!("the map {name} is missing"));
        Ok(Reader {
            records: RingBuf::try_from(take("RECORDS")?)?,
            counts: PerCpuArray::try_from(take("COUNTS")?)?,
            before,
            probes,
            link,
            begin: Instant::now(),
            hops: 0,
            writer,
            progress,
            drops,
            counted: None,
            slow,
            manners,
        })
    }

    /// Reads until it is to stop, and what is left then.
    ///
    /// # Errors
    ///
    /// If the file cannot be written any more.
    pub fn run(mut self, stop: &AtomicBool) -> Result<Reader> {
        let mut checkpoint = Instant::now();
        loop {
            let last = stop.load(Ordering::Relaxed);
            if last {
                self.drain_for_good()?;
                return Ok(self);
            }
            self.drain()?;
            self.take_news()?;
            if let Some(slow) = &mut self.slow {
                slow.follow()?;
            }
            if checkpoint.elapsed() >= CHECKPOINT {
                checkpoint = Instant::now();
                let unasked = self.drops.take_unasked();
                if !unasked.is_empty() {
                    // Who is gone has told why; what has no name yet gets it in the end.
                    let _ = self.link.ask.send(unasked);
                }
                let summary = self.summary(self.probes.misses());
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
        let mut bytes = 0;
        while let Some(record) = self.records.next() {
            bytes += record.len();
            self.manners.found(bytes);
            self.drops.add(&record);
            self.writer.records(&record)?;
        }
        self.manners.caught_up(bytes);
        Ok(())
    }

    /// Reads what is left. The programs are still attached: a packet that ends later is counted no more.
    fn drain_for_good(&mut self) -> Result<()> {
        let mut counted = self.counters();
        for _ in 0..TRIES {
            self.drain()?;
            let now = self.counters();
            if now.finished == counted.finished {
                break;
            }
            counted = now;
        }
        self.counted = Some(counted);
        Ok(())
    }

    /// Writes what has come up beside the packets.
    fn take_news(&mut self) -> Result<()> {
        while let Ok(news) = self.link.news.try_recv() {
            match news {
                News::Stages(stages) => self.writer.later(&stages)?,
                News::Names(names) => self.names(&names)?,
                News::Hops(hops) => {
                    self.hops = hops.iter().map(|(number, _)| *number).fold(self.hops, u16::max);
                    self.writer.hops(&hops)?;
                    self.drops.hops(hops);
                }
            }
        }
        Ok(())
    }

    fn names(&mut self, names: &Names) -> Result<()> {
        self.drops.names(names);
        self.writer.names(names)
    }

    fn summary(&self, misses: Misses) -> Summary {
        let Misses { counted: probe_misses, untold_probes } = misses;
        Summary {
            duration_ns: self.begin.elapsed().as_nanos() as u64,
            counters: Counters {
                probe_misses,
                untold_probes,
                ..self.counted.clone().unwrap_or_else(|| self.counters())
            },
            hops: self.hops,
            file_bytes: self.writer.bytes(),
            drops: self.drops.named(),
        }
    }

    fn counters(&self) -> Counters {
        let mut sums = sum_counts(&self.counts);
        sums.iter_mut().zip(self.before).for_each(|(sum, before)| *sum -= before.min(*sum));
        let slow_from_ns = self.slow.as_ref().map(Watch::slow_from_ns);
        Counters { slow_from_ns, ..Counters::from_kernel(&sums) }
    }

    /// Writes what is to be said at the end, and closes the file.
    ///
    /// # Errors
    ///
    /// If the file cannot be written any more.
    pub fn finish(mut self, traffic: &[serde_json::Value], misses: Misses) -> Result<Summary> {
        let duration_ns = self.begin.elapsed().as_nanos() as u64;
        self.take_news()?;
        let unnamed = self.drops.unnamed();
        if !unnamed.is_empty() {
            let addresses = Addresses::read(|_, _| ()).unwrap_or_default();
            let symbols = addresses.names(&unnamed).into_iter().collect();
            self.names(&Names { symbols, ..Names::default() })?;
        }
        if !traffic.is_empty() {
            self.writer.traffic(traffic)?;
        }
        let summary = Summary { duration_ns, ..self.summary(misses) };
        let last = Checkpoint { duration_ns, counters: summary.counters.clone() };
        self.writer.finish(&last)?;
        Ok(summary)
    }
}

/// The sums of all CPUs' counts.
pub fn sum_counts<T: std::borrow::Borrow<MapData>>(
    counts: &PerCpuArray<T, [u64; COUNTERS]>,
) -> [u64; COUNTERS] {
    let mut sums = [0u64; COUNTERS];
    if let Ok(values) = counts.get(&0, 0) {
        for cpu in values.iter() {
            sums.iter_mut().zip(cpu).for_each(|(sum, value)| *sum += value);
        }
    }
    sums
}
