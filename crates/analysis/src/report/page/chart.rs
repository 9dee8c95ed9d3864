//! Distributions and the course of time, drawn. Widths are parts of the page's; times are on a logarithmic scale.

use maud::{Markup, html};

use crate::{
    breakdown::{Dist, OverTime},
    report::units::{count, time},
};

/// Bins of a large picture, and of a small one within a table.
const BINS: usize = 60;
const SMALL_BINS: usize = 32;
/// Pixels of a large picture's field, and of its axis below.
const HEIGHT: f64 = 120.0;
const AXIS: f64 = 20.0;
/// Pixels of a small picture.
const SMALL_WIDTH: usize = 96;
const SMALL_HEIGHT: usize = 16;

/// A logarithmic scale of times, in ns.
#[derive(Clone, Copy)]
pub struct Scale {
    from: f64,
    to: f64,
}

impl Scale {
    /// From one time to another; both are at least 1 ns, and the second is larger.
    pub fn new(from_ns: u64, to_ns: u64) -> Scale {
        let from = from_ns.max(1) as f64;
        Scale { from, to: (to_ns as f64).max(2.0 * from) }
    }

    /// The scale that all of these distributions fit.
    pub fn of<'a>(dists: impl Iterator<Item = &'a Dist>) -> Scale {
        let (mut from, mut to) = (u64::MAX, 1);
        for dist in dists.filter(|dist| dist.count() > 0) {
            (from, to) = (from.min(dist.quantile(0.01)), to.max(dist.max()));
        }
        Scale::new(from.min(to), to)
    }

    /// Where a time is, 0 to 1.
    fn at(&self, ns: f64) -> f64 {
        ((ns.max(1.0) / self.from).ln() / (self.to / self.from).ln()).clamp(0.0, 1.0)
    }

    /// The edge between two of `bins`.
    fn edge(&self, number: usize, bins: usize) -> f64 {
        self.from * (self.to / self.from).powf(number as f64 / bins as f64)
    }

    /// How many values of a distribution are in each of `bins`. What is below the scale is in the first one.
    fn bins(&self, dist: &Dist, bins: usize) -> Vec<u64> {
        let mut beyond = dist.count();
        let mut counts = Vec::with_capacity(bins);
        for number in 1..=bins {
            let left = if number == bins { 0 } else { dist.beyond(self.edge(number, bins) as u64) };
            counts.push(beyond.saturating_sub(left));
            beyond = left;
        }
        counts
    }

    /// Powers of ten on the scale.
    fn decades(&self) -> Vec<f64> {
        let first = self.from.log10().ceil() as i32;
        (first..).map(|power| 10f64.powi(power)).take_while(|ns| *ns <= self.to).collect()
    }
}

/// The distribution as a histogram, with its percentiles.
pub fn distribution(dist: &Dist, about: &str) -> Markup {
    let scale = Scale::of([dist].into_iter());
    let bins = scale.bins(dist, BINS);
    let most = bins.iter().copied().max().unwrap_or(1).max(1) as f64;
    let percentiles = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999), ("p99.99", 0.9999)];
    let marks: Vec<(&str, u64)> =
        percentiles.iter().filter_map(|&(name, part)| Some((name, dist.supported(part)?))).collect();
    let part = 100.0 / BINS as f64;
    html! {
        svg.chart xmlns="http://www.w3.org/2000/svg" width="100%" height=(HEIGHT + AXIS) role="img" aria-label=(about) {
            @for (number, &packets) in bins.iter().enumerate().filter(|(_, packets)| **packets > 0) {
                // Roots show what is rare beside what is frequent.
                @let height = (packets as f64 / most).sqrt() * (HEIGHT - 16.0);
                rect.bin x=(percent(number as f64 * part)) y=(format!("{:.1}", HEIGHT - height)) width=(percent(0.9 * part)) height=(format!("{height:.1}")) {
                    title { (time(scale.edge(number, BINS))) " to " (time(scale.edge(number + 1, BINS))) ": " (count(packets)) " packets" }
                }
            }
            @for (number, (name, ns)) in marks.iter().enumerate() {
                @let x = 100.0 * scale.at(*ns as f64);
                line.mark x1=(percent(x)) x2=(percent(x)) y1="0" y2=(HEIGHT) {}
                text.label x=(percent(x)) dx=(if x > 80.0 { -4 } else { 4 }) y=(10 + 12 * (number % 3)) text-anchor=(if x > 80.0 { "end" } else { "start" }) { (name) " " (time(*ns as f64)) }
            }
            (axis(&scale))
        }
    }
}

