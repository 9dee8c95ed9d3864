//! Which packets the kernel side starts to track, over the course of a recording.

use std::{thread, time::Duration};

use anyhow::Result;
use aya::maps::{Array, MapData};
use overlay_trace_common::abi::TrackingPhase;

use crate::load::Loader;

/// The longest time that a packet is ordinarily in flight.
const IN_FLIGHT: Duration = Duration::from_millis(200);

/// The map by which the kernel side is told the phase.
pub struct Tracking {
    phase: Array<MapData, u64>,
}

impl Tracking {
    /// Takes the map over from the loader; the phase is [`TrackingPhase::Off`].
    ///
    /// # Errors
    ///
    /// The kernel object has no such map.
    pub fn new(loader: &mut Loader) -> Result<Tracking> {
        Ok(Tracking { phase: loader.take_map("TRACKING_PHASE")? })
    }

    /// Tracks packets from their start, and a moment later also those that are found mid-path. A packet that was in
    /// flight while the probes were attached has left by then, and is not mistaken for one whose start is unknown.
    ///
    /// # Errors
    ///
    /// The kernel's error.
    pub fn start(&mut self) -> Result<()> {
        self.set(TrackingPhase::StartsOnly)?;
        thread::sleep(IN_FLIGHT);
        self.set(TrackingPhase::All)
    }

    /// Tracks no further packets, and waits until those that are in flight have reached their end.
    ///
    /// # Errors
    ///
    /// The kernel's error.
    pub fn stop(&mut self) -> Result<()> {
        self.set(TrackingPhase::Off)?;
        thread::sleep(IN_FLIGHT);
        Ok(())
    }

    fn set(&mut self, phase: TrackingPhase) -> Result<()> {
        Ok(self.phase.set(0, phase as u64, 0)?)
    }
}
