//! Reads a recording twice and builds the comparison of its slow and ordinary samples.

use anyhow::{Result, ensure};
use overlay_trace_common::record::Outcome;

use super::{
    comparison::{SampleSet, Tail, TailRow},
    cpus::CpusByRow,
    drop_evidence::DropCollector,
    findings::findings,
    sample::{Of, RowSpan, Sample},
    samples::Samples,
    set_sums::SetSums,
    slowest::Slowest,
    tcp::{RTO_MIN_NS, TcpCollector},
    threshold::longest_ordinary,
};
use crate::breakdown::{Analysis, By, Rows};
use overlay_trace_format::{Recording, Threshold};

impl Tail {
    /// Reads a recording twice. The `slowest` slowest samples are kept with their whole path.
    ///
    /// # Errors
    ///
    /// One sentence: the recording cannot be read, is damaged, or was sampled where requests are to be paired.
    pub fn of(recording: &Recording, of: Of, threshold: Threshold, slowest: usize) -> Result<Tail> {
        let header = &recording.header;
        ensure!(
            of != Of::Requests || header.sampling.is_none() && header.sample.is_none(),
            "requests cannot be paired with their answers: this recording was sampled, so an answer may have no record; \
             record without --tail-above and --sample"
        );
        let analysis = Analysis::of(recording, By::Stage)?;
        let mut samples = Samples::new(recording, of);
        let threshold_ns = match of {
            Of::Packets => longest_ordinary(threshold, &analysis.latency),
            Of::Requests | Of::Flows => longest_ordinary(threshold, &samples.times()?),
        };
        let mut pass = Pass::new(threshold_ns, slowest);
        samples.tcp = Some(TcpCollector::new(&recording.header, &recording.names));
        samples.drops = Some(DropCollector::new(&recording.header));
        samples.read(|sample| pass.add(sample))?;
        let tcp =
            samples.tcp.take().map(|tcp| tcp.finish(&samples.rows, &recording.names)).unwrap_or_default();
        let drops = samples
            .drops
            .take()
            .map(|drops| drops.finish(&samples.rows, &recording.names))
            .unwrap_or_default();
        let units = match of {
            Of::Packets | Of::Requests => (pass.slow.count, pass.ordinary.count),
            Of::Flows => samples.flows(threshold_ns),
        };
        let set = |sums: &SetSums, units| {
            let (packets, sum_ns, mean_ns) = (sums.count, sums.ns, sums.mean());
            SampleSet { packets, units, sum_ns, mean_ns }
        };
        let mut tail = Tail {
            analysis,
            of,
            threshold,
            threshold_ns,
            slow: set(&pass.slow, units.0),
            ordinary: set(&pass.ordinary, units.1),
            slow_dropped: pass.slow_dropped,
            slow_waited: pass.slow_waited,
            tcp,
            unpaired: samples.unpaired,
            unanswered: samples.unanswered,
            rows: pass.table(&samples.rows),
            slowest: pass.slowest.finish(&samples.rows),
            findings: Vec::new(),
        };
        tail.findings = findings(&tail, &drops);
        Ok(tail)
    }
}

/// Slow samples whose largest excess is in one row.
#[derive(Clone, Debug, Default)]
struct Dominance {
    packets: u64,
    excess_ns: u128,
    occasions: u64,
    /// End of the latest occasion, in ns.
    until_ns: u64,
}

impl Dominance {
    fn add(&mut self, sample: &Sample<'_>, excess_ns: u128) {
        let times = sample.header.times();
        self.packets += times;
        self.excess_ns += excess_ns * u128::from(times);
        self.occasions += u64::from(sample.start_ns >= self.until_ns);
        self.until_ns = self.until_ns.max(sample.start_ns.saturating_add(sample.ns));
    }
}

/// First arrivals of slow samples in one row.
#[derive(Clone, Copy, Debug, Default)]
struct Arrivals {
    /// Sum of the times since their starts, in ns.
    ns: u128,
    count: u64,
}

impl Arrivals {
    fn mean_ns(self) -> u64 {
        u64::try_from(self.ns / u128::from(self.count.max(1))).unwrap_or(u64::MAX)
    }
}

