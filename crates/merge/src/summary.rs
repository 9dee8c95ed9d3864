//! What there is to say about merged recordings: machines, clocks, joins and crossings.

use std::{collections::BTreeMap, fmt::Write};

use serde::Serialize;

use crate::{
    edge::{Device, Passage},
    join::{Counts, Joined},
    machine::Machine,
    merged_header::Crossing,
    paths::Sums,
};

/// Nanoseconds of a millisecond.
const MS: f64 = 1e6;
/// So many times of lost packets are told.
const LOST_TIMES: usize = 10;

/// What was merged.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    pub machines: Vec<MachineSummary>,
    pub clocks: Vec<ClockSummary>,
    pub joined: JoinedSummary,
    pub crossings: Vec<CrossingSummary>,
    /// Where packets were lost between two recordings.
    pub lost: Vec<LostSummary>,
    pub end_to_end_ns: Total,
}

/// A machine and its recording.
#[derive(Clone, Debug, Serialize)]
pub struct MachineSummary {
    pub node: String,
    pub boot_id: String,
    pub hypervisor: Option<String>,
    pub kernel: String,
    pub probe_set: String,
    pub taps: usize,
    pub records: usize,
    pub duration_ns: u64,
}

/// A machine's clock in terms of the reference.
#[derive(Clone, Debug, Serialize)]
pub struct ClockSummary {
    pub node: String,
    /// `reference`, `packets`, or `unknown`.
    pub method: &'static str,
    /// The machine that it was compared with.
    pub compared_with: String,
    pub packets: u64,
    pub contradictions: u64,
    pub epochs: Vec<EpochSummary>,
    /// What the wall clocks say about the offset, where both recordings have them, in ns; and whether that is used:
    /// never, unless it lies inside the interval that the packets leave.
    pub wall_offset_ns: Option<i128>,
    pub wall_agrees: Option<bool>,
}

/// A time during which one line holds between a clock and the reference.
#[derive(Clone, Debug, Serialize)]
pub struct EpochSummary {
    /// On the machine's own clock, in ns.
    pub from_ns: u64,
    pub drift_ppm: f64,
    /// What is added to the machine's clock in the middle of the epoch, in ns, at least and at most.
    pub offset_low_ns: i128,
    pub offset_high_ns: i128,
}

/// Packets joined, and those that were not.
#[derive(Clone, Debug, Serialize)]
pub struct JoinedSummary {
    /// Paths with a crossing, and those that were seen from creation to delivery.
    pub paths: u64,
    pub whole: u64,
    #[serde(flatten)]
    pub counts: Counts,
}

/// The crossings from one edge to another.
#[derive(Clone, Debug, Serialize)]
pub struct CrossingSummary {
    pub stage: &'static str,
    pub from: String,
    pub to: String,
    pub count: u64,
    pub min_ns: u64,
    pub mean_ns: u64,
    pub max_ns: u64,
    /// The mean, at least and at most: the clocks allow no more exact word.
    pub low_ns: i128,
    pub high_ns: i128,
    /// The mean of this crossing and of the one back, together: exact, since the clocks' offset is in both.
    pub both_ways_ns: Option<u64>,
}

/// Packets that left by an edge and did not come in on the other side, which was recorded.
#[derive(Clone, Debug, Serialize)]
pub struct LostSummary {
    pub from: String,
    pub to: String,
    pub lost: u64,
    /// Of so many that left there.
    pub exits: u64,
    /// When the first of them left, on the reference clock, in ns.
    pub times_ns: Vec<i128>,
}

/// End-to-end time of all records, and its parts.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Total {
    pub sum: u128,
    pub count: u64,
    pub legs: u128,
    pub crossings: u128,
    /// Sum less its parts: 0.
    pub difference: i128,
}

pub(crate) fn summary(
    machines: &[Machine],
    joined: &Joined,
    exits: &[Passage],
    entries: &[Passage],
    sums: Sums,
) -> Summary {
    let difference = sums.end_to_end_ns as i128 - sums.legs_ns as i128 - sums.crossings_ns as i128;
    Summary {
        machines: machines.iter().map(machine_summary).collect(),
        clocks: (0..machines.len()).map(|machine| clock_summary(machines, joined, machine as u16)).collect(),
        joined: JoinedSummary { paths: sums.crossing, whole: sums.whole, counts: joined.counts },
        crossings: crossings(machines, joined, exits, entries),
        lost: lost(machines, joined, exits),
        end_to_end_ns: Total {
            sum: sums.end_to_end_ns,
            count: sums.records,
            legs: sums.legs_ns,
            crossings: sums.crossings_ns,
            difference,
        },
    }
}

fn machine_summary(machine: &Machine) -> MachineSummary {
    let header = &machine.recording.header;
    let marks = header.machine.clone().unwrap_or_default();
    let taps = machine.recording.hops.keys().filter(|&&hop| machine.edge(hop) == Some(true)).count();
    MachineSummary {
        node: machine.name.clone(),
        boot_id: marks.boot_id,
        hypervisor: marks.hypervisor,
        kernel: header.kernel.clone(),
        probe_set: header.probe_set.clone(),
        taps,
        records: machine.records.len(),
        duration_ns: machine.recording.last.duration_ns,
    }
}

