//! Counts of dropped packets, for the live output of a recording.

use std::collections::{BTreeMap, BTreeSet};

use overlay_trace_common::{
    path::Span,
    record::{Outcome, RecordHeader},
    stage::{Layer, Stage},
    stage_map::STAGES,
};
use overlay_trace_format::{HopName, Names, record_of};

/// Offset of `drop_location` in a record's header.
const LOCATION: usize = std::mem::offset_of!(RecordHeader, drop_location);
/// Offset of `outcome`.
const OUTCOME: usize = std::mem::offset_of!(RecordHeader, outcome);

/// At most this many counts; further ones are left out.
const COUNTS_MAX: usize = 1024;

/// What dropped packets are counted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct DropKey {
    reason: u32,
    /// Address in the kernel.
    location: u64,
    stage: u8,
    level: u8,
    hop: u16,
}

/// Packets that were dropped at one location for one reason.
#[derive(Clone, Debug)]
pub struct DropCount {
    pub packets: u64,
    pub bytes: u64,
    /// The kernel's name of the reason; empty if none is known.
    pub reason: String,
    /// `function+offset`; empty if none is known.
    pub location: String,
    /// The stage that the packets were in.
    pub stage: &'static Stage,
    pub level: u8,
    pub hop: HopName,
}

/// Counts of dropped packets, and the names that they are printed with.
#[derive(Default)]
pub struct Drops {
    /// Packets and bytes.
    counts: BTreeMap<DropKey, (u64, u64)>,
    names: Names,
    hops: BTreeMap<u16, HopName>,
    /// All addresses in the kernel where packets were dropped, and those whose names nobody has looked up yet.
    locations: BTreeSet<u64>,
    new_locations: Vec<u64>,
}

impl Drops {
    /// Nothing has been dropped; `names` has the names of reasons.
    pub fn new(names: Names) -> Drops {
        Drops { names, ..Drops::default() }
    }

    /// Counts a record, as the kernel side wrote it, if its packet was dropped.
    pub fn add(&mut self, record: &[u8]) {
        if let Some(location) = record.get(LOCATION..).and_then(|rest| rest.first_chunk()) {
            let location = u64::from_ne_bytes(*location);
            if location != 0 && self.locations.insert(location) {
                self.new_locations.push(location);
            }
        }
        if record.get(OUTCOME) != Some(&(Outcome::Dropped as u8)) {
            return;
        }
        let Some((header, path)) = record_of(record) else { return };
        // A packet that waited for the CPU was dropped in the stage before that.
        let is_stage =
            |span: &&Span| STAGES.get(usize::from(span.stage)).is_some_and(|stage| stage.layer != Layer::Cpu);
        let Some(last) = path.iter().rev().find(is_stage) else { return };
        let key = DropKey {
            reason: header.drop_reason,
            location: header.drop_location,
            stage: last.stage,
            level: last.level,
            hop: last.hop,
        };
        if self.counts.len() < COUNTS_MAX || self.counts.contains_key(&key) {
            let (packets, bytes) = self.counts.entry(key).or_default();
            *packets += header.times();
            *bytes = bytes.saturating_add(header.times() * u64::from(header.bytes));
        }
    }

    /// Adds names of kernel addresses.
    pub fn names(&mut self, names: &Names) {
        self.names.symbols.extend(names.symbols.clone());
    }

    /// Adds names of hops.
    pub fn hops(&mut self, hops: Vec<(u16, HopName)>) {
        self.hops.extend(hops);
    }

    /// The names of a hop.
    pub fn hop(&self, number: u16) -> Option<&HopName> {
        self.hops.get(&number)
    }

    /// The locations that are new since the last call.
    pub fn take_new_locations(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.new_locations)
    }

    /// The locations without a name.
    pub fn unnamed_locations(&self) -> Vec<u64> {
        let is_unnamed = |location: &u64| !self.names.symbols.contains_key(location);
        self.locations.iter().copied().filter(is_unnamed).collect()
    }

    /// The counts so far, with names.
    pub fn counts(&self) -> Vec<DropCount> {
        let count = |(key, &(packets, bytes)): (&DropKey, &(u64, u64))| DropCount {
            packets,
            bytes,
            reason: self.names.drop_reasons.get(&key.reason).cloned().unwrap_or_default(),
            location: self.names.symbols.get(&key.location).cloned().unwrap_or_default(),
            stage: &STAGES[usize::from(key.stage)],
            level: key.level,
            hop: self.hops.get(&key.hop).cloned().unwrap_or_default(),
        };
        self.counts.iter().map(count).collect()
    }
}

#[cfg(test)]
mod tests {
    use overlay_trace_common::stage_map::{BATCH_WAIT, COPY, GRO};

    use super::*;
    use overlay_trace_format::{encode_path, encode_record};

    #[test]
    fn drops_are_counted_where_they_happen() {
        let reasons = BTreeMap::from([(7, "CPU_BACKLOG".into())]);
        let mut drops = Drops::new(Names { drop_reasons: reasons, ..Names::default() });
        drops.hops(vec![(3, HopName { netns: "node2".into(), device: "eth0".into(), ..HopName::default() })]);
        let span = |stage| Span { ns: 5, hop: 3, level: 1, stage, cpu: None };
        for (outcome, path) in [
            (Outcome::Dropped, vec![span(COPY), span(GRO), span(BATCH_WAIT)]),
            (Outcome::Dropped, vec![span(GRO)]),
            (Outcome::Delivered, vec![span(GRO)]),
            (Outcome::Dropped, vec![]),
        ] {
            let header = RecordHeader {
                drop_reason: 7,
                drop_location: if outcome == Outcome::Dropped { 0xf00 } else { 0 },
                bytes: 100,
                outcome: outcome as u8,
                ..Default::default()
            };
            let mut bytes = Vec::new();
            encode_record(&header, &encode_path(&path), &mut bytes);
            drops.add(&bytes);
            drops.add(&bytes[..bytes.len() / 3]);
        }
        let [drop] = &drops.counts()[..] else { panic!("{:?}", drops.counts()) };
        assert_eq!((drop.packets, drop.bytes, drop.reason.as_str()), (2, 200, "CPU_BACKLOG"));
        assert_eq!((drop.stage.name, drop.hop.device.as_str()), ("gro", "eth0"));
        assert_eq!((drops.take_new_locations(), drops.take_new_locations()), (vec![0xf00], vec![]));
        assert_eq!(drops.unnamed_locations(), [0xf00]);
        let symbols = BTreeMap::from([(0xf00, "enqueue_to_backlog".into())]);
        drops.names(&Names { symbols, ..Names::default() });
        assert!(drops.unnamed_locations().is_empty());
        assert_eq!(drops.counts()[0].location, "enqueue_to_backlog");
    }
}
