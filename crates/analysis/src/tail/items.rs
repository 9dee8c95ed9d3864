//! What is slow or ordinary: packets, requests with their answers, or flows.

use anyhow::Result;
use clap::ValueEnum;
use overlay_trace_common::{
    path::Span,
    record::{Flow, RecordHeader},
};
use rustc_hash::FxHashMap;

use super::{pairs::Pairs, tcp::TcpCollector};
use crate::breakdown::{Dist, PathAssembler, Rows, TracedPacket};
use overlay_trace_format::Recording;

/// So many flows are told apart; the packets of further ones are together in one.
const FLOWS_MAX: usize = 1 << 16;

/// What is slow or ordinary.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Of {
    /// Each packet
    #[default]
    Packets,
    /// Each request until its answer has been read, as one
    Requests,
    /// The packets of a flow (protocol, addresses, ports) by their mean
    Flows,
}

impl Of {
    /// What it is called in every output.
    pub fn name(self) -> &'static str {
        match self {
            Of::Packets => "packets",
            Of::Requests => "requests",
            Of::Flows => "flows",
        }
    }
}

/// A segment of a way.
#[derive(Clone, Copy)]
pub(super) struct Stretch {
    /// The number of its row.
    pub row: u32,
    /// The CPU that the packet was on, where that is known.
    pub cpu: Option<u16>,
    pub ns: u64,
}

/// A packet, or a request with its answer.
#[derive(Clone, Copy)]
pub(super) struct Item<'a> {
    /// The packet's, or the request's.
    pub header: &'a RecordHeader,
    pub start_ns: u64,
    pub way: &'a [Stretch],
    /// All of it.
    pub ns: u64,
    /// What decides whether it is slow, in ns: its own time, or the mean of its flow.
    pub by_ns: u64,
    /// The part of it between a packet that was dropped and the next attempt, in ns.
    pub again_ns: u64,
}

/// The items of a recording, to be read as often as needed.
pub(super) struct Items<'a> {
    recording: &'a Recording,
    of: Of,
    pub rows: Rows,
    /// The mean time of each flow's packets, in ns.
    means: FxHashMap<Flow, u64>,
    /// Requests of which no answer was found, as far as it was read last.
    pub unpaired: u64,
    /// Collects TCP's segments while packets are read, if it is there.
    pub tcp: Option<TcpCollector>,
}

impl<'a> Items<'a> {
    pub fn new(recording: &'a Recording, of: Of) -> Items<'a> {
        let rows = Rows::new(&recording.header, &recording.hops);
        Items { recording, of, rows, means: FxHashMap::default(), unpaired: 0, tcp: None }
    }

    /// The distribution of what decides, which is worked out by reading the recording.
    pub fn times(&mut self) -> Result<Dist> {
        let mut times = Dist::default();
        if self.of != Of::Flows {
            self.read(|item| times.add_times(item.by_ns, item.header.times()))?;
            return Ok(times);
        }
        let mut sums: FxHashMap<Flow, (u128, u64)> = FxHashMap::default();
        self.read(|item| {
            let flow = flow(item.header);
            let is_full = sums.len() >= FLOWS_MAX && !sums.contains_key(&flow);
            let (ns, packets) = sums.entry(if is_full { Flow::default() } else { flow }).or_default();
            *ns += u128::from(item.ns) * u128::from(item.header.times());
            *packets += item.header.times();
        })?;
        let mean = |(ns, packets): (u128, u64)| u64::try_from(ns / u128::from(packets)).unwrap_or(u64::MAX);
        self.means = sums.into_iter().map(|(flow, sum)| (flow, mean(sum))).collect();
        self.means.values().for_each(|&mean| times.add(mean));
        Ok(times)
    }

    /// How many flows are slow, and how many are not.
    pub fn flows(&self, threshold_ns: u64) -> (u64, u64) {
        let slow = self.means.values().filter(|&&mean| mean > threshold_ns).count();
        (slow as u64, (self.means.len() - slow) as u64)
    }

    /// Calls `each` with every item.
    pub fn read(&mut self, mut each: impl FnMut(&Item<'_>)) -> Result<()> {
        let Items { recording, of, rows, means, tcp, .. } = self;
        let (mut pairs, mut way) = (Pairs::default(), Vec::new());
        let of_no_flow = means.get(&Flow::default()).copied();
        let mut take = |packet: &TracedPacket<'_>| {
            let numbers = rows.of(packet);
            if let Some(tcp) = tcp {
                tcp.add(packet, numbers);
            }
            way.clear();
            let stretch = |(&row, &Span { cpu, ns, .. }): (&u32, &Span)| Stretch { row, cpu, ns };
            way.extend(numbers.iter().zip(packet.path).map(stretch));
            let TracedPacket { header, start_ns, .. } = *packet;
            let ns = packet.ns();
            let item = Item { header, start_ns, way: &way, ns, by_ns: ns, again_ns: 0 };
            match of {
                Of::Packets => each(&item),
                Of::Requests if packet.is_unwanted() => {}
                Of::Requests => pairs.add(&item, rows, &mut each),
                Of::Flows => {
                    let mean = means.get(&flow(header)).copied().or(of_no_flow);
                    each(&Item { by_ns: mean.unwrap_or(ns), ..item });
                }
            }
        };
        let mut wholes = PathAssembler::new(&recording.header);
        recording.for_each_record(|record| wholes.add(&record, &mut take))?;
        wholes.finish(&mut take);
        self.unpaired = pairs.unpaired();
        Ok(())
    }
}

/// What the packets of a flow have in common.
pub(super) fn flow(header: &RecordHeader) -> Flow {
    Flow { ip_id: 0, sequence: 0, ..header.flow }
}
