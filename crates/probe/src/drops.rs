//! What has been dropped so far, for who watches the recording.

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

/// So many places and reasons are told apart.
const MOST: usize = 1024;

/// Reason, location, stage, level, hop.
type At = (u32, u64, u8, u8, u16);

/// Packets that were dropped at one place for one reason.
#[derive(Clone, Debug)]
pub struct DropCount {
    pub packets: u64,
    pub bytes: u64,
    /// The kernel's name of the reason, or its number; empty for "none given".
    pub reason: String,
    /// `function+offset`, or an address; empty for "none given".
    pub location: String,
    /// The stage that the packet was in.
    pub stage: &'static Stage,
    pub level: u8,
    pub hop: HopName,
}

/// What has been dropped.
#[derive(Default)]
pub struct Drops {
    /// Packets and bytes.
    counts: BTreeMap<At, (u64, u64)>,
    names: Names,
    hops: BTreeMap<u16, HopName>,
    /// All places in the kernel where packets were dropped, and those that nobody was asked about yet.
    locations: BTreeSet<u64>,
    unasked: Vec<u64>,
}

impl Drops {
    /// Nothing was dropped; names are known of reasons at least.
    pub fn new(names: Names) -> Drops {
        Drops { names, ..Drops::default() }
    }

    /// Takes up a record, as the kernel side made it, if it is of a packet that was dropped.
    pub fn add(&mut self, record: &[u8]) {
        if let Some(location) = record.get(LOCATION..).and_then(|rest| rest.first_chunk()) {
            let location = u64::from_ne_bytes(*location);
            if location != 0 && self.locations.insert(location) {
                self.unasked.push(location);
            }
        }
        if record.get(OUTCOME) != Some(&(Outcome::Dropped as u8)) {
            return;
        }
        let Some((header, way)) = record_of(record) else { return };
        // Who waited for the CPU was dropped in what it was in the middle of.
        let is_stage =
            |at: &&Span| STAGES.get(usize::from(at.stage)).is_some_and(|stage| stage.layer != Layer::Cpu);
        let Some(last) = way.iter().rev().find(is_stage) else { return };
        let key = (header.drop_reason, header.drop_location, last.stage, last.level, last.hop);
        if self.counts.len() < MOST || self.counts.contains_key(&key) {
            let (packets, bytes) = self.counts.entry(key).or_default();
            *packets += header.times();
            *bytes = bytes.saturating_add(header.times() * u64::from(header.bytes));
        }
    }

    /// Takes up what symbols are called.
    pub fn names(&mut self, names: &Names) {
        self.names.symbols.extend(names.symbols.clone());
    }

    /// Takes up what hops are called.
    pub fn hops(&mut self, hops: Vec<(u16, HopName)>) {
        self.hops.extend(hops);
    }

    /// The places that have come up since this was called last.
    pub fn take_unasked(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.unasked)
    }

    /// The places without a name.
    pub fn unnamed(&self) -> Vec<u64> {
        self.locations.iter().copied().filter(|place| !self.names.symbols.contains_key(place)).collect()
    }

    /// The drops so far, by names.
    pub fn named(&self) -> Vec<DropCount> {
        let drop =
            |(&(reason, location, stage, level, hop), &(packets, bytes)): (&_, &(u64, u64))| DropCount {
                packets,
                bytes,
                reason: self.names.drop_reasons.get(&reason).cloned().unwrap_or_default(),
                location: self.names.symbols.get(&location).cloned().unwrap_or_default(),
                stage: &STAGES[usize::from(stage)],
                level,
                hop: self.hops.get(&hop).cloned().unwrap_or_default(),
            };
        self.counts.iter().map(drop).collect()
    }
}

#[cfg(test)]
mod tests {
    use overlay_trace_common::stage_map::{BATCH_WAIT, COPY, GRO};

    use super::*;
    use overlay_trace_format::{encode_record, encode_way};

    #[test]
    fn drops_are_counted_where_they_happen() {
        let reasons = BTreeMap::from([(7, "CPU_BACKLOG".into())]);
        let mut drops = Drops::new(Names { drop_reasons: reasons, ..Names::default() });
        drops.hops(vec![(3, HopName { netns: "node2".into(), device: "eth0".into(), ..HopName::default() })]);
        let segment = |stage| Span { ns: 5, hop: 3, level: 1, stage, cpu: None };
        for (outcome, way) in [
            (Outcome::Dropped, vec![segment(COPY), segment(GRO), segment(BATCH_WAIT)]),
            (Outcome::Dropped, vec![segment(GRO)]),
            (Outcome::Delivered, vec![segment(GRO)]),
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
            encode_record(&header, &encode_way(&way), &mut bytes);
            drops.add(&bytes);
            drops.add(&bytes[..bytes.len() / 3]);
        }
        let [drop] = &drops.named()[..] else { panic!("{:?}", drops.named()) };
        assert_eq!((drop.packets, drop.bytes, drop.reason.as_str()), (2, 200, "CPU_BACKLOG"));
        assert_eq!((drop.stage.name, drop.hop.device.as_str()), ("gro", "eth0"));
        assert_eq!((drops.take_unasked(), drops.take_unasked()), (vec![0xf00], vec![]));
        assert_eq!(drops.unnamed(), [0xf00]);
        let symbols = BTreeMap::from([(0xf00, "enqueue_to_backlog".into())]);
        drops.names(&Names { symbols, ..Names::default() });
        assert!(drops.unnamed().is_empty());
        assert_eq!(drops.named()[0].location, "enqueue_to_backlog");
    }
}
