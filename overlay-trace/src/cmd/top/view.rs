//! What is on the screen, without the screen.

use std::{cmp::Reverse, collections::BTreeMap, time::Duration};

use overlay_trace_format::Counters;
use overlay_trace_monitor::{Aggregation, Histogram, Labels};

/// So many ticks are in the small charts.
const HISTORY: usize = 200;

/// What rows are told apart by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    Stage,
    Layer,
    Pod,
    Device,
}

impl By {
    pub fn next(self) -> By {
        match self {
            By::Stage => By::Layer,
            By::Layer => By::Pod,
            By::Pod => By::Device,
            By::Device => By::Stage,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            By::Stage => "stage",
            By::Layer => "layer",
            By::Pod => "pod or namespace",
            By::Device => "device",
        }
    }

    fn key(self, labels: &Labels) -> Key {
        let level = || labels.level.clone();
        match self {
            By::Stage => Key { name: labels.stage.clone(), level: level(), kind: labels.kind },
            By::Layer => Key { name: labels.layer.clone(), level: level(), kind: labels.kind },
            By::Pod => Key { name: labels.netns.clone(), level: String::new(), kind: labels.kind },
            By::Device => {
                let name = if labels.device.is_empty() { "(none yet)" } else { &labels.device };
                Key { name: format!("{} {name}", labels.netns), level: String::new(), kind: labels.kind }
            }
        }
    }
}

/// The order of rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sort {
    Share,
    P99,
    Name,
}

impl Sort {
    pub fn next(self) -> Sort {
        match self {
            Sort::Share => Sort::P99,
            Sort::P99 => Sort::Name,
            Sort::Name => Sort::Share,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Sort::Share => "share",
            Sort::P99 => "p99",
            Sort::Name => "name",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    name: String,
    level: String,
    kind: &'static str,
}

/// A row of the table.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    pub name: String,
    pub level: String,
    pub kind: &'static str,
    /// The part of all time, 0 to 1.
    pub share: f64,
    /// Mean over all packets, in ns.
    pub per_packet_ns: f64,
    /// Of packets that were there; `None` where a row has several stages, whose times belong together.
    pub percentiles_ns: Option<[f64; 3]>,
}

/// What has passed in the last seconds.
#[derive(Clone, Debug)]
pub struct Picture {
    sum: Aggregation,
    pub packets_per_s: f64,
    /// p50, p99, p99.9 of the last seconds, and of the last tick alone, in ns.
    pub percentiles_ns: [f64; 3],
    pub last_ns: [f64; 3],
    /// The part of the time that packets wait, 0 to 1.
    pub wait: f64,
    pub losses: String,
    /// Dropped packets per second, the most first, in words.
    pub drops: Vec<String>,
    pub elapsed: Duration,
    pub has_ended: bool,
}

pub const QUANTILES: [f64; 3] = [0.5, 0.99, 0.999];

fn percentiles(histogram: &Histogram) -> [f64; 3] {
    QUANTILES.map(|quantile| histogram.quantile_ns(quantile))
}

impl Picture {
    /// Of the last ticks of a second each.
    pub fn of(ticks: &[Aggregation], counters: &Counters, elapsed: Duration, has_ended: bool) -> Picture {
        let (mut sum, seconds) =
            (Aggregation::new(usize::MAX, overlay_trace_monitor::Devices::Names), ticks.len().max(1) as f64);
        ticks.iter().for_each(|tick| sum.merge(tick, Duration::ZERO));
        let all = sum.end_to_end.sum_ns().max(1) as f64;
        let wait: u128 =
            sum.stages().filter(|(labels, _)| labels.kind == "wait").map(|(_, times)| times.sum_ns()).sum();
        let lost = counters.losses();
        let lost: Vec<String> = lost
            .iter()
            .filter(|(number, _)| *number > 0)
            .map(|(number, what)| format!("{number} {what}"))
            .collect();
        let mut drops: Vec<_> = sum.drops().collect();
        drops.sort_by_key(|(labels, count)| (Reverse(count.packets), labels.clone()));
        let drops = drops.iter().map(|(labels, count)| {
            let place = [labels.stage.as_str(), labels.netns.as_str(), labels.device.as_str()];
            let place: Vec<&str> = place.into_iter().filter(|part| !part.is_empty()).collect();
            format!("{:>8.1}/s  {}  in {}", count.packets as f64 / seconds, labels.reason, place.join(" "))
        });
        Picture {
            packets_per_s: sum.end_to_end.count() as f64 / seconds,
            percentiles_ns: percentiles(&sum.latency),
            last_ns: ticks.last().map_or([0.0; 3], |tick| percentiles(&tick.latency)),
            wait: wait as f64 / all,
            losses: if lost.is_empty() { "nothing".into() } else { lost.join(", ") },
            drops: drops.collect(),
            elapsed,
            has_ended,
            sum,
        }
    }
}

/// The screen's state.
pub struct View {
    pub title: String,
    pub by: By,
    pub sort: Sort,
    /// Only rows with this in their name.
    pub filter: String,
    /// The filter is being typed.
    pub is_typing: bool,
    pub is_frozen: bool,
    pub shows_help: bool,
    /// The first row that is shown.
    pub first: usize,
    pub picture: Option<Picture>,
    /// By quantile: those of the last ticks, in ns.
    pub history: [Vec<u64>; 3],
}

impl View {
    pub fn new(title: String) -> View {
        View {
            title,
            by: By::Stage,
            sort: Sort::Share,
            filter: String::new(),
            is_typing: false,
            is_frozen: false,
            shows_help: false,
            first: 0,
            picture: None,
            history: Default::default(),
        }
    }

