//! Two windows of a recording side by side.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};
use overlay_trace_analysis::breakdown::{Analysis, By, Collector, Dist, Key};
use overlay_trace_common::{flags::RecordFlags, record::RecordHeader};
use overlay_trace_format::RecordView;

use super::fixture::Window;
use super::flow::TRUTH_PORT;
use crate::results::{Outcome, Verdict};
use crate::seen::Seen;

/// How far what is seen may be off what is known, and how much of it may be seen elsewhere.
pub const TOLERANCE: f64 = 0.05;

/// What may be seen elsewhere in any case, ns (instructions): which way the scheduler takes to wake the reader
/// depends on more than this.
const RESOLUTION: f64 = 50.0;

/// Where a packet's time is known to go.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    pub stage: &'static str,
    /// Short name.
    pub netns: &'static str,
    pub device: &'static str,
    pub level: u8,
}

impl Place {
    pub fn is(&self, recorded: &Recorded, key: &Key) -> bool {
        key.stage.as_deref() == Some(self.stage)
            && key.netns.as_deref().is_some_and(|netns| recorded.seen.short(netns) == self.netns)
            && key.device.as_deref() == Some(self.device)
            && key.level == Some(self.level)
    }
}

/// Whether the record is of one of our datagrams, sent in the window; not a copy or a part of one.
pub fn is_in(window: &Window, record: &RecordView<'_>) -> bool {
    let header = record.header;
    header.flow.protocol == 17
        && header.flow.destination_port == TRUTH_PORT
        && !header.flags.has(RecordFlags::CHILD)
        && (window.begin_ns..window.end_ns).contains(&header.start_ns)
}

/// A finished recording with all its packets.
pub struct Recorded {
    pub seen: Seen,
    packets: Vec<(RecordHeader, Vec<u32>)>,
}

impl Recorded {
    pub fn new(seen: Seen) -> Result<Recorded> {
        let mut packets = Vec::new();
        seen.recording.for_each_record(|record| packets.push((record.header, record.path.to_vec())))?;
        Ok(Recorded { seen, packets })
    }

    pub fn packets(&self) -> impl Iterator<Item = RecordView<'_>> {
        self.packets.iter().map(|(header, way)| RecordView { header: *header, path: way })
    }

    /// Our datagrams of the window.
    pub fn datagrams(&self, window: &Window) -> impl Iterator<Item = RecordView<'_>> {
        self.packets().filter(|record| is_in(window, record))
    }

    /// An analysis of these packets, or parts of packets, as if they were all.
    pub fn analysis<'a>(&self, packets: impl Iterator<Item = RecordView<'a>>) -> Analysis {
        let recording = &self.seen.recording;
        let mut collector = Collector::new(&recording.header, &recording.hops, By::Stage);
        packets.for_each(|record| collector.add(&record));
        collector.finish(&recording.names)
    }
}

/// Where the time of a window's packets went.
pub struct Profile {
    pub analysis: Analysis,
    /// ns per packet: the median of all packets, of which those that did not come there were there for no
    /// time. What disturbed a few packets (the clock's tick, the recorder at work) is not in it.
    pub typical: BTreeMap<Key, f64>,
}

impl Profile {
    pub fn of(recorded: &Recorded, window: &Window) -> Result<Profile> {
        let analysis = recorded.analysis(recorded.datagrams(window));
        let (packets, sent) = (analysis.packets(), window.times_ns.len() as u64);
        ensure!(packets == sent, "{sent} datagrams were sent, {packets} were recorded");
        let typical =
            analysis.rows.iter().map(|row| (row.key.clone(), median_of_all(&row.raw, packets))).collect();
        Ok(Profile { analysis, typical })
    }

    fn at(&self, key: &Key) -> f64 {
        self.typical.get(key).copied().unwrap_or(0.0)
    }

    /// ns per packet where it is so, the probes' cost taken off.
    pub fn net(&self, is_so: impl Fn(&Key) -> bool) -> Result<f64> {
        let rows = self.analysis.rows.iter().filter(|row| is_so(&row.key));
        rows.map(|row| {
            let net = row.net.as_ref().context("the probes' cost was not measured")?;
            Ok(net.quantile(0.5) as f64 * net.count() as f64 / self.analysis.packets() as f64)
        })
        .sum()
    }
}

/// The median of so many packets, of which some have no time here.
fn median_of_all(times: &Dist, packets: u64) -> f64 {
    let part = times.count() as f64 / packets as f64;
    if part <= 0.5 { 0.0 } else { times.quantile(1.0 - 0.5 / part) as f64 }
}

/// What changed from one window to another, ns per packet.
#[derive(Debug)]
pub struct Change {
    /// Where it was expected.
    pub there: f64,
    /// The sum of all changes elsewhere, without their signs.
    pub elsewhere: f64,
    /// The largest of them, in words.
    pub largest: String,
}

impl Change {
    pub fn between(before: &Profile, after: &Profile, is_there: impl Fn(&Key) -> bool) -> Change {
        let keys: BTreeSet<&Key> = before.typical.keys().chain(after.typical.keys()).collect();
        let (mut there, mut elsewhere, mut largest) = (0.0, 0.0, (0.0, String::new()));
        for key in keys {
            let change = after.at(key) - before.at(key);
            if is_there(key) {
                there += change;
                continue;
            }
            elsewhere += change.abs();
            if change.abs() > largest.0 {
                largest = (change.abs(), format!("{change:+.0} ns in {}", words(key)));
            }
        }
        Change { there, elsewhere, largest: largest.1 }
    }

    /// Elsewhere there is next to nothing of a change of this size (ns per packet).
    pub fn is_nowhere_else(&self, expected: f64) -> bool {
        self.elsewhere <= (expected.abs() * TOLERANCE).max(RESOLUTION)
    }

    /// The change is where it should be, by this much (ns per packet), and nowhere else.
    pub fn is(&self, expected: f64) -> Outcome {
        let Change { there, elsewhere, largest } = self;
        ensure!(
            (there / expected - 1.0).abs() <= TOLERANCE,
            "{expected:.0} ns appear as {there:.0} ns (elsewhere {elsewhere:.0} ns, {largest})"
        );
        ensure!(
            self.is_nowhere_else(expected),
            "of {expected:.0} ns there are {elsewhere:.0} ns elsewhere: {largest}"
        );
        Ok(Verdict::With(format!("{there:.0} ns of {expected:.0}, {elsewhere:.0} ns elsewhere")))
    }
}

/// A place for people.
pub fn words(key: &Key) -> String {
    let text = |part: &Option<String>| part.clone().unwrap_or_default();
    let direction = key.direction.map_or("", |direction| direction.name());
    let level = key.level.unwrap_or_default();
    format!(
        "{} ({}) of {} {}, {direction}, level {level}",
        text(&key.stage),
        key.kind,
        text(&key.netns),
        text(&key.device)
    )
}
