//! What of a packet's path goes and what stays, in ns.

use rustc_hash::FxHashMap;

use super::{
    Work,
    change::{Change, Devices, Fate, Visit},
};
use crate::breakdown::{Rows, TracedPacket};
use overlay_trace_format::Recording;

/// So many shapes of paths are remembered.
const SHAPES_MAX: usize = 4096;

/// What of one packet's time goes, in ns, net of probe overhead.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Parts {
    /// Work that goes.
    pub work: f64,
    /// Waiting that goes.
    pub wait: f64,
    /// Work or waiting that may go.
    pub may_go: f64,
    /// Waiting behind other packets that stays.
    pub shared: f64,
    /// The probes' cost of all that goes.
    pub cost: f64,
}

impl Parts {
    pub fn is_nothing(&self) -> bool {
        self.work == 0.0 && self.wait == 0.0 && self.may_go == 0.0
    }
}

/// A path without its times.
struct Shape {
    /// By span: the cost of the probe at its beginning, in ns.
    costs: Vec<f64>,
    /// By span.
    is_work: Vec<bool>,
    is_shared: Vec<bool>,
    /// By change and span.
    fates: Vec<Vec<Fate>>,
}

/// The shapes of a recording's paths.
pub(super) struct Shapes {
    rows: Rows,
    changes: Vec<Change>,
    devices: Devices,
    shapes: FxHashMap<Box<[u32]>, Shape>,
    parts: Vec<Parts>,
}

impl Shapes {
    pub fn new(recording: &Recording, changes: &[Change]) -> Shapes {
        Shapes {
            rows: Rows::new(&recording.header, &recording.hops),
            changes: changes.to_vec(),
            devices: Devices::of(recording),
            shapes: FxHashMap::default(),
            parts: Vec::new(),
        }
    }

    pub fn costs_are_known(&self) -> bool {
        self.rows.costs_are_known()
    }

    /// Adds a packet's work.
    pub fn add_work(&mut self, packet: &TracedPacket<'_>, work: &mut Work) {
        let (shape, times) = (self.shape(packet), packet.header.times() as f64);
        for (at, span) in packet.path.iter().enumerate().filter(|&(at, _)| shape.is_work[at]) {
            let ns = shape.net(at, span.ns) * times;
            work.all += ns;
            for (goes, fates) in work.goes.iter_mut().zip(&shape.fates) {
                match fates[at] {
                    Fate::Goes => *goes += ns,
                    Fate::MayGo => *goes += ns / 2.0,
                    Fate::Stays => {}
                }
            }
        }
    }

    /// A packet's latency net of probe overhead, in ns, and what of it goes by change.
    pub fn parts(&mut self, packet: &TracedPacket<'_>) -> (f64, &[Parts]) {
        let mut parts = std::mem::take(&mut self.parts);
        parts.clear();
        parts.resize(self.changes.len(), Parts::default());
        let shape = self.shape(packet);
        let mut now = 0.0;
        for (at, span) in packet.path.iter().enumerate() {
            let ns = shape.net(at, span.ns);
            now += ns;
            for (parts, fates) in parts.iter_mut().zip(&shape.fates) {
                match fates[at] {
                    Fate::Goes => {
                        *(if shape.is_work[at] { &mut parts.work } else { &mut parts.wait }) += ns;
                        parts.cost += shape.costs[at];
                    }
                    Fate::MayGo => parts.may_go += ns,
                    Fate::Stays if shape.is_shared[at] => parts.shared += ns,
                    Fate::Stays => {}
                }
            }
        }
        self.parts = parts;
        (now.max(0.0), &self.parts)
    }

    fn shape(&mut self, packet: &TracedPacket<'_>) -> &Shape {
        let rows: Box<[u32]> = self.rows.of(packet).into();
        if !self.shapes.contains_key(&rows) {
            if self.shapes.len() >= SHAPES_MAX {
                self.shapes.clear();
            }
            let visits: Vec<Visit> = rows
                .iter()
                .zip(packet.path)
                .map(|(&row, span)| {
                    let key = self.rows.key(row);
                    Visit { key, stage: *self.rows.stage(span.stage) }
                })
                .collect();
            let shape = Shape {
                costs: self.rows.probe_costs(packet),
                is_work: visits.iter().map(|visit| !visit.stage.wait).collect(),
                is_shared: visits.iter().map(|visit| visit.stage.shared_queue).collect(),
                fates: self.changes.iter().map(|change| change.fates(&visits, &self.devices)).collect(),
            };
            self.shapes.insert(rows.clone(), shape);
        }
        &self.shapes[&rows]
    }
}

impl Shape {
    /// The time of a span net of probe overhead, in ns. It can be below zero for a short span, so that the sum is right.
    fn net(&self, at: usize, ns: u64) -> f64 {
        ns as f64 - self.costs[at]
    }
}
