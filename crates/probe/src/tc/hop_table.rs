//! The kernel side's table of hops, which the loader writes for the set `tc`.

use anyhow::Result;
use aya::maps::{Array, MapData};
use overlay_trace_common::record::Hop;

use super::{at_device::AtDevice, devices::Device};
use crate::{hop_names::RawHop, load::Loader, sys::clock::monotonic_ns};

/// The table, from which the names of hops are read.
pub struct HopTable {
    hops: Array<MapData, RawHop>,
    /// How many hops there are.
    count: Array<MapData, u64>,
    last: u16,
}

impl HopTable {
    /// The empty table.
    ///
    /// # Errors
    ///
    /// The kernel object has none.
    pub fn new(loader: &Loader) -> Result<HopTable> {
        Ok(HopTable { hops: loader.share_array("HOPS")?, count: loader.share_array("HOP_COUNT")?, last: 0 })
    }

    /// Adds a device, and gives the number of its hop.
    ///
    /// # Errors
    ///
    /// The table is full.
    pub fn add(&mut self, at: &AtDevice, device: &Device) -> Result<u16> {
        let mut hop = Hop {
            netns: at.netns,
            ifindex: at.ifindex,
            netns_mix: at.netns_cookie as u32,
            since_ns: monotonic_ns(),
            ..Hop::default()
        };
        put(&mut hop.device, &device.name);
        put(&mut hop.kind, &device.kind);
        let number = self.last + 1;
        self.hops.set(number.into(), RawHop(hop), 0)?;
        self.count.set(0, u64::from(number), 0)?;
        self.last = number;
        Ok(number)
    }
}

/// A text, cut if need be so that it ends with a NUL.
fn put(target: &mut [u8; 16], text: &str) {
    let length = text.len().min(target.len() - 1);
    target[..length].copy_from_slice(&text.as_bytes()[..length]);
}