fn clock_summary(machines: &[Machine], joined: &Joined, machine: u16) -> ClockSummary {
    let own = &machines[usize::from(machine)];
    let clocks = &joined.clocks;
    let recorded = own.recorded();
    let mut summary = ClockSummary {
        node: own.name.clone(),
        method: if machine == clocks.reference { "reference" } else { "unknown" },
        compared_with: machines[usize::from(clocks.base[usize::from(machine)])].name.clone(),
        packets: 0,
        contradictions: 0,
        epochs: Vec::new(),
        wall_offset_ns: None,
        wall_agrees: None,
    };
    let Some(clock) = clocks.clocks[usize::from(machine)].as_ref().filter(|clock| !clock.epochs.is_empty())
    else {
        return summary;
    };
    (summary.method, summary.packets) = ("packets", clock.constraints);
    summary.contradictions = clock.contradictions;
    for (number, epoch) in clock.epochs.iter().enumerate().filter(|(_, epoch)| epoch.is_bounded()) {
        let from = epoch.from_ns.max(recorded.from_ns);
        let to = clock.epochs.get(number + 1).map_or(recorded.to_ns, |next| next.from_ns).max(from);
        let middle = from + (to - from) / 2;
        let offset = clocks.map(machine, middle).unwrap_or_default() - i128::from(middle);
        let (late, early) = clocks.uncertainty(machine, middle);
        summary.epochs.push(EpochSummary {
            from_ns: from,
            drift_ppm: epoch.drift_ppm(),
            offset_low_ns: offset - i128::from(late),
            offset_high_ns: offset + i128::from(early),
        });
    }
    let reference = &machines[usize::from(clocks.reference)];
    summary.wall_offset_ns = wall_offset(own, reference);
    summary.wall_agrees = summary.wall_offset_ns.and_then(|offset| {
        let last = summary.epochs.last()?;
        Some((last.offset_low_ns..=last.offset_high_ns).contains(&offset))
    });
    summary
}

/// What is added to a machine's clock to get the reference's, if both machines' wall clocks agree.
fn wall_offset(own: &Machine, reference: &Machine) -> Option<i128> {
    let ahead = |machine: &Machine| {
        let reading = machine.recording.clocks.last()?;
        Some(i128::from(reading.realtime_ns) - i128::from(reading.monotonic_ns))
    };
    Some(ahead(own)? - ahead(reference)?)
}

fn crossings(
    machines: &[Machine],
    joined: &Joined,
    exits: &[Passage],
    entries: &[Passage],
) -> Vec<CrossingSummary> {
    #[derive(Default)]
    struct Of {
        count: u64,
        sum: i128,
        min: i128,
        max: i128,
        late: u128,
        early: u128,
    }
    let clocks = &joined.clocks;
    let mut all: BTreeMap<(Device, Device), Of> = BTreeMap::new();
    for join in &joined.joins {
        let (exit, entry) = (&exits[join.exit as usize], &entries[join.entry as usize]);
        let mapped = |passage: &Passage| clocks.map(passage.device.machine, passage.ns).unwrap_or_default();
        let ns = mapped(entry) - mapped(exit);
        let of = all.entry((exit.device, entry.device)).or_insert(Of { min: i128::MAX, ..Of::default() });
        // The crossing is longer than shown where the entry is mapped too early, or the exit too late.
        let (out, back) = (
            clocks.uncertainty(exit.device.machine, exit.ns),
            clocks.uncertainty(entry.device.machine, entry.ns),
        );
        of.late += u128::from(back.0) + u128::from(out.1);
        of.early += u128::from(back.1) + u128::from(out.0);
        (of.count, of.sum) = (of.count + 1, of.sum + ns);
        (of.min, of.max) = (of.min.min(ns), of.max.max(ns));
    }
    let name = |device: Device| name_of(machines, device);
    let mean = |of: &Of| of.sum / i128::from(of.count.max(1));
    all.iter()
        .map(|(&(exit, entry), of)| {
            let count = u128::from(of.count.max(1));
            let back = all.get(&(entry, exit));
            CrossingSummary {
                stage: Crossing::between(exit, entry).name(),
                from: name(exit),
                to: name(entry),
                count: of.count,
                min_ns: of.min.max(0) as u64,
                mean_ns: mean(of) as u64,
                max_ns: of.max.max(0) as u64,
                low_ns: mean(of) - (of.late / count) as i128,
                high_ns: mean(of) + (of.early / count) as i128,
                both_ways_ns: back.map(|back| (mean(of) + mean(back)) as u64),
            }
        })
        .collect()
}

/// A device with its machine.
fn name_of(machines: &[Machine], device: Device) -> String {
    let machine = &machines[usize::from(device.machine)];
    let hop = machine.recording.hops.get(&device.hop);
    format!("{}:{}", machine.name, hop.map_or("", |hop| hop.device.as_str()))
}

