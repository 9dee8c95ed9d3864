//! What a second recording adds to a first one, per packet or per byte, stage by stage.

use super::{Analysis, Dist, Key};

/// What times are divided by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Per {
    /// Packets
    #[default]
    Packet,
    /// Bytes of the packets; shown are thousands of them
    Byte,
}

impl Per {
    /// In every output for people.
    pub fn name(self) -> &'static str {
        match self {
            Per::Packet => "per packet",
            Per::Byte => "per 1,000 bytes",
        }
    }
}

/// One recording's part of a row.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Side {
    /// Packets that were there.
    pub packets: u64,
    /// Their time in ns, exact.
    pub sum: u128,
    /// The sum in ns, spread over all packets of the recording: a side's values of all rows add up to
    /// its mean end-to-end time.
    pub per_packet: f64,
    /// The same, spread over all bytes of the recording's packets.
    pub per_byte: f64,
    /// 99th percentile of the packets that were there, in ns.
    pub p99: u64,
}

impl Side {
    fn new(dist: &Dist, analysis: &Analysis) -> Side {
        let each = |all: u64| dist.sum() as f64 / all.max(1) as f64;
        Side {
            packets: dist.count(),
            sum: dist.sum(),
            per_packet: each(analysis.packets()),
            per_byte: each(analysis.bytes),
            p99: dist.quantile(0.99),
        }
    }

    /// ns per packet, or per 1,000 bytes.
    pub fn each(&self, per: Per) -> f64 {
        match per {
            Per::Packet => self.per_packet,
            Per::Byte => self.per_byte * 1000.0,
        }
    }
}

/// A stage in two recordings.
#[derive(Clone, Debug)]
pub struct DiffRow {
    /// Without namespace and device, which have other names elsewhere.
    pub key: Key,
    pub first: Side,
    pub second: Side,
}

impl DiffRow {
    /// What the second recording adds, in ns per packet, or per 1,000 bytes.
    pub fn delta(&self, per: Per) -> f64 {
        self.second.each(per) - self.first.each(per)
    }
}

/// The difference of two recordings.
pub struct Diff {
    pub first: Analysis,
    pub second: Analysis,
    /// What people are shown.
    pub per: Per,
    /// In the order of the packets' path in the second recording; what only the first one has stands
    /// behind what it follows there.
    pub rows: Vec<DiffRow>,
}

impl Diff {
    /// Matches the rows of two analyses by [`By::Anywhere`](super::By::Anywhere).
    pub fn new(first: Analysis, second: Analysis, per: Per) -> Diff {
        let mut rows: Vec<DiffRow> = Vec::new();
        merge(&mut rows, &second, |row| &mut row.second);
        merge(&mut rows, &first, |row| &mut row.first);
        Diff { first, second, per, rows }
    }

    /// End to end: the sum of all rows.
    pub fn total(&self) -> DiffRow {
        let side = |analysis: &Analysis| Side::new(&analysis.end_to_end, analysis);
        DiffRow { key: Key::default(), first: side(&self.first), second: side(&self.second) }
    }
}

/// Adds the rows of `analysis`, on the side that `side` chooses.
fn merge(rows: &mut Vec<DiffRow>, analysis: &Analysis, side: impl Fn(&mut DiffRow) -> &mut Side) {
    let mut next = 0;
    for row in &analysis.rows {
        let at = rows.iter().position(|known| known.key == row.key).unwrap_or_else(|| {
            let key = row.key.clone();
            rows.insert(next, DiffRow { key, first: Side::default(), second: Side::default() });
            next
        });
        next = at + 1;
        *side(&mut rows[at]) = Side::new(&row.raw, analysis);
    }
}
