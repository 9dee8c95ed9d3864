//! The samples of a recording, read from it as often as needed.

use anyhow::Result;
use overlay_trace_common::{path::Span, record::Flow};
use rustc_hash::FxHashMap;

use super::{
    drop_evidence::DropCollector,
    pairs::Pairs,
    sample::{Of, RowSpan, Sample, flow},
    tcp::TcpCollector,
};
use crate::breakdown::{Dist, PathAssembler, Rows, TracedPacket};
use overlay_trace_format::Recording;

/// At most this many flows are kept apart; the packets of further ones share one entry.
const FLOWS_MAX: usize = 1 << 16;

/// The samples of a recording.
pub(super) struct Samples<'a> {
    recording: &'a Recording,
    of: Of,
    pub rows: Rows,
    /// The mean time of each flow's packets, in ns.
    means: FxHashMap<Flow, u64>,
    /// Requests without an answer, as of the last reading.
    pub unpaired: u64,
    /// Those of them that should have had one.
    pub unanswered: u64,
    /// Receives every TCP segment while packets are read, if present.
    pub tcp: Option<TcpCollector>,
    /// The same for every packet.
    pub drops: Option<DropCollector>,
}

impl<'a> Samples<'a> {
    pub fn new(recording: &'a Recording, of: Of) -> Samples<'a> {
        let rows = Rows::new(&recording.header, &recording.hops);
        Samples {
            recording,
            of,
            rows,
            means: FxHashMap::default(),
            unpaired: 0,
            unanswered: 0,
            tcp: None,
            drops: None,
        }
    }

    /// Reads the recording for the distribution of the times that the threshold applies to.
    pub fn times(&mut self) -> Result<Dist> {
        let mut times = Dist::default();
        if self.of != Of::Flows {
            self.read(|sample| times.add_times(sample.deciding_ns, sample.header.times()))?;
            return Ok(times);
        }
        let mut sums: FxHashMap<Flow, (u128, u64)> = FxHashMap::default();
        self.read(|sample| {
            let flow = flow(sample.header);
            let is_full = sums.len() >= FLOWS_MAX && !sums.contains_key(&flow);
            let (ns, packets) = sums.entry(if is_full { Flow::default() } else { flow }).or_default();
            *ns += u128::from(sample.ns) * u128::from(sample.header.times());
            *packets += sample.header.times();
        })?;
        let mean = |(ns, packets): (u128, u64)| u64::try_from(ns / u128::from(packets)).unwrap_or(u64::MAX);
        self.means = sums.into_iter().map(|(flow, sum)| (flow, mean(sum))).collect();
        self.means.values().for_each(|&mean| times.add(mean));
        Ok(times)
    }

    /// How many flows are slow, and how many are ordinary.
    pub fn flows(&self, threshold_ns: u64) -> (u64, u64) {
        let slow = self.means.values().filter(|&&mean| mean > threshold_ns).count();
        (slow as u64, (self.means.len() - slow) as u64)
    }

    /// Calls `each` with every sample.
    pub fn read(&mut self, mut each: impl FnMut(&Sample<'_>)) -> Result<()> {
        let Samples { recording, of, rows, means, tcp, drops, .. } = self;
        let (mut pairs, mut path) = (Pairs::new(&recording.translations), Vec::new());
        let of_no_flow = means.get(&Flow::default()).copied();
        let mut take = |packet: &TracedPacket<'_>| {
            let numbers = rows.of(packet);
            if let Some(tcp) = tcp {
                tcp.add(packet, numbers);
            }
            if let Some(drops) = drops {
                drops.add(packet, numbers);
            }
            path.clear();
            let span = |(&row, &Span { cpu, ns, .. }): (&u32, &Span)| RowSpan { row, cpu, ns };
            path.extend(numbers.iter().zip(packet.path).map(span));
            let TracedPacket { header, start_ns, .. } = *packet;
            let ns = packet.ns();
            let sample = Sample { header, start_ns, path: &path, ns, deciding_ns: ns, retransmission_ns: 0 };
            match of {
                Of::Packets => each(&sample),
                Of::Requests if packet.is_unwanted() => {}
                Of::Requests => pairs.add(&sample, rows, &mut each),
                Of::Flows => {
                    let mean = means.get(&flow(header)).copied().or(of_no_flow);
                    each(&Sample { deciding_ns: mean.unwrap_or(ns), ..sample });
                }
            }
        };
        let mut paths = PathAssembler::new(&recording.header);
        recording.for_each_record(|record| paths.add(&record, &mut take))?;
        paths.finish(&mut take);
        pairs.finish(rows, &mut each);
        self.unpaired = pairs.unpaired();
        self.unanswered = pairs.unanswered();
        Ok(())
    }
}
