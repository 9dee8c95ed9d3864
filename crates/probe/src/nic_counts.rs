//! What passed the NICs during a recording: the kernel side's counts beside the drivers' own.

use std::{
    collections::HashMap,
    sync::mpsc::{Sender, channel},
};

use anyhow::{Context, Result};
use aya::maps::{HashMap as Map, MapData, PerCpuArray};
use overlay_trace_common::edges::{Amount, EdgeCounts, FATES};
use overlay_trace_format::{HopName, NicCount, NicDirection, NicUnit};

use crate::{
    load::Loader,
    sys::{
        driver_counts::{Device, DriverCount, DriverCounts, NamedCount},
        lookup,
    },
    worker_message::Request,
};

/// Drivers that count what they hand over or take at once; others count packets on the wire.
const COUNT_PACKETS: [&str; 4] = ["virtio_net", "vmxnet3", "tun", "veth"];

/// [`EdgeCounts`] for aya's typed interface.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct RawCounts(EdgeCounts);
// SAFETY: arrays of a repr(C) struct of two integers.
unsafe impl aya::Pod for RawCounts {}

/// The counts at one moment: by number of the edge, and by device.
#[derive(Default)]
pub struct Moment {
    edges: HashMap<u32, EdgeCounts>,
    drivers: HashMap<Device, DriverCount>,
}

/// What passes the NICs.
pub struct NicCounts {
    counts: PerCpuArray<MapData, RawCounts>,
    /// By number of the edge: its hop.
    hops: Map<MapData, u32, u32>,
    /// Until the recording begins.
    drivers: Option<DriverCounts>,
    start: Moment,
}

impl NicCounts {
    /// Takes the maps over from the loader.
    ///
    /// # Errors
    ///
    /// The kernel object has no such maps.
    pub fn new(loader: &mut Loader) -> Result<NicCounts> {
        Ok(NicCounts {
            counts: loader.take_map("EDGE_COUNTS")?,
            hops: loader.take_map("EDGE_HOPS")?,
            drivers: Some(DriverCounts::open()),
            start: Moment::default(),
        })
    }

    /// The recording begins now.
    ///
    /// # Errors
    ///
    /// The kernel side's counts cannot be read.
    pub fn start(&mut self) -> Result<()> {
        let drivers = self.drivers.take().map(|drivers| drivers.read()).unwrap_or_default();
        self.start = Moment { drivers, edges: self.edges()? };
        Ok(())
    }

    /// What the drivers have counted of the NICs that packets have passed; packets that are in flight now have yet to end.
    /// The privileged thread is asked, and waited for as for every look-up.
    pub fn drivers_now(&self, requests: &Sender<Request>) -> HashMap<Device, NamedCount> {
        let hops: Vec<u16> = self.hops.iter().flatten().map(|(_, hop)| hop as u16).collect();
        if hops.is_empty() {
            return HashMap::new();
        }
        let (send, answer) = channel();
        // A thread that has ended drops the request, and with it the sender.
        let _ = requests.send(Request::DriverCounts(hops, send));
        answer.recv_timeout(lookup::LIMIT).unwrap_or_else(|_| {
            tracing::warn!(
                "the counters of the NICs' drivers are missing: reading them fails or takes too long"
            );
            HashMap::new()
        })
    }

    /// What has passed each NIC between [`start`](NicCounts::start) and the moment when its driver had counted `end`.
    /// `name` gives the names of hops.
    ///
    /// # Errors
    ///
    /// The kernel side's counts cannot be read.
    pub fn since_start(
        &self,
        end: &HashMap<Device, NamedCount>,
        name: impl Fn(u16) -> Option<HopName>,
    ) -> Result<Vec<NicCount>> {
        let edges = self.edges()?;
        let mut seen = Vec::new();
        for entry in self.hops.iter() {
            let (slot, hop) = entry.context("the kernel side's list of edges cannot be read")?;
            if let Some(name) = name(hop as u16) {
                seen.push((hop as u16, slot, (name.netns_inode, name.device)));
            }
        }
        seen.sort_unstable();
        let mut counts = Vec::new();
        for (hop, slot, device) in seen {
            let (Some((now, driver)), Some(edge)) = (end.get(&device), edges.get(&slot)) else { continue };
            let before = self.start.drivers.get(&device).copied().unwrap_or_default();
            let edge = growth(self.start.edges.get(&slot), edge);
            let unit =
                if COUNT_PACKETS.contains(&driver.as_str()) { NicUnit::Packets } else { NicUnit::Segments };
            for (direction, by_driver) in [
                (NicDirection::Received, now.received.saturating_sub(before.received)),
                (NicDirection::Sent, now.sent.saturating_sub(before.sent)),
            ] {
                let driver = driver.clone();
                counts.push(NicCount { hop, driver, by_driver, ..NicCount::new(direction, unit, &edge) });
            }
        }
        Ok(counts)
    }

    /// The kernel side's counts, summed over the CPUs.
    fn edges(&self) -> Result<HashMap<u32, EdgeCounts>> {
        let mut edges = HashMap::new();
        for slot in self.hops.keys() {
            let slot = slot.context("the kernel side's list of edges cannot be read")?;
            let mut sum: EdgeCounts = [[Amount::default(); FATES]; 2];
            for RawCounts(cpu) in self.counts.get(&slot, 0)?.iter() {
                combine(&mut sum, cpu, u64::wrapping_add);
            }
            edges.insert(slot, sum);
        }
        Ok(edges)
    }
}

fn growth(before: Option<&EdgeCounts>, now: &EdgeCounts) -> EdgeCounts {
    let mut growth = *now;
    if let Some(before) = before {
        combine(&mut growth, before, u64::wrapping_sub);
    }
    growth
}

fn combine(target: &mut EdgeCounts, other: &EdgeCounts, with: impl Fn(u64, u64) -> u64) {
    for (target, other) in target.as_flattened_mut().iter_mut().zip(other.as_flattened()) {
        target.packets = with(target.packets, other.packets);
        target.segments = with(target.segments, other.segments);
    }
}
