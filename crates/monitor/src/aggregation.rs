//! Sums of what has passed: distributions of times and counts of drops, bounded in number.

use std::{
    collections::{BTreeMap, HashMap},
    hash::Hash,
    time::Duration,
};

use overlay_trace_analysis::breakdown::{Analysis, Dist, Key, Outcomes};
use overlay_trace_format::{HopName, Pod};

use crate::{
    histogram::Histogram,
    labels::{DropLabels, Labels},
};

/// What has not been seen for this long is forgotten: pods come and go.
const IDLE: Duration = Duration::from_secs(3600);
/// So often is looked for what is to be forgotten.
const RETIRE_INTERVAL: Duration = Duration::from_secs(60);

/// How devices are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Devices {
    /// By class: what hundreds of pods have in common.
    Classes,
    Names,
}

/// Dropped packets, and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DropCount {
    pub packets: u64,
    pub bytes: u64,
}

/// What was in series that have been forgotten.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retired {
    pub series: u64,
    pub count: u64,
    pub sum_ns: u128,
}

#[derive(Clone, Debug)]
struct Series<T> {
    value: T,
    /// When it was seen last.
    seen: Duration,
}

/// Series by their labels; what finds no room is in the one of `other`.
#[derive(Clone, Debug)]
struct Table<L, T> {
    series: HashMap<L, Series<T>>,
    other: T,
    /// Times that something found no room.
    folded: u64,
    max: usize,
}

impl<L: Hash + Eq, T: Default> Table<L, T> {
    fn new(max: usize) -> Table<L, T> {
        // `other` is one of them.
        Table { series: HashMap::new(), other: T::default(), folded: 0, max: max.max(1) - 1 }
    }

    fn at(&mut self, labels: L, now: Duration) -> &mut T {
        let has_room = self.series.len() < self.max;
        if !has_room && !self.series.contains_key(&labels) {
            self.folded += 1;
            return &mut self.other;
        }
        let series = self.series.entry(labels).or_insert_with(|| Series { value: T::default(), seen: now });
        series.seen = now;
        &mut series.value
    }

    /// Forgets what was not seen for long; calls `each` with it.
    fn retire(&mut self, now: Duration, mut each: impl FnMut(&T)) {
        self.series.retain(|_, series| {
            let stays = now.saturating_sub(series.seen) < IDLE;
            if !stays {
                each(&series.value);
            }
            stays
        });
    }
}

/// Sums of what has passed since the beginning. The sums of all series, `other` and what has been forgotten together are
/// the end-to-end sum, to the nanosecond.
#[derive(Clone, Debug)]
pub struct Aggregation {
    devices: Devices,
    stages: Table<Labels, Histogram>,
    drops: Table<DropLabels, DropCount>,
    pub retired: Retired,
    /// From the start to the end of each path; parts of a packet share its time.
    pub end_to_end: Histogram,
    /// Each packet's latency since the start of the packet that it was cut or cloned from.
    pub latency: Histogram,
    pub outcomes: Outcomes,
    /// Bytes of the packets whose path ended.
    pub bytes: u64,
    /// Segments and clones whose parent's path was not seen.
    pub orphans: u64,
    /// Time that the probes themselves took on the packets' paths, in ns; as far as it is known.
    pub overhead_ns: u128,
    last_retired: Duration,
}

impl Aggregation {
    /// At most `max_series` of times, and as many of drops.
    pub fn new(max_series: usize, devices: Devices) -> Aggregation {
        Aggregation {
            devices,
            stages: Table::new(max_series),
            drops: Table::new(max_series),
            retired: Retired::default(),
            end_to_end: Histogram::default(),
            latency: Histogram::default(),
            outcomes: Outcomes::default(),
            bytes: 0,
            orphans: 0,
            overhead_ns: 0,
            last_retired: Duration::ZERO,
        }
    }

    /// Adds packets. `hops` tell what namespaces and devices are; `now` is a time since any fixed moment.
    pub fn add(&mut self, analysis: &Analysis, hops: &BTreeMap<u16, HopName>, now: Duration) {
        let names = Names::of(hops);
        for row in &analysis.rows {
            let labels = names.labels(&row.key, self.devices);
            self.add_times(labels, &row.raw, now);
        }
        add_dist(&mut self.end_to_end, &analysis.end_to_end);
        add_dist(&mut self.latency, &analysis.latency);
        let overhead = |net: &Dist| analysis.end_to_end.sum().saturating_sub(net.sum());
        self.overhead_ns += analysis.net.as_ref().map_or(0, overhead);
        self.outcomes.add(&analysis.outcomes);
        self.bytes += analysis.bytes;
        self.orphans += analysis.orphans;
        for drop in &analysis.drops {
            let labels = drop_labels(&drop.reason, &drop.key);
            let count = self.drops.at(labels, now);
            count.packets += drop.packets;
            count.bytes += drop.bytes;
        }
        self.retire(now);
    }

