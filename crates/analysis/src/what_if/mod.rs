//! What a packet would take without a part of its network: from a recording alone.
//!
//! What goes is the work of the stages that go, net of probe overhead: that much is certain, but for the error of that
//! overhead. Waiting is not as simple. A queue that goes takes its wait with it, unless
//! the CPU was busy with what still has to be done; and in the queues that stay packets wait behind the work of
//! others, which is less. So there is an estimate and an interval:
//!
//! - *at least*: the work that goes, where all waiting stays;
//! - *estimate*: the work and the waiting that go, and of the waiting behind other packets the part that their work
//!   becomes less; of what may go or stay the half;
//! - *at most*: all that goes or may go, and nobody waits behind others any more.
//!
//! Each packet is reckoned anew, so percentiles are those of packets, not of stages. Waiting in sockets is the
//! program's, and stays.

mod change;
mod shapes;

use anyhow::{Result, ensure};
use overlay_trace_common::record::RecordHeader;

pub use change::{Change, Part};

use crate::breakdown::{Dist, PathAssembler, TracedPacket, file_name};

use overlay_trace_format::{Balance, ProbeSet, Recording};
use shapes::{Parts, Shapes};

/// How far the measured cost of the probes may be off.
const COST_TOLERANCE: f64 = 0.1;

/// The packets of a recording, as they are and as they would be.
pub struct WhatIf {
    /// Name of the recording's file, without its folder.
    pub file: String,
    pub node: String,
    pub kernel: String,
    pub probe_set: String,
    /// Whether the records that were read are those that the recorder counted.
    pub balance: Balance,
    /// Whether the recorder finished.
    pub complete: bool,
    /// The packets' latency net of probe overhead, in ns.
    pub now: Dist,
    /// Without each part that the packets come by.
    pub predictions: Vec<Prediction>,
}

/// The packets' predicted latency, in ns.
pub struct Prediction {
    pub change: Change,
    /// As estimated.
    pub then: Dist,
    /// If as little is gained as possible, and as much.
    pub slowest: Dist,
    pub fastest: Dist,
}

/// A gain in ns: as estimated, at least and at most.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Gain {
    pub estimate: f64,
    pub least: f64,
    pub most: f64,
}

impl Prediction {
    /// The gain by what `of` says of distributions: their mean, or a percentile.
    pub fn gain(&self, now: &Dist, of: impl Fn(&Dist) -> f64) -> Gain {
        let less = |then: &Dist| of(now) - of(then);
        Gain { estimate: less(&self.then), least: less(&self.slowest), most: less(&self.fastest) }
    }
}

/// The work of all packets, in ns, net of probe overhead; and what of it goes.
#[derive(Clone, Default)]
struct Work {
    all: f64,
    goes: Vec<f64>,
}

impl WhatIf {
    /// Reads a recording, twice, and reckons the packets that are wanted without each of `changes`; those that
    /// would not change anything are left out.
    ///
    /// # Errors
    ///
    /// One sentence: the recording cannot be read or is damaged, was not made with the set `full`, or the probes' cost
    /// was not measured.
    pub fn of(
        recording: &Recording,
        changes: &[Change],
        wanted: &dyn Fn(&RecordHeader) -> bool,
    ) -> Result<WhatIf> {
        let set = &recording.header.probe_set;
        ensure!(
            set == ProbeSet::Full.name(),
            "the probe set {set} does not tell a stage from what follows it unseen, so that what would be left without one \
             is not known: record with --probes full, where the kernel allows it"
        );
        let mut shapes = Shapes::new(recording, changes);
        ensure!(
            shapes.costs_are_known(),
            "the probes' cost was not measured on the machine that recorded: what it is without them is not known"
        );
        let mut work = Work { all: 0.0, goes: vec![0.0; changes.len()] };
        read(recording, &mut |packet| {
            if wanted(packet.header) {
                shapes.add_work(packet, &mut work);
            }
        })?;
        let mut all = Pass::new(changes.len());
        let records = read(recording, &mut |packet| {
            if wanted(packet.header) {
                let times = packet.header.times();
                let (now, parts) = shapes.parts(packet);
                all.add(now, parts, times, &work);
            }
        })?;
        let predictions = changes.iter().cloned().zip(all.predictions);
        let predictions = predictions.map(|(change, dists)| {
            let [then, slowest, fastest] = dists;
            Prediction { change, then, slowest, fastest }
        });
        Ok(WhatIf {
            file: file_name(recording),
            balance: recording.balance(records),
            complete: recording.complete,
            node: recording.header.node.clone(),
            kernel: recording.header.kernel.clone(),
            probe_set: recording.header.probe_set.clone(),
            predictions: predictions.filter(|prediction| prediction.fastest.sum() < all.now.sum()).collect(),
            now: all.now,
        })
    }
}

/// The second reading.
struct Pass {
    now: Dist,
    /// By change: as estimated, slowest, fastest.
    predictions: Vec<[Dist; 3]>,
}

impl Pass {
    fn new(changes: usize) -> Pass {
        Pass { now: Dist::default(), predictions: vec![Default::default(); changes] }
    }

    fn add(&mut self, now: f64, parts: &[Parts], times: u64, work: &Work) {
        self.now.add_times(now.round() as u64, times);
        for ((dists, parts), goes) in self.predictions.iter_mut().zip(parts).zip(&work.goes) {
            if *goes == 0.0 && parts.is_nothing() {
                // Not even others' work becomes less.
                dists.iter_mut().for_each(|dist| dist.add_times(now.round() as u64, times));
                continue;
            }
            let less = (goes / work.all.max(1.0)).min(1.0);
            let doubt = COST_TOLERANCE * parts.cost;
            let estimate = parts.work + parts.wait + parts.may_go / 2.0 + parts.shared * less;
            let least = parts.work - doubt;
            let most = parts.work + doubt + parts.wait + parts.may_go + parts.shared;
            // Of times that are shorter than the probes' cost, the larger sum can be the smaller one.
            for (dist, gain) in dists.iter_mut().zip([estimate, least.min(estimate), most.max(estimate)]) {
                dist.add_times((now - gain.clamp(0.0, now)).round() as u64, times);
            }
        }
    }
}

/// Reads all packets, and returns the number of records.
fn read(recording: &Recording, each: &mut impl FnMut(&TracedPacket<'_>)) -> Result<u64> {
    let mut assembler = PathAssembler::new(&recording.header);
    let mut records = 0;
    recording.for_each_record(|record| {
        records += 1;
        assembler.add(&record, each);
    })?;
    assembler.finish(each);
    Ok(records)
}
