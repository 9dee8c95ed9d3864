//! A finished recording, read back.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result};
use overlay_trace_analysis::breakdown::{Analysis, By, Collector, Key};
use overlay_trace_analysis::report::{Format, Sort, report};
use overlay_trace_format::{RecordView, Recording};
use overlay_trace_lab::traffic::TrafficReport;
use overlay_trace_probe::ProbeSet;
use serde_json::Value;

use crate::counters::Counted;
use crate::scene::Lack;

/// What a recording of the matrix saw.
pub struct Seen {
    /// The lab's name.
    pub lab: &'static str,
    /// Traffic went over IPv6.
    pub ipv6: bool,
    pub set: ProbeSet,
    pub recording: Recording,
    pub analysis: Analysis,
    /// An analysis of the lab's own packets: the machine may have others.
    pub own: Analysis,
    /// The JSON report.
    pub json: Value,
    pub traffic: Vec<TrafficReport>,
    /// What could not be exercised in the setting.
    pub lacks: Vec<Lack>,
    /// How much the kernel's own counters grew while the traffic ran.
    pub counted: Counted,
}

impl Seen {
    /// Reads a recording and analyses it.
    pub fn read(
        path: &Path,
        lab: &'static str,
        set: ProbeSet,
        traffic: Vec<TrafficReport>,
        lacks: Vec<Lack>,
    ) -> Result<Seen> {
        let recording = Recording::open(path)?;
        let mut analysis = Analysis::of(&recording, By::Stage)?;
        let json = serde_json::from_slice(&report(&mut analysis, Format::Json, Sort::Path)?)
            .context("the JSON report is no JSON")?;
        let own = Analysis::of(&recording, By::Stage)?;
        let counted = Counted::new();
        let mut seen =
            Seen { lab, ipv6: false, set, recording, analysis, own, json, traffic, lacks, counted };
        seen.own = seen.analysis_of(By::Stage, |record| seen.is_own(record))?;
        Ok(seen)
    }

    /// The full name of one of the lab's namespaces.
    pub fn netns(&self, short: &str) -> String {
        format!("ot-{}-{short}", self.lab)
    }

    /// The lab's own short name of a namespace; others are given as they are.
    pub fn short<'a>(&self, netns: &'a str) -> &'a str {
        netns.strip_prefix(&format!("ot-{}-", self.lab)).unwrap_or(netns)
    }

    /// Whether the packet has been in one of the lab's namespaces.
    pub fn is_own(&self, record: &RecordView<'_>) -> bool {
        let prefix = self.netns("");
        record
            .spans()
            .any(|step| self.recording.hops.get(&step.hop).is_some_and(|hop| hop.netns.starts_with(&prefix)))
    }

    /// An analysis of some of the packets.
    pub fn analysis_of(&self, by: By, keep: impl Fn(&RecordView<'_>) -> bool) -> Result<Analysis> {
        let mut collector = Collector::new(&self.recording.header, &self.recording.hops, by);
        self.recording.for_each_record(|record| {
            if keep(&record) {
                collector.add(&record);
            }
        })?;
        Ok(collector.finish(&self.recording.names))
    }

    /// How often the kernel skipped a probe.
    pub fn skipped(&self) -> u64 {
        self.recording.last.counters.probe_misses.unwrap_or(0)
    }

    /// How many packets are so.
    pub fn count(&self, is_so: impl Fn(&RecordView<'_>) -> bool) -> Result<u64> {
        let mut count = 0;
        self.recording.for_each_record(|record| count += u64::from(is_so(&record)))?;
        Ok(count)
    }

    /// Whether some time was spent at such a place.
    pub fn has(&self, wanted: impl Fn(&Key) -> bool) -> bool {
        self.own.rows.iter().any(|row| wanted(&row.key))
    }

    /// The levels that there are.
    pub fn levels(&self) -> BTreeSet<u8> {
        self.own.rows.iter().filter_map(|row| row.key.level).collect()
    }

    /// The names of all devices that packets were at.
    pub fn devices(&self) -> BTreeSet<&str> {
        self.own.rows.iter().filter_map(|row| row.key.device.as_deref()).collect()
    }
}

/// Whether the key is of this layer.
pub fn is_layer(key: &Key, layer: &str) -> bool {
    key.layer.as_deref() == Some(layer)
}

/// Whether the key is of this stage.
pub fn is_stage(key: &Key, stage: &str) -> bool {
    key.stage.as_deref() == Some(stage)
}
