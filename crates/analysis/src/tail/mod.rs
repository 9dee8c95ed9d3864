//! Why the slow packets are slow: the slow ones against the ordinary ones, from a recording alone.
//!
//! The recording is read twice: for the distribution, and then, with a threshold, for what each side spent
//! where. A packet's time is from the beginning of its way to its end, with the way of the packet that it
//! was made of. Memory does not grow with the recording.

mod cohort;
mod connection;
mod cores;
mod findings;
mod items;
mod live;
mod pairs;
mod rule;
mod rules;
mod slowest;
mod tcp;
mod threshold;

use anyhow::{Result, ensure};
use overlay_trace_common::record::Outcome;

pub use cores::{Core, Cpus};
pub use findings::{Finding, SentAgain, Severity};
pub use items::Of;
pub use live::cause_of;
pub use overlay_trace_format::Threshold;
pub use rule::{Advice, Evidence, Rule};
pub use rules::RULES;
pub use slowest::{SlowPacket, Step};
pub use tcp::{Again, Loss, LostAt, TcpView};
use threshold::longest_ordinary;

use crate::breakdown::{Analysis, By, Key, Rows};

use cohort::Sums;
use connection::TIMEOUT_NS;
use cores::Cores;
use items::{Item, Items, Stretch};
use overlay_trace_format::Recording;
use slowest::Slowest;
use tcp::TcpCollector;

/// The slow packets of a recording against the ordinary ones.
pub struct Tail {
    /// Of all packets, by stage.
    pub analysis: Analysis,
    pub of: Of,
    pub above: Threshold,
    /// The longest time that is not slow, in ns.
    pub threshold_ns: u64,
    pub slow: Side,
    pub ordinary: Side,
    /// The slow packets that were dropped in the end.
    pub slow_dropped: u64,
    /// Slow requests that waited for TCP's retransmission timeout.
    pub slow_waited: u64,
    /// Requests of which no answer was found.
    pub unpaired: u64,
    /// What TCP makes of it.
    pub tcp: TcpView,
    /// The largest excess first. Each column adds up to its side's mean, and the excesses to the
    /// difference of the means, exactly.
    pub rows: Vec<TailRow>,
    /// The slowest first.
    pub slowest: Vec<SlowPacket>,
    /// What is the matter, the gravest first.
    pub findings: Vec<Finding>,
}

/// The slow packets, or the ordinary ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Side {
    /// Packets, or requests with their answers.
    pub packets: u64,
    /// As many, or as many flows as they belong to.
    pub units: u64,
    /// What their times add up to, in ns.
    pub sum_ns: u128,
    /// Per packet, rounded to whole ns.
    pub mean_ns: i128,
}

/// What both sides spent at one place.
#[derive(Clone, Debug, PartialEq)]
pub struct TailRow {
    pub key: Key,
    /// In ns per slow packet.
    pub slow_ns: i128,
    /// In ns per ordinary packet.
    pub ordinary_ns: i128,
    pub slow_sum_ns: u128,
    pub ordinary_sum_ns: u128,
    /// Slow packets that were here, and ordinary ones.
    pub slow_packets: u64,
    pub ordinary_packets: u64,
    /// Slow packets that lost more here than anywhere else.
    pub leads: u64,
    /// What those lost here, together, in ns: what they spent beyond what was usual when they came.
    pub leads_ns: u128,
    /// How often some of those came to be: what is under way at one time is one occasion.
    pub occasions: u64,
    /// Its number along the packets' path.
    pub place: usize,
    /// How long after their beginning slow packets came here first, in ns: the mean.
    pub at_ns: u64,
    /// The CPUs that packets were on here.
    pub cpus: Cpus,
}

impl TailRow {
    /// What a slow packet spends here more than an ordinary one, in ns.
    pub fn excess_ns(&self) -> i128 {
        self.slow_ns - self.ordinary_ns
    }
}

