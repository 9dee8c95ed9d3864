//! What there is to say about crossings, and about packets that were lost on them.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::{
    edge::{Device, Passage},
    links::{Clocks, Links},
    machine::Machine,
    merged_header::Crossing,
};

/// So many times of lost packets are told.
const LOST_TIMES: usize = 10;

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

/// Crossings and lost packets as they are found.
pub(crate) struct Found<'a> {
    clocks: &'a Clocks,
    crossings: BTreeMap<(Device, Device), Sums>,
    lost: BTreeMap<Device, Lost>,
}

#[derive(Default)]
struct Sums {
    count: u64,
    sum: u128,
    min: u64,
    max: u64,
    late: u128,
    early: u128,
}

#[derive(Default)]
struct Lost {
    count: u64,
    /// The first ones, or more than that.
    times: Vec<i128>,
}

impl<'a> Found<'a> {
    pub fn new(clocks: &'a Clocks) -> Found<'a> {
        Found { clocks, crossings: BTreeMap::new(), lost: BTreeMap::new() }
    }

    pub fn add_crossing(&mut self, exit: &Passage, entry: &Passage, ns: u64) {
        let first = Sums { min: u64::MAX, ..Sums::default() };
        let sums = self.crossings.entry((exit.device, entry.device)).or_insert(first);
        // The crossing is longer than shown where the entry is mapped too early, or the exit too late.
        let uncertainty = |passage: &Passage| self.clocks.uncertainty(passage.device.machine, passage.ns);
        let (out, back) = (uncertainty(exit), uncertainty(entry));
        sums.late += u128::from(back.0) + u128::from(out.1);
        sums.early += u128::from(back.1) + u128::from(out.0);
        (sums.count, sums.sum) = (sums.count + 1, sums.sum + u128::from(ns));
        (sums.min, sums.max) = (sums.min.min(ns), sums.max.max(ns));
    }

    pub fn add_lost(&mut self, exit: &Passage, left_ns: i128) {
        let lost = self.lost.entry(exit.device).or_default();
        lost.count += 1;
        lost.times.push(left_ns);
        if lost.times.len() > 100 * LOST_TIMES {
            lost.cut();
        }
    }

    /// The crossings between each two edges.
    pub fn crossings(&self, machines: &[Machine]) -> Vec<CrossingSummary> {
        let mean = |sums: &Sums| (sums.sum / u128::from(sums.count.max(1))) as u64;
        let each = |(&(exit, entry), sums): (&(Device, Device), &Sums)| {
            let count = u128::from(sums.count.max(1));
            let back = self.crossings.get(&(entry, exit));
            CrossingSummary {
                stage: Crossing::between(exit, entry).name(),
                from: name_of(machines, exit),
                to: name_of(machines, entry),
                count: sums.count,
                min_ns: sums.min,
                mean_ns: mean(sums),
                max_ns: sums.max,
                low_ns: i128::from(mean(sums)) - (sums.late / count) as i128,
                high_ns: i128::from(mean(sums)) + (sums.early / count) as i128,
                both_ways_ns: back.map(|back| mean(sums).saturating_add(mean(back))),
            }
        };
        self.crossings.iter().map(each).collect()
    }

    /// Where packets were lost between two recordings; `exits` says how many left by each device.
    pub fn lost(
        mut self,
        machines: &[Machine],
        links: &Links,
        exits: impl Fn(Device) -> u64,
    ) -> Vec<LostSummary> {
        let each = |(&device, lost): (&Device, &mut Lost)| {
            lost.cut();
            let partners: Vec<String> =
                links.partners(device).map(|partner| name_of(machines, partner)).collect();
            LostSummary {
                from: name_of(machines, device),
                to: partners.join(", "),
                lost: lost.count,
                exits: exits(device),
                times_ns: std::mem::take(&mut lost.times),
            }
        };
        self.lost.iter_mut().map(each).collect()
    }
}

impl Lost {
    fn cut(&mut self) {
        self.times.sort_unstable();
        self.times.truncate(LOST_TIMES);
    }
}

/// A device with its machine.
fn name_of(machines: &[Machine], device: Device) -> String {
    let machine = &machines[usize::from(device.machine)];
    let hop = machine.recording.hops.get(&device.hop);
    format!("{}:{}", machine.name, hop.map_or("", |hop| hop.device.as_str()))
}