fn lost(machines: &[Machine], joined: &Joined, exits: &[Passage]) -> Vec<LostSummary> {
    let mut by_device: BTreeMap<Device, Vec<i128>> = BTreeMap::new();
    for &number in &joined.lost {
        let exit = &exits[number as usize];
        let left = joined.clocks.map(exit.device.machine, exit.ns).unwrap_or_default();
        by_device.entry(exit.device).or_default().push(left);
    }
    let mut all: BTreeMap<Device, u64> = BTreeMap::new();
    for exit in exits {
        *all.entry(exit.device).or_default() += 1;
    }
    let of_device = |(device, mut times): (Device, Vec<i128>)| {
        let partners: Vec<String> =
            joined.links.partners(device).map(|partner| name_of(machines, partner)).collect();
        let count = times.len() as u64;
        times.sort_unstable();
        times.truncate(LOST_TIMES);
        LostSummary {
            from: name_of(machines, device),
            to: partners.join(", "),
            lost: count,
            exits: all.get(&device).copied().unwrap_or(0),
            times_ns: times,
        }
    };
    by_device.into_iter().map(of_device).collect()
}

impl Summary {
    /// The summary as the first lines of a report.
    pub fn text(&self) -> String {
        let mut out = String::new();
        let machines: Vec<String> = self.machines.iter().map(MachineSummary::text).collect();
        let _ = writeln!(out, "machines   {}", machines.join("\n           "));
        let clocks: Vec<String> = self.clocks.iter().map(ClockSummary::text).collect();
        let _ = writeln!(out, "clocks     {}", clocks.join("\n           "));
        let JoinedSummary { paths, whole, counts } = &self.joined;
        let _ = writeln!(
            out,
            "joined     {} of {} exits to {} of {} entries: {paths} paths with a crossing, {whole} of them whole \
             (from creation to delivery); {} parts, {} across NAT",
            counts.joined_exits,
            counts.exits,
            counts.joined_entries,
            counts.entries,
            counts.parts,
            counts.across_nat
        );
        let _ = writeln!(
            out,
            "not joined {} ambiguous exits and {} entries, {} lost between, {} perhaps lost, {} out of the \
             recordings, {} foreign entries, {} across an epoch, {} undone",
            counts.ambiguous,
            counts.ambiguous_entries,
            counts.lost_between,
            counts.perhaps_lost,
            counts.out_of_recording,
            counts.foreign,
            counts.across_epoch,
            counts.negative
        );
        for crossing in &self.crossings {
            let _ = writeln!(out, "crossing   {}", crossing.text());
        }
        for lost in &self.lost {
            let LostSummary { from, to, lost, exits, .. } = lost;
            let _ = writeln!(out, "lost       between {from} and {to}: {lost} of {exits}");
        }
        let Total { sum, count, difference, .. } = self.end_to_end_ns;
        let _ = writeln!(
            out,
            "sum        legs and crossings of {count} paths are {sum} ns: difference to end to end {difference} ns"
        );
        out
    }
}

impl MachineSummary {
    fn text(&self) -> String {
        let kind = match &self.hypervisor {
            Some(hypervisor) => format!("guest of {hypervisor}"),
            None if self.taps > 0 => format!("{} taps", self.taps),
            None => "no hypervisor seen".to_owned(),
        };
        format!(
            "{} ({}, {}, {kind}): {} records, {:.1} s",
            self.node,
            self.kernel,
            self.probe_set,
            self.records,
            self.duration_ns as f64 / 1e9
        )
    }
}

impl ClockSummary {
    fn text(&self) -> String {
        match self.method {
            "reference" => return format!("{}: the reference", self.node),
            "unknown" => return format!("{}: packets do not bound it from both sides", self.node),
            _ => {}
        }
        let of_epoch = |epoch: &EpochSummary| {
            let width = (epoch.offset_high_ns - epoch.offset_low_ns) as f64;
            format!("{:+.1} ppm, known to ±{:.1} µs", epoch.drift_ppm, width / 2e3)
        };
        let epochs: Vec<String> = self.epochs.iter().map(of_epoch).collect();
        let wall = match (self.wall_offset_ns, self.wall_agrees, self.epochs.last()) {
            (Some(_), Some(true), _) => "; the wall clocks agree".to_owned(),
            (Some(wall), _, Some(last)) => {
                let middle = (last.offset_low_ns + last.offset_high_ns) / 2;
                format!("; wall clocks refused ({:.3} ms off)", (wall - middle) as f64 / MS)
            }
            _ => String::new(),
        };
        format!(
            "{}: {} (bounds of {} packets with {}, {} contradictions){wall}",
            self.node,
            epochs.join("; then "),
            self.packets,
            self.compared_with,
            self.contradictions
        )
    }
}

impl CrossingSummary {
    fn text(&self) -> String {
        let us = |ns: i128| ns as f64 / 1e3;
        let both = self.both_ways_ns.map_or_else(String::new, |ns| {
            format!("; with the way back {:.1} µs, exact", us(i128::from(ns)))
        });
        format!(
            "{} {} > {}: {} packets, mean {:.1} µs (from {:.1} to {:.1}){both}",
            self.stage,
            self.from,
            self.to,
            self.count,
            us(i128::from(self.mean_ns)),
            us(self.low_ns),
            us(self.high_ns)
        )
    }
}