impl Tail {
    /// Reads a recording, twice; keeps the `slowest` slowest packets whole.
    ///
    /// # Errors
    ///
    /// One sentence: the recording cannot be read or is damaged.
    pub fn of(recording: &Recording, of: Of, above: Threshold, slowest: usize) -> Result<Tail> {
        ensure!(
            of != Of::Requests || recording.header.sampling.is_none(),
            "in this recording only the slow packets have records of their own (--tail-above): a request's answer may \
             be missing, so requests cannot be paired; record all packets for that"
        );
        let analysis = Analysis::of(recording, By::Stage)?;
        let mut items = Items::new(recording, of);
        let threshold_ns = match of {
            Of::Packets => longest_ordinary(above, &analysis.latency),
            Of::Requests | Of::Flows => longest_ordinary(above, &items.times()?),
        };
        let mut pass = Pass::new(threshold_ns, slowest);
        items.tcp = Some(TcpCollector::new(&recording.header, &recording.names));
        items.read(|item| pass.add(item))?;
        let tcp = items.tcp.take().map(|tcp| tcp.finish(&items.rows, &recording.names)).unwrap_or_default();
        let units = match of {
            Of::Packets | Of::Requests => (pass.slow.count, pass.ordinary.count),
            Of::Flows => items.flows(threshold_ns),
        };
        let side = |sums: &Sums, units| {
            let (packets, sum_ns, mean_ns) = (sums.count, sums.ns, sums.mean());
            Side { packets, units, sum_ns, mean_ns }
        };
        let mut tail = Tail {
            analysis,
            of,
            above,
            threshold_ns,
            slow: side(&pass.slow, units.0),
            ordinary: side(&pass.ordinary, units.1),
            slow_dropped: pass.slow_dropped,
            slow_waited: pass.slow_waited,
            tcp,
            unpaired: items.unpaired,
            rows: pass.table(&items.rows),
            slowest: pass.slowest.finish(&items.rows),
            findings: Vec::new(),
        };
        tail.findings = findings::findings(&tail);
        Ok(tail)
    }

    /// What a slow packet takes more than an ordinary one, in ns: what the rows' excesses add up to.
    pub fn excess_ns(&self) -> i128 {
        self.slow.mean_ns - self.ordinary.mean_ns
    }

    /// The part of the difference that is a row's, or several rows'; 0 if there is no difference.
    pub fn share(&self, excess_ns: i128) -> f64 {
        if self.excess_ns() == 0 { 0.0 } else { excess_ns as f64 / self.excess_ns() as f64 }
    }

    /// The rows along the packets' path.
    pub fn by_path(&self) -> Vec<&TailRow> {
        let mut rows: Vec<&TailRow> = self.rows.iter().collect();
        rows.sort_by_key(|row| row.place);
        rows
    }

    /// Whether there are slow packets and ordinary ones to compare them with.
    pub fn is_comparison(&self) -> bool {
        self.slow.packets > 0 && self.ordinary.packets > 0
    }
}

/// Slow packets that lost more in a row than anywhere else.
#[derive(Clone, Debug, Default)]
struct Leads {
    packets: u64,
    lost_ns: u128,
    occasions: u64,
    /// When the last of the latest occasion came to its end.
    until_ns: u64,
}

impl Leads {
    fn add(&mut self, item: &Item<'_>, lost_ns: u128) {
        let times = item.header.times();
        self.packets += times;
        self.lost_ns += lost_ns * u128::from(times);
        self.occasions += u64::from(item.start_ns >= self.until_ns);
        self.until_ns = self.until_ns.max(item.start_ns.saturating_add(item.ns));
    }
}

/// The second reading.
struct Pass {
    threshold_ns: u64,
    slow: Sums,
    ordinary: Sums,
    slow_dropped: u64,
    slow_waited: u64,
    /// By row: slow packets that were here longer than anywhere else, beyond what is usual so far.
    leads: Vec<Leads>,
    /// By row: how long after their beginning slow packets came here first, in ns, together, and how many did.
    begins: Vec<(u128, u64)>,
    cores: Cores,
    slowest: Slowest,
    /// The packet at hand: its time by row.
    time: Vec<(u32, u64)>,
}

