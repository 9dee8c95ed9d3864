//! Records without end.

use anyhow::Result;
use overlay_trace_common::{
    flags::RecordFlags,
    path::{CODE_CPU, CODE_MORE, CODE_POSITION, VALUE_BITS, VALUE_MASK, word},
    record::{Outcome, RecordHeader},
    stage_map::BATCH_WAIT,
};
use overlay_trace_format::{RecordView, Recording};

/// Makes records from those of a real recording.
pub struct Generator {
    ways: Vec<(RecordHeader, Vec<u32>)>,
    random: Random,
    id: u64,
    now: u64,
    /// Of a thousand packets, so many are interrupted.
    interrupted: u64,
    way: Vec<u32>,
    /// The packet that was cut last, and how many of its parts have not come yet.
    parent: (u64, u64),
    /// The time of all records so far.
    pub ns: u128,
}

/// One packet in so many is cut.
const CUT: u64 = 1000;
/// Into so many parts.
const PARTS: u64 = 45;
/// One part in so many is lost: the others wait for it, until there are too many that do.
const LOST: u64 = 50;

impl Generator {
    /// Generators of different numbers make different records.
    pub fn new(source: &Recording, number: u64, interrupted: u64) -> Result<Generator> {
        let mut ways = Vec::new();
        source.for_each_record(|record| {
            let (header, way) = (record.header, record.path);
            // The recording is from before ways told their CPUs: they are on two in turn.
            let on = |cpu| [word(CODE_CPU, cpu)];
            let (first, second) = way.split_at(way.len() / 2);
            let way = [&on(0)[..], first, &on(1)[..], second].concat();
            // Long times take two words, which is of no interest here.
            let is_short = way.iter().all(|&word| (word >> VALUE_BITS) as u8 != CODE_MORE);
            if is_short {
                ways.push((header, way));
            }
        })?;
        let random = Random(number + 1);
        let id = number << 48;
        Ok(Generator { ways, random, id, now: 1 << 40, interrupted, way: Vec::new(), parent: (0, 0), ns: 0 })
    }

    /// Hands `records` records to `each`.
    pub fn generate(&mut self, records: u64, mut each: impl FnMut(RecordView<'_>)) {
        for _ in 0..records {
            let header = self.next();
            each(RecordView { header, path: &self.way });
        }
    }

    fn next(&mut self) -> RecordHeader {
        let template = self.random.below(self.ways.len() as u64) as usize;
        let mut header = self.ways[template].0;
        let at = if self.random.below(1000) < self.interrupted {
            self.random.below(self.ways[template].1.len() as u64) as usize
        } else {
            usize::MAX
        };
        self.way.clear();
        let mut total = 0;
        for (number, &next) in self.ways[template].1.iter().enumerate() {
            let (stage, typical) = ((next >> VALUE_BITS) as u8, next & VALUE_MASK);
            if stage >= CODE_POSITION {
                self.way.push(next);
                continue;
            }
            let ns = (typical / 2 + self.random.below(u64::from(typical | 15)) as u32).min(VALUE_MASK);
            total += u64::from(ns);
            self.way.push(word(stage, ns));
            if number == at {
                total += u64::from(5000 + ns);
                self.way.extend([word(BATCH_WAIT, 5000), word(stage, ns)]);
            }
        }
        self.id += 1;
        self.now += 700;
        self.ns += u128::from(total);
        header = RecordHeader { id: self.id, start_ns: self.now, end_ns: self.now + total, ..header };
        self.relate(&mut header);
        header
    }

    /// Cuts a packet now and then; the packets after it are its parts.
    fn relate(&mut self, header: &mut RecordHeader) {
        let (parent, left) = self.parent;
        if left > 0 {
            self.parent.1 -= 1;
            if self.random.below(LOST) > 0 {
                header.parent = parent;
                header.flags |= RecordFlags::CHILD;
            }
        } else if self.random.below(CUT) == 0 {
            header.outcome = Outcome::Split as u8;
            header.flags |= RecordFlags::PARENT;
            header.segments = PARTS as u16;
            self.parent = (header.id, PARTS);
        }
    }
}

/// Numbers that look random (a multiplicative congruential generator; the upper half is used).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 32) * limit) >> 32
    }
}
