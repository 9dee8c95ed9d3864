//! The comparison that all output formats render: one row per lab.

use super::BASELINE;
use super::per_packet::{PerPacket, largest};
use super::plan::Plan;
use super::result::{Conditions, LabResult, Measured, Outcome, Run, TRANSFERS};
use crate::traffic::{Distribution, Kind};

/// The share of CPU time of other programs from which a comparison mentions it.
const NOTABLE_OTHER_CPU: f64 = 0.1;

/// The results of several labs.
#[derive(Debug)]
pub struct Comparison {
    pub plan: &'static Plan,
    pub conditions: Conditions,
    /// The method and its limits, one sentence each.
    pub sentences: Vec<String>,
    /// The labs that were measured.
    pub rows: Vec<Row>,
    /// The labs that were not measured, with the reason.
    pub absent: Vec<Absent>,
    /// The layers, ordered by the largest time in any lab.
    pub layers: Vec<String>,
}

/// A lab that was not measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Absent {
    pub lab: String,
    pub about: String,
    /// The measurement failed; otherwise the machine lacks something.
    pub failed: bool,
    /// The reason, one sentence.
    pub reason: String,
}

/// A lab's numbers.
#[derive(Debug)]
pub struct Row {
    pub lab: String,
    pub about: String,
    pub measured: Measured,
    /// The throughput of the first bulk run, or of the last stream; `None` if the plan has neither.
    pub throughput_bits_per_s: Option<f64>,
    /// The throughput divided by the baseline's.
    pub throughput_share: Option<f64>,
    /// CPU time of this program, kernel threads and interrupts per packet, over all runs that count packets, ns.
    pub cpu_ns_per_packet: Option<f64>,
    pub per_packet: PerPacket,
}

impl Row {
    fn new(lab: String, about: String, measured: Measured) -> Row {
        let counted = || measured.runs.iter().filter(|run| run.packets() > 0);
        let packets: u64 = counted().map(Run::packets).sum();
        let busy_ns: u64 = counted().map(|run| run.cpu.used_ns()).sum();
        Row {
            throughput_bits_per_s: throughput(&measured.runs).map(|run| run.traffic.throughput_bits_per_s),
            throughput_share: None,
            cpu_ns_per_packet: (packets > 0).then(|| busy_ns as f64 / packets as f64),
            per_packet: PerPacket::of(&measured.stages),
            lab,
            about,
            measured,
        }
    }

    /// The request/response runs.
    pub fn latencies(&self) -> impl Iterator<Item = (&Run, &Distribution)> {
        self.measured.runs.iter().filter_map(|run| Some((run, run.traffic.latency.as_ref()?)))
    }

    /// The latency of the plan's first request/response run.
    pub fn latency(&self) -> Option<&Distribution> {
        self.latencies().next().map(|(_, latency)| latency)
    }
}

fn throughput(runs: &[Run]) -> Option<&Run> {
    let bulk = runs.iter().find(|run| run.traffic.kind == Kind::Bulk);
    bulk.or_else(|| runs.iter().rfind(|run| run.traffic.kind == Kind::Stream))
}

