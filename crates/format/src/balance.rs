//! Whether a file holds the records that its recorder counted.

use super::Recording;

/// The packets whose path ended are those with a record in the file, those whose record was lost, and those that another
/// one's record stands for: the recorder counts all three. A file that lacks a chunk, or has one twice, is whole to look
/// at and wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Balance {
    #[default]
    Even,
    /// So many packets whose path ended are not accounted for.
    Missing(u64),
    /// There are so many records more than the recorder counted.
    Surplus(u64),
    /// The recorder was killed before it wrote its counters for the first time: what was lost is unknown.
    Unknown,
}

impl Balance {
    /// Packets that are not accounted for.
    pub fn missing(self) -> u64 {
        if let Balance::Missing(missing) = self { missing } else { 0 }
    }

    /// Records that the recorder did not count.
    pub fn surplus(self) -> u64 {
        if let Balance::Surplus(surplus) = self { surplus } else { 0 }
    }
}

impl Recording {
    /// Compares the number of records that were read, which must be all, with the recorder's counters. After the last
    /// checkpoint of a recording that ended abruptly there may be more records than it counted.
    pub fn balance(&self, records: u64) -> Balance {
        let counters = &self.last.counters;
        let accounted = records.saturating_add(counters.lost_records).saturating_add(counters.left_out);
        match counters.finished.checked_sub(accounted) {
            _ if !self.has_counters => Balance::Unknown,
            Some(0) => Balance::Even,
            Some(missing) => Balance::Missing(missing),
            None if self.complete => Balance::Surplus(accounted - counters.finished),
            None => Balance::Even,
        }
    }
}