    /// Adds packets' times at one place.
    pub fn add_times(&mut self, labels: Labels, times: &Dist, now: Duration) {
        add_dist(self.stages.at(labels, now), times);
    }

    /// Forgets what was not seen for an hour.
    pub fn retire(&mut self, now: Duration) {
        if now.saturating_sub(self.last_retired) < RETIRE_INTERVAL {
            return;
        }
        self.last_retired = now;
        let retired = &mut self.retired;
        self.stages.retire(now, |histogram| {
            retired.series += 1;
            retired.count += histogram.count();
            retired.sum_ns += histogram.sum_ns();
        });
        self.drops.retire(now, |_| ());
    }

    /// Adds what another one has summed.
    pub fn merge(&mut self, other: &Aggregation, now: Duration) {
        for (labels, histogram) in other.stages() {
            self.stages.at(labels, now).merge(histogram);
        }
        for (labels, count) in other.drops() {
            let sum = self.drops.at(labels, now);
            sum.packets += count.packets;
            sum.bytes += count.bytes;
        }
        self.end_to_end.merge(&other.end_to_end);
        self.latency.merge(&other.latency);
        self.outcomes.add(&other.outcomes);
        self.bytes += other.bytes;
        self.orphans += other.orphans;
        self.overhead_ns += other.overhead_ns;
    }

    /// The distributions of times with their labels, in no order.
    pub fn stages(&self) -> impl Iterator<Item = (Labels, &Histogram)> {
        let other = (self.stages.folded > 0).then(|| (Labels::other(), &self.stages.other));
        let named = self.stages.series.iter().map(|(labels, series)| (labels.clone(), &series.value));
        named.chain(other)
    }

    /// The dropped packets with their labels, in no order.
    pub fn drops(&self) -> impl Iterator<Item = (DropLabels, DropCount)> {
        let other = (self.drops.folded > 0).then(|| (DropLabels::other(), self.drops.other));
        let named = self.drops.series.iter().map(|(labels, series)| (labels.clone(), series.value));
        named.chain(other)
    }

    /// How many series there are, and how often something found no room for its own.
    pub fn size(&self) -> (usize, u64) {
        (self.stages().count() + self.drops().count(), self.stages.folded + self.drops.folded)
    }
}

fn add_dist(histogram: &mut Histogram, times: &Dist) {
    for (ns, packets) in times.values() {
        histogram.add(ns, packets);
    }
    histogram.add_sum(times.sum());
}

fn drop_labels(reason: &str, key: &Key) -> DropLabels {
    let text = |part: &Option<String>| part.clone().unwrap_or_default();
    DropLabels {
        reason: if reason.is_empty() { "unknown".into() } else { reason.into() },
        layer: text(&key.layer),
        stage: text(&key.stage),
        level: key.level.map_or_else(String::new, |level| level.to_string()),
        netns: text(&key.netns),
        device: text(&key.device),
    }
}

/// What is known of namespaces and devices.
struct Names<'a> {
    pods: HashMap<&'a str, &'a Pod>,
    classes: HashMap<(&'a str, &'a str), &'a str>,
}

impl<'a> Names<'a> {
    fn of(hops: &'a BTreeMap<u16, HopName>) -> Names<'a> {
        let pods = hops.values().filter_map(|hop| Some((hop.netns.as_str(), hop.pod.as_ref()?)));
        let classes = hops.values().map(|hop| ((hop.netns.as_str(), hop.device.as_str()), class(hop)));
        Names { pods: pods.collect(), classes: classes.collect() }
    }

    fn labels(&self, key: &Key, devices: Devices) -> Labels {
        let netns = key.netns.clone().unwrap_or_default();
        let pod = self.pods.get(netns.as_str());
        let device = key.device.clone().unwrap_or_default();
        let device = match devices {
            Devices::Names => device,
            Devices::Classes => {
                self.classes.get(&(netns.as_str(), device.as_str())).copied().unwrap_or_default().to_owned()
            }
        };
        Labels {
            layer: key.layer.clone().unwrap_or_default(),
            stage: key.stage.clone().unwrap_or_default(),
            kind: key.kind,
            level: key.level.map_or_else(String::new, |level| level.to_string()),
            direction: key.direction.map_or("", |direction| direction.name()),
            namespace: pod.map_or_else(String::new, |pod| pod.namespace.clone()),
            pod: pod.map_or_else(String::new, |pod| pod.name.clone()),
            workload: pod.map_or_else(String::new, |pod| pod.workload().to_owned()),
            netns,
            device,
        }
    }
}

/// The class of a hop's device: its link kind, `nic`, `loopback`, or nothing for "at no device yet".
fn class(hop: &HopName) -> &str {
    match (hop.kind.as_str(), hop.device.as_str()) {
        ("", "") => "",
        ("", "lo") => "loopback",
        ("", _) => "nic",
        (kind, _) => kind,
    }
}

#[cfg(test)]
mod tests;
