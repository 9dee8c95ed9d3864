//! What a second recording adds to a first one, per packet or per byte, stage by stage.

use std::collections::HashMap;

use super::{Analysis, Dist, Key, Row};

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
    /// 50th and 99th percentile of the packets that were there, in ns.
    pub p50: u64,
    pub p99: u64,
    /// The same where there were enough packets for them.
    pub supported_p50: Option<u64>,
    pub supported_p99: Option<u64>,
}

impl Side {
    fn new(dist: &Dist, analysis: &Analysis) -> Side {
        let each = |all: u64| dist.sum() as f64 / all.max(1) as f64;
        Side {
            packets: dist.count(),
            sum: dist.sum(),
            per_packet: each(analysis.packets()),
            per_byte: each(analysis.bytes),
            p50: dist.quantile(0.5),
            p99: dist.quantile(0.99),
            supported_p50: dist.supported(0.5),
            supported_p99: dist.supported(0.99),
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
    /// Without namespace and device, which have other names elsewhere, unless both were analysed by
    /// [`By::Stage`](super::By::Stage).
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
    /// Matches the rows of two analyses by [`By::Anywhere`](super::By::Anywhere); or by [`By::Stage`](super::By::Stage),
    /// then without the prefixes that the namespaces of each have in common.
    pub fn new(mut first: Analysis, mut second: Analysis, per: Per) -> Diff {
        first.strip_netns_prefix();
        second.strip_netns_prefix();
        let rows = matched(&first, &second);
        Diff { first, second, per, rows }
    }

    /// End to end: the sum of all rows.
    pub fn total(&self) -> DiffRow {
        let side = |analysis: &Analysis| Side::new(&analysis.end_to_end, analysis);
        DiffRow { key: Key::default(), first: side(&self.first), second: side(&self.second) }
    }
}

/// The rows of both, in the order of `second`; what only `first` has stands behind what it follows there.
fn matched(first: &Analysis, second: &Analysis) -> Vec<DiffRow> {
    let row = |key: &Key| DiffRow { key: key.clone(), first: Side::default(), second: Side::default() };
    let side = |row: &Row, analysis| Side::new(&row.raw, analysis);
    let mut index: HashMap<&Key, usize> = HashMap::new();
    // Number 0 stands for the beginning; behind each row, those that only the first recording has.
    let mut common = vec![(None, Vec::new())];
    for known in &second.rows {
        index.insert(&known.key, common.len());
        common.push((Some(DiffRow { second: side(known, second), ..row(&known.key) }), Vec::new()));
    }
    let mut at = 0;
    for own in &first.rows {
        let own_side = side(own, first);
        match index.get(&own.key) {
            Some(&known) => {
                at = known;
                if let (Some(row), _) = &mut common[at] {
                    row.first = own_side;
                }
            }
            None => common[at].1.push(DiffRow { first: own_side, ..row(&own.key) }),
        }
    }
    common.into_iter().flat_map(|(row, behind)| row.into_iter().chain(behind)).collect()
}
