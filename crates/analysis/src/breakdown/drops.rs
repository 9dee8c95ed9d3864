//! Dropped packets.

use overlay_trace_common::record::RecordHeader;
use rustc_hash::FxHashMap;

use super::key::Packed;

/// Packets and bytes by drop reason, location, and the stage that the packet was in.
#[derive(Default)]
pub(super) struct Drops(FxHashMap<(u32, u64, Packed), (u64, u64)>);

impl Drops {
    pub fn add(&mut self, header: &RecordHeader, key: Packed) {
        let times = header.times();
        let dropped = (times, times * u64::from(header.bytes));
        self.add_many((header.drop_reason, header.drop_location, key), dropped);
    }

    pub fn append(&mut self, later: Drops) {
        later.0.into_iter().for_each(|(key, dropped)| self.add_many(key, dropped));
    }

    /// Each with its packets and bytes.
    pub fn iter(&self) -> impl Iterator<Item = (&(u32, u64, Packed), &(u64, u64))> {
        self.0.iter()
    }

    fn add_many(&mut self, key: (u32, u64, Packed), dropped: (u64, u64)) {
        let (packets, bytes) = self.0.entry(key).or_default();
        *packets += dropped.0;
        *bytes = bytes.saturating_add(dropped.1);
    }
}