fn axis(scale: &Scale) -> Markup {
    html! {
        line.axis x1="0" x2="100%" y1=(HEIGHT) y2=(HEIGHT) {}
        @for ns in scale.decades() {
            @let x = 100.0 * scale.at(ns);
            text.label x=(percent(x)) y=(HEIGHT + AXIS - 5.0) text-anchor=(anchor(x)) { (time(ns)) }
        }
    }
}

/// A distribution in a cell of a table.
pub fn small(dist: &Dist, scale: &Scale, is_wait: bool) -> Markup {
    let bins = scale.bins(dist, SMALL_BINS);
    let most = bins.iter().copied().max().unwrap_or(1).max(1) as f64;
    let step = SMALL_WIDTH / SMALL_BINS;
    let mut path = String::new();
    for (number, &packets) in bins.iter().enumerate().filter(|(_, packets)| **packets > 0) {
        let height = ((packets as f64 / most).sqrt() * SMALL_HEIGHT as f64).ceil();
        path += &format!("M{} {SMALL_HEIGHT}v-{height}h{step}v{height}", number * step);
    }
    html! {
        svg.small width=(SMALL_WIDTH) height=(SMALL_HEIGHT) aria-hidden="true" {
            path class=(if is_wait { "wait" } else { "work" }) d=(path) {}
        }
    }
}

/// Median, p99 and maximum of the packets that began in each part of a recording.
pub fn over_time(course: &OverTime, about: &str) -> Markup {
    let lowest = course.parts.iter().map(|part| part.p50).min().unwrap_or(1);
    let highest = course.parts.iter().map(|part| part.max).max().unwrap_or(1);
    let scale = Scale::new(lowest / 2, highest);
    let y = |ns: u64| format!("{:.1}", 8.0 + (HEIGHT - 12.0) * (1.0 - scale.at(ns as f64)));
    let x = |at_ns: u64| percent(100.0 * at_ns as f64 / course.duration_ns.max(1) as f64);
    let seconds = course.duration_ns as f64;
    html! {
        svg.chart xmlns="http://www.w3.org/2000/svg" width="100%" height=(HEIGHT + AXIS) role="img" aria-label=(about) {
            @for ns in scale.decades() {
                line.grid x1="0" x2="100%" y1=(y(ns as u64)) y2=(y(ns as u64)) {}
                text.label x="0" y=(y(ns as u64)) { (time(ns)) }
            }
            @for part in &course.parts {
                g {
                    title {
                        "at " (time(part.at_ns as f64)) ": " (count(part.packets)) " packets, p50 " (time(part.p50 as f64)) ", p99 "
                        (time(part.p99 as f64)) ", at most " (time(part.max as f64))
                    }
                    line.range x1=(x(part.at_ns)) x2=(x(part.at_ns)) y1=(y(part.p50)) y2=(y(part.max)) {}
                    circle.median cx=(x(part.at_ns)) cy=(y(part.p50)) r="2" {}
                    circle.slow cx=(x(part.at_ns)) cy=(y(part.p99)) r="2.5" {}
                    circle.slowest cx=(x(part.at_ns)) cy=(y(part.max)) r="2.5" {}
                }
            }
            line.axis x1="0" x2="100%" y1=(HEIGHT) y2=(HEIGHT) {}
            @for tick in 0..=4u32 {
                @let x = f64::from(tick) * 25.0;
                text.label x=(percent(x)) y=(HEIGHT + AXIS - 5.0) text-anchor=(anchor(x)) { (time(seconds * x / 100.0)) }
            }
        }
    }
}

/// Where a label is in relation to its place, so that it does not leave the picture.
fn anchor(percent: f64) -> &'static str {
    match percent {
        percent if percent < 8.0 => "start",
        percent if percent > 92.0 => "end",
        _ => "middle",
    }
}

fn percent(percent: f64) -> String {
    format!("{percent:.2}%")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_is_in_a_bin() {
        let mut dist = Dist::default();
        (1..5000).for_each(|number| dist.add(number * number));
        let scale = Scale::of([&dist].into_iter());
        for bins in [1, 7, BINS] {
            assert_eq!(scale.bins(&dist, bins).iter().sum::<u64>(), dist.count());
        }
        assert_eq!(scale.decades().last(), Some(&1e7));
    }

    #[test]
    fn an_empty_distribution_is_an_empty_picture() {
        let empty = Dist::default();
        assert!(!distribution(&empty, "").into_string().contains("<rect"));
        assert!(small(&empty, &Scale::new(0, 0), true).into_string().contains("d=\"\""));
    }
}
