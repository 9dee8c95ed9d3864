//! How long packets took in the course of a recording.

use anyhow::Result;
use overlay_trace_format::Recording;

use super::Dist;

/// The recording is divided into so many equal parts.
const PARTS: usize = 120;

/// The packets that began in a part of a recording's time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// The beginning, since that of the recording, in ns.
    pub at_ns: u64,
    pub packets: u64,
    /// Of the packets' own time, in ns.
    pub p50: u64,
    pub p99: u64,
    pub max: u64,
}

/// The course of a recording. Parts without packets are left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OverTime {
    /// The whole time, in ns.
    pub duration_ns: u64,
    pub parts: Vec<Part>,
}

impl OverTime {
    /// Reads a recording to its end. A packet that was cut or cloned counts by the time of each record.
    ///
    /// # Errors
    ///
    /// As for [`Recording::for_each_record`].
    pub fn of(recording: &Recording) -> Result<OverTime> {
        let start_ns = recording.header.start_monotonic_ns;
        let duration_ns = recording.last.duration_ns.max(1);
        let mut parts = vec![Dist::default(); PARTS];
        recording.for_each_record(|record| {
            let header = record.header;
            let at = u128::from(header.start_ns.saturating_sub(start_ns)) * PARTS as u128;
            let part = (at / u128::from(duration_ns)).min(PARTS as u128 - 1) as usize;
            parts[part].add_times(header.end_ns.saturating_sub(header.start_ns), header.times());
        })?;
        let part = |(number, dist): (usize, &Dist)| {
            (dist.count() > 0).then(|| Part {
                at_ns: (u128::from(duration_ns) * number as u128 / PARTS as u128) as u64,
                packets: dist.count(),
                p50: dist.quantile(0.5),
                p99: dist.quantile(0.99),
                max: dist.max(),
            })
        };
        Ok(OverTime { duration_ns, parts: parts.iter().enumerate().filter_map(part).collect() })
    }
}
