//! Which row of an analysis each span of a path belongs to.

use std::collections::BTreeMap;

use overlay_trace_common::path::Span;
use rustc_hash::FxHashMap;

use super::{
    By, Key,
    direction::{Origin, directions},
    fold::Step,
    hop_keys::HopKeys,
    key::Packed,
    probe_cost::COST_PARTS_SHIFT,
    stages::{Facts, Stages},
    traced_packet::TracedPacket,
};
use overlay_trace_format::{Header, HopName};

/// So many shapes of paths are remembered.
const SHAPES_MAX: usize = 4096;

/// What a row is.
#[derive(Clone, Copy)]
enum Row {
    Stage(Packed),
    /// A time between packets, behind one whose last span is in the row of this number.
    Between(Between, u32),
}

/// What is waited for between two packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Between {
    /// That the answer of a request begins, by the program that got it.
    Answer,
    /// The same, where the request has left the machine: wherever it is then.
    Return,
    /// That a packet which was dropped is sent again.
    Retransmission,
    /// That a connection is made.
    Connection,
    /// That the other segments of a request are sent and read, before the last one is sent.
    RequestTransfer,
    /// The same for an answer.
    AnswerTransfer,
    /// That a delayed acknowledgement arrives, for which Nagle's algorithm waits.
    DelayedAck,
    /// That a receiver opens its window again.
    ZeroWindow,
    /// That acknowledgements arrive, before which no more may be sent.
    Window,
    /// That a tail loss probe, or another timer shorter than the minimum RTO, sends a lost segment again.
    LossProbe,
    /// That the call which has read the end of an answer sends an acknowledgement before it returns.
    Acknowledgement,
}

/// The row of each span, by the path without its times and CPUs.
type Shapes = FxHashMap<Box<[Step]>, Box<[u32]>>;

/// The rows of a recording, numbered in order of first appearance.
pub(crate) struct Rows {
    stages: Stages,
    hop_keys: HopKeys,
    index: FxHashMap<Packed, u32>,
    between: FxHashMap<(Between, u32), u32>,
    rows: Vec<Row>,
    /// By whether the packet came from outside the machine.
    shapes: [Shapes; 2],
    shape: Vec<Step>,
}

impl Rows {
    /// For the packets of a recording with this header and these hops.
    pub fn new(header: &Header, hops: &BTreeMap<u16, HopName>) -> Rows {
        Rows {
            stages: Stages::new(header),
            hop_keys: HopKeys::new(hops),
            index: FxHashMap::default(),
            between: FxHashMap::default(),
            rows: Vec::new(),
            shapes: Default::default(),
            shape: Vec::new(),
        }
    }

    /// The number of the row of each span of a packet's path.
    pub fn of(&mut self, packet: &TracedPacket<'_>) -> &[u32] {
        let mut shape = std::mem::take(&mut self.shape);
        shape.clear();
        shape.extend(packet.path.iter().map(Step::of));
        let origin = usize::from(packet.from_device);
        if !self.shapes[origin].contains_key(&*shape) {
            if self.shapes[origin].len() >= SHAPES_MAX {
                self.shapes[origin].clear();
            }
            let rows = self.work_out(packet.path, packet.from_device);
            self.shapes[origin].insert(shape.clone().into(), rows);
        }
        self.shape = shape;
        &self.shapes[origin][&*self.shape]
    }

    fn work_out(&mut self, path: &[Span], from_device: bool) -> Box<[u32]> {
        let (mut hop_keys, mut runs) = (Vec::new(), Vec::new());
        self.hop_keys.of_path(path, &mut hop_keys);
        let origin = Origin { from_device, ..Origin::default() };
        directions(path, &hop_keys, &self.stages, origin, &mut runs);
        let at = path.iter().zip(hop_keys).zip(runs);
        at.map(|((span, hop_key), direction)| {
            let facts = self.stages.of(span.stage);
            let (layer, wait) = (facts.layer, facts.wait);
            let packed =
                Packed::new(By::Stage, layer, span.stage, wait, span.level, direction, hop_key.number);
            let next = self.rows.len() as u32;
            let row = *self.index.entry(packed).or_insert(next);
            if row == next {
                self.rows.push(Row::Stage(packed));
            }
            row
        })
        .collect()
    }

    /// Whether the cost of every kind of probe that was used has been measured.
    pub fn costs_are_known(&self) -> bool {
        self.stages.costs.are_known
    }

    /// By span of a packet's path: what the probe at its beginning has cost, in ns.
    pub fn probe_costs(&self, packet: &TracedPacket<'_>) -> Vec<f64> {
        let origin = Origin { from_device: packet.from_device, ..Origin::default() };
        let costs = self.stages.probe_costs(packet.path, origin);
        costs.into_iter().map(|cost| cost as f64 / f64::from(1 << COST_PARTS_SHIFT)).collect()
    }

    /// How many rows there are so far.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// The number of the row of a time behind a packet that ended in the row `last`.
    pub fn between(&mut self, what: Between, last: u32) -> u32 {
        let next = self.rows.len() as u32;
        let row = *self.between.entry((what, last)).or_insert(next);
        if row == next {
            self.rows.push(Row::Between(what, last));
        }
        row
    }

    /// The key of a row.
    pub fn key(&self, row: u32) -> Key {
        let Stages { layers, names, .. } = &self.stages;
        match self.rows[row as usize] {
            Row::Stage(packed) => packed.name(By::Stage, layers, names, &self.hop_keys.names),
            Row::Between(what, last) => {
                let was_read = self.was_read(last);
                let last = self.key(last);
                let (layer, stage) = match what {
                    Between::Return if !was_read => ("program", "elsewhere"),
                    Between::Answer | Between::Return => ("program", "answering"),
                    Between::Retransmission => ("transport", "retransmission-wait"),
                    Between::Connection => ("transport", "connection-wait"),
                    Between::RequestTransfer => ("transport", "request-transfer"),
                    Between::DelayedAck => ("transport", "delayed-ack-wait"),
                    Between::ZeroWindow => ("transport", "zero-window-wait"),
                    Between::Window => ("transport", "window-wait"),
                    Between::LossProbe => ("transport", "loss-probe-wait"),
                    Between::AnswerTransfer => ("transport", "answer-transfer"),
                    Between::Acknowledgement => ("transport", "acknowledging"),
                };
                Key { layer: Some(layer.into()), stage: Some(stage.into()), kind: "wait", ..last }
            }
        }
    }

    /// Whether a packet whose path ended in a row had reached its transport or its socket.
    fn was_read(&self, row: u32) -> bool {
        match self.rows[row as usize] {
            Row::Stage(packed) => self.stages.of(packed.stage()).delivers.is_certain(),
            // What is sent again was at its transport.
            Row::Between(what, _) => !matches!(what, Between::Answer | Between::Return),
        }
    }

    /// What a stage number means.
    pub fn stage(&self, number: u8) -> &Facts {
        self.stages.of(number)
    }
}