/// The second reading.
struct Pass {
    threshold_ns: u64,
    slow: SetSums,
    ordinary: SetSums,
    slow_dropped: u64,
    slow_waited: u64,
    /// By row.
    dominance: Vec<Dominance>,
    /// By row.
    arrivals: Vec<Arrivals>,
    cpus: CpusByRow,
    slowest: Slowest,
    /// The current sample's time by row.
    time: Vec<(u32, u64)>,
}

impl Pass {
    fn new(threshold_ns: u64, slowest: usize) -> Pass {
        Pass {
            threshold_ns,
            slow: SetSums::default(),
            ordinary: SetSums::default(),
            slow_dropped: 0,
            slow_waited: 0,
            dominance: Vec::new(),
            arrivals: Vec::new(),
            cpus: CpusByRow::default(),
            slowest: Slowest::new(slowest),
            time: Vec::new(),
        }
    }

    fn add(&mut self, sample: &Sample<'_>) {
        self.time.clear();
        let (is_slow, mut at_ns) = (sample.deciding_ns > self.threshold_ns, 0u128);
        for &RowSpan { row, ns, .. } in sample.path {
            match self.time.iter_mut().find(|(known, _)| *known == row) {
                Some((_, sum)) => *sum = sum.saturating_add(ns),
                None => {
                    self.time.push((row, ns));
                    if is_slow {
                        self.arrives(row, at_ns);
                    }
                }
            }
            at_ns += u128::from(ns);
        }
        let times = sample.header.times();
        self.cpus.add(sample.path, times);
        if !is_slow {
            return self.ordinary.add(&self.time, times);
        }
        self.slow.add(&self.time, times);
        self.slow_dropped += times * u64::from(sample.header.outcome == Outcome::Dropped as u8);
        self.slow_waited += times * u64::from(sample.retransmission_ns >= RTO_MIN_NS);
        self.cpus.add_slow(sample.header, sample.path);
        self.slowest.add(sample);
        if let Some((row, excess_ns)) = self.largest_excess() {
            self.dominance.resize(self.dominance.len().max(row + 1), Dominance::default());
            self.dominance[row].add(sample, excess_ns);
        }
    }

    fn arrives(&mut self, row: u32, at_ns: u128) {
        let row = row as usize;
        self.arrivals.resize(self.arrivals.len().max(row + 1), Arrivals::default());
        let arrivals = &mut self.arrivals[row];
        arrivals.ns += at_ns;
        arrivals.count += 1;
    }

    /// The row where the current sample exceeds the ordinary mean so far by most, and by how much, in ns.
    fn largest_excess(&self) -> Option<(usize, u128)> {
        let ordinary = |row: u32| {
            let ns = self.ordinary.rows.get(row as usize).map_or(0, |sum| sum.ns);
            (ns / u128::from(self.ordinary.count.max(1))) as i128
        };
        let excess = |&(row, ns): &(u32, u64)| (i128::from(ns) - ordinary(row), row);
        let (excess_ns, row) = self.time.iter().map(excess).max_by_key(|&(excess_ns, _)| excess_ns)?;
        Some((row as usize, u128::try_from(excess_ns).unwrap_or(0)))
    }

    fn table(&self, names: &Rows) -> Vec<TailRow> {
        let count = names.len();
        let means = self.slow.means(count).into_iter().zip(self.ordinary.means(count));
        let row = |(row, (slow_ns, ordinary_ns)): (usize, _)| {
            let of = |sums: &SetSums| sums.rows.get(row).copied().unwrap_or_default();
            let (slow, ordinary) = (of(&self.slow), of(&self.ordinary));
            let dominance = self.dominance.get(row).cloned().unwrap_or_default();
            TailRow {
                key: names.key(row as u32),
                slow_ns,
                ordinary_ns,
                slow_sum_ns: slow.ns,
                ordinary_sum_ns: ordinary.ns,
                slow_packets: slow.packets,
                ordinary_packets: ordinary.packets,
                dominant: dominance.packets,
                dominant_ns: dominance.excess_ns,
                occasions: dominance.occasions,
                position: row,
                at_ns: self.arrivals.get(row).copied().unwrap_or_default().mean_ns(),
                cpus: self.cpus.of(row),
            }
        };
        let mut rows: Vec<TailRow> = means.enumerate().map(row).collect();
        rows.sort_by_key(|row| std::cmp::Reverse(row.excess_ns()));
        rows
    }
}
