//! Ends the paths of packets whose end no tracepoint shows, as those of TCP, which frees them silently.

use std::{os::fd::AsFd, time::Duration};

use anyhow::{Context, Result};
use aya::{
    maps::{Array, MapData},
    programs::ProgramFd,
};
use overlay_trace_common::tc::{SWEEP_NAME, SWEPT};

use super::hooks::load;
use crate::{load::Loader, synthetic_skb_cost::datagram, sys::bpf};

/// Runs the kernel side's program that ends the paths of packets that no hook has seen for long.
pub struct Sweeper {
    program: ProgramFd,
    idle_ns: Array<MapData, u64>,
    /// Runs for the whole packet table.
    runs: u32,
}

impl Sweeper {
    /// Loads the program, for a packet table of so many entries.
    ///
    /// # Errors
    ///
    /// The kernel refuses it.
    pub fn new(loader: &mut Loader, states: u32) -> Result<Sweeper> {
        let program = load(loader, SWEEP_NAME)?.fd()?.try_clone()?;
        let idle_ns = loader.take_map("TC_SWEEP_IDLE_NS")?;
        Ok(Sweeper { program, idle_ns, runs: states.div_ceil(SWEPT) })
    }

    /// Ends the paths of all packets that no hook has seen for so long.
    ///
    /// # Errors
    ///
    /// The kernel's error.
    pub fn sweep(&mut self, idle: Duration) -> Result<()> {
        self.idle_ns.set(0, idle.as_nanos() as u64, 0)?;
        bpf::run_ns(self.program.as_fd().as_fd(), &datagram(), 1, self.runs)
            .context("the kernel does not run the program that ends paths")?;
        Ok(())
    }
}