/// The percentiles and the maximum. A percentile needs at least one value beyond it: p99.99 needs 10 000 values.
pub fn percentiles(dist: &Distribution) -> [(&'static str, Option<u64>); 7] {
    let with = |values: u64, ns: u64| (dist.count >= values).then_some(ns);
    [
        ("p50", with(2, dist.p50)),
        ("p90", with(10, dist.p90)),
        ("p99", with(100, dist.p99)),
        ("p99.9", with(1_000, dist.p999)),
        ("p99.99", with(10_000, dist.p9999)),
        ("p99.999", with(100_000, dist.p99999)),
        ("max", with(1, dist.max)),
    ]
}

impl Comparison {
    /// Combines results. `factor` is the factor by which the plan's rates were reduced.
    pub fn new(plan: &'static Plan, factor: f64, results: Vec<LabResult>) -> Comparison {
        let (mut rows, mut absent, mut conditions) = (Vec::new(), Vec::new(), Conditions::default());
        for LabResult { lab, about, conditions: own, outcome } in results {
            conditions = own;
            match outcome {
                Outcome::Measured(measured) => rows.push(Row::new(lab, about, *measured)),
                Outcome::Unavailable(reason) => absent.push(Absent { lab, about, failed: false, reason }),
                Outcome::Failed(reason) => absent.push(Absent { lab, about, failed: true, reason }),
            }
        }
        let most = rows.iter().find(|row| row.lab == BASELINE).and_then(|row| row.throughput_bits_per_s);
        for row in &mut rows {
            row.throughput_share =
                most.filter(|most| *most > 0.0).zip(row.throughput_bits_per_s).map(|(most, own)| own / most);
        }
        let layers = largest(rows.iter().map(|row| &row.per_packet));
        let sentences = sentences(plan, factor, &conditions, &rows);
        Comparison { plan, conditions, sentences, rows, absent, layers }
    }

    /// The largest number of levels of any lab: 1 without an overlay.
    pub fn levels(&self) -> usize {
        self.rows.iter().map(|row| row.per_packet.levels_ns.len()).max().unwrap_or(0).max(1)
    }

    /// The name of the run whose latency the table shows.
    pub fn latency_run(&self) -> Option<&str> {
        self.rows.iter().find_map(|row| row.latencies().next()).map(|(run, _)| run.name.as_str())
    }
}

fn sentences(plan: &Plan, factor: f64, conditions: &Conditions, rows: &[Row]) -> Vec<String> {
    let Conditions { kernel, cpus, .. } = conditions;
    let mut sets: Vec<&str> = rows.iter().map(|row| row.measured.stages.probe_set.as_str()).collect();
    sets.dedup();
    let mut sentences = vec![
        format!("Plan {}: {}", plan.name, plan.about),
        format!(
            "Both ends of every lab are on this machine: kernel {kernel}, {cpus} CPUs, probe set {}.",
            sets.join(", ")
        ),
        "Throughput, latency and CPU time (both ends, interrupts and kernel threads) were measured without a recording; \
         times per packet in a second pass, with a recording and without bulk transfers. Latency is measured from the \
         scheduled send time (open loop), which avoids coordinated omission."
            .to_owned(),
        match rows.iter().all(|row| row.measured.stages.is_net) {
            true => "Times per packet are net of the measured probe overhead.",
            false => "The probe overhead is not known for all labs; where it is not, times per packet include it.",
        }
        .to_owned(),
    ];
    if rows.iter().any(|row| row.measured.runs.iter().any(|run| run.traffic.kind == Kind::Bulk)) {
        let spread = rows.iter().map(spread).fold(0.0, f64::max);
        sentences.push(format!(
            "Bulk throughput is the median of {TRANSFERS} transfers; the transfers of one lab differ by up to {:.0} %.",
            spread * 100.0
        ));
    }
    if factor < 1.0 {
        sentences.push(format!(
            "The plan's rates exceed this machine's limits: they are reduced to {:.2} %, but not below 100 per second.",
            factor * 100.0
        ));
    }
    let others = rows.iter().map(other_programs_share).fold(0.0, f64::max);
    if others > NOTABLE_OTHER_CPU {
        sentences.push(format!(
            "The machine was not idle: other programs used up to {:.0} % of its CPU time. CPU time per packet excludes \
             it; latencies and waits include its effect.",
            others * 100.0
        ));
    }
    sentences
}

/// The range of the transfers of one bulk run, as a share of the median.
fn spread(row: &Row) -> f64 {
    let of_run = |run: &Run| match run.throughputs[..] {
        [least, .., most] => (most - least) / run.traffic.throughput_bits_per_s.max(1.0),
        _ => 0.0,
    };
    row.measured.runs.iter().map(of_run).fold(0.0, f64::max)
}

/// The share of the CPU time that other programs used, 0 to 1.
fn other_programs_share(row: &Row) -> f64 {
    let sum = |what: fn(&Run) -> u64| row.measured.runs.iter().map(what).sum::<u64>() as f64;
    let busy = sum(|run| run.cpu.busy_ns);
    let known = sum(|run| run.cpu.own_ns + run.cpu.interrupts_ns + run.cpu.kernel_ns);
    if busy > 0.0 { (1.0 - known / busy).max(0.0) } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_needs_values_beyond_it() {
        let dist = |count| Distribution { count, max: 9, ..Distribution::default() };
        let there = |count| percentiles(&dist(count)).iter().filter(|(_, ns)| ns.is_some()).count();
        assert_eq!((there(0), there(1), there(999), there(1000), there(100_000)), (0, 1, 4, 5, 7));
    }
}
