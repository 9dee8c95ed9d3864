//! Extracts one lab's packets from a recording of several labs.

use std::collections::HashSet;
use std::ops::Range;
use std::path::Path;

use anyhow::Result;

use super::running::Running;
use crate::traffic::TrafficReport;
use overlay_trace_format::{Header, RecordView, Recording};
use overlay_trace_probe::detection;

impl Running {
    /// Writes the packets that passed this lab and started in `time` (CLOCK_MONOTONIC, ns) to a recording of their
    /// own, which is overwritten. It gets `header`, with the lab as its filter and the networks detected there, and
    /// the traffic reports.
    ///
    /// # Errors
    ///
    /// One sentence: one of the files cannot be read or written.
    pub fn extract(
        &self,
        recording: &Recording,
        header: Header,
        (time, reports): (Range<u64>, &[TrafficReport]),
        path: &Path,
    ) -> Result<()> {
        let filter = self.filter();
        let is_in_lab =
            |hop: u16| recording.hops.get(&hop).is_some_and(|name| filter.netns.contains(&name.netns));
        let hops: HashSet<u16> = recording.hops.keys().copied().filter(|hop| is_in_lab(*hop)).collect();
        let networks = Some(detection::look(&filter.netns));
        let header = Header { filter: filter.to_string(), networks, ..header };
        let reports = reports.iter().map(serde_json::to_value).collect::<Result<Vec<_>, _>>()?;
        let is_selected = |record: &RecordView<'_>| {
            time.contains(&record.header.start_ns) && record.spans().any(|step| hops.contains(&step.hop))
        };
        overlay_trace_format::extract(recording, is_selected, path, &header, &reports)
    }
}