impl Pass {
    fn new(threshold_ns: u64, slowest: usize) -> Pass {
        Pass {
            threshold_ns,
            slow: Sums::default(),
            ordinary: Sums::default(),
            slow_dropped: 0,
            slow_waited: 0,
            leads: Vec::new(),
            begins: Vec::new(),
            cores: Cores::default(),
            slowest: Slowest::new(slowest),
            time: Vec::new(),
        }
    }

    fn add(&mut self, item: &Item<'_>) {
        self.time.clear();
        let (is_slow, mut at_ns) = (item.by_ns > self.threshold_ns, 0u128);
        for &Stretch { row, ns, .. } in item.way {
            match self.time.iter_mut().find(|(known, _)| *known == row) {
                Some((_, sum)) => *sum = sum.saturating_add(ns),
                None => {
                    self.time.push((row, ns));
                    if is_slow {
                        self.begins_at(row, at_ns);
                    }
                }
            }
            at_ns += u128::from(ns);
        }
        let times = item.header.times();
        self.cores.add(item.way, times);
        if !is_slow {
            return self.ordinary.add(&self.time, times);
        }
        self.slow.add(&self.time, times);
        self.slow_dropped += times * u64::from(item.header.outcome == Outcome::Dropped as u8);
        self.slow_waited += times * u64::from(item.again_ns >= TIMEOUT_NS);
        self.cores.add_slow(item.header, item.way);
        self.slowest.add(item);
        if let Some((row, lost_ns)) = self.lead() {
            self.leads.resize(self.leads.len().max(row + 1), Leads::default());
            self.leads[row].add(item, lost_ns);
        }
    }

    fn begins_at(&mut self, row: u32, at_ns: u128) {
        let row = row as usize;
        self.begins.resize(self.begins.len().max(row + 1), (0, 0));
        let (sum, packets) = &mut self.begins[row];
        (*sum, *packets) = (*sum + at_ns, *packets + 1);
    }

    /// The row where the packet at hand was longer than usual by most, and by how much, in ns.
    fn lead(&self) -> Option<(usize, u128)> {
        let usual = |row: u32| {
            let (ns, _) = self.ordinary.rows.get(row as usize).copied().unwrap_or_default();
            (ns / u128::from(self.ordinary.count.max(1))) as i128
        };
        let longer = |&(row, ns): &(u32, u64)| (i128::from(ns) - usual(row), row);
        let (lost_ns, row) = self.time.iter().map(longer).max_by_key(|&(lost_ns, _)| lost_ns)?;
        Some((row as usize, u128::try_from(lost_ns).unwrap_or(0)))
    }

    fn table(&self, names: &Rows) -> Vec<TailRow> {
        let count = names.len();
        let means = self.slow.means(count).into_iter().zip(self.ordinary.means(count));
        let row = |(row, (slow_ns, ordinary_ns)): (usize, _)| {
            let of = |sums: &Sums| sums.rows.get(row).copied().unwrap_or_default();
            let leads = self.leads.get(row).cloned().unwrap_or_default();
            let (begins, packets) = self.begins.get(row).copied().unwrap_or_default();
            let ((slow_sum_ns, slow_packets), (ordinary_sum_ns, ordinary_packets)) =
                (of(&self.slow), of(&self.ordinary));
            TailRow {
                key: names.key(row as u32),
                slow_ns,
                ordinary_ns,
                slow_sum_ns,
                ordinary_sum_ns,
                slow_packets,
                ordinary_packets,
                leads: leads.packets,
                leads_ns: leads.lost_ns,
                occasions: leads.occasions,
                place: row,
                at_ns: u64::try_from(begins / u128::from(packets.max(1))).unwrap_or(u64::MAX),
                cpus: self.cores.of(row),
            }
        };
        let mut rows: Vec<TailRow> = means.enumerate().map(row).collect();
        rows.sort_by_key(|row| std::cmp::Reverse(row.excess_ns()));
        rows
    }
}
