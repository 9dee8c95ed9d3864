//! What a recording has seen so far, or in the end.

use overlay_trace_format::{Counters, HopName, NicCount};

use crate::drops::DropCount;

/// What a recording has seen so far, or in the end.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    pub duration_ns: u64,
    pub counters: Counters,
    /// How many (namespace, device) packets have passed.
    pub hops: u16,
    /// Size of the file in bytes.
    pub file_bytes: u64,
    /// What became of what the filter names, in sentences; at the end only.
    pub notes: Vec<String>,
    /// Dropped packets, by where and why.
    pub drops: Vec<DropCount>,
    /// What passed the NICs; only in the end.
    pub nics: Vec<(HopName, NicCount)>,
}