    pub fn show(&mut self, picture: Picture) {
        for (history, ns) in self.history.iter_mut().zip(picture.last_ns) {
            history.push(ns as u64);
            if history.len() > HISTORY {
                history.remove(0);
            }
        }
        self.picture = Some(picture);
    }

    /// The rows that the filter leaves, in their order.
    pub fn rows(&self) -> Vec<Row> {
        let Some(picture) = &self.picture else { return Vec::new() };
        let mut sums: BTreeMap<Key, Histogram> = BTreeMap::new();
        for (labels, histogram) in picture.sum.stages() {
            sums.entry(self.by.key(&labels)).or_default().merge(histogram);
        }
        let all = &picture.sum.end_to_end;
        let filter = self.filter.to_lowercase();
        let left = sums.into_iter().filter(|(key, _)| key.name.to_lowercase().contains(&filter));
        let mut rows: Vec<Row> = left
            .map(|(key, times)| Row {
                share: times.sum_ns() as f64 / all.sum_ns().max(1) as f64,
                per_packet_ns: times.sum_ns() as f64 / all.count().max(1) as f64,
                percentiles_ns: (self.by == By::Stage).then(|| percentiles(&times)),
                name: key.name,
                level: key.level,
                kind: key.kind,
            })
            .collect();
        let p99 = |row: &Row| row.percentiles_ns.map_or(row.per_packet_ns, |[_, p99, _]| p99);
        match self.sort {
            Sort::Share => rows.sort_by(|a, b| b.share.total_cmp(&a.share)),
            Sort::P99 => rows.sort_by(|a, b| p99(b).total_cmp(&p99(a))),
            Sort::Name => {}
        }
        rows
    }
}

/// A time for people, in at most seven characters.
pub fn time(ns: f64) -> String {
    let (value, unit) = match ns {
        ..1e3 => return format!("{ns:.0} ns"),
        ..1e6 => (ns / 1e3, "µs"),
        ..1e9 => (ns / 1e6, "ms"),
        _ => (ns / 1e9, "s"),
    };
    let digits = if value < 10.0 { 2 } else { usize::from(value < 100.0) };
    format!("{value:.digits$} {unit}")
}

#[cfg(test)]
mod tests;
