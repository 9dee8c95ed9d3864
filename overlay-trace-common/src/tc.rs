//! The TC hooks: the short sibling of the stage map, for the probe set `tc`.
//!
//! A hook is one side of a device, where a classifier sees each packet that comes in or goes out. A packet is in the
//! stage of the last hook that saw it, until the next hook sees it or the packet is dropped. So the stages of a path
//! are the intervals between its hooks, and the path ends where a hook saw the packet last.

use crate::stage_map::{TC_EGRESS, TC_INGRESS};

/// Maximum number of hooks: the kernel side has a small program for each.
pub const HOOKS_MAX: usize = 256;
/// What the names of these programs begin with; the hook's number follows. Filters are known by it.
pub const HOOK_NAME: &str = "overlay_trace_";
/// The name of the program that they all call.
pub const PASSED_NAME: &str = "tc_passed";
/// The name of the program that ends the paths of packets that have not been seen for long.
pub const SWEEP_NAME: &str = "tc_sweep";
/// Entries of the packet table that one run of [`SWEEP_NAME`] looks at.
pub const SWEPT: u32 = 16;

/// A side of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Side {
    /// Packets that the device has received: behind GRO, before IP or the bridge.
    Ingress,
    /// Packets that are handed to the device: before its qdisc and segmentation.
    Egress,
}

impl Side {
    /// The sides of a device.
    pub const ALL: [Side; 2] = [Side::Ingress, Side::Egress];

    /// The number of the stage that begins here.
    pub const fn stage(self) -> u8 {
        match self {
            Side::Ingress => TC_INGRESS,
            Side::Egress => TC_EGRESS,
        }
    }

    /// The side's name in every output.
    pub const fn name(self) -> &'static str {
        match self {
            Side::Ingress => "ingress",
            Side::Egress => "egress",
        }
    }
}

/// A hook, as the loader describes it to the kernel side: an entry of the map `TC_HOOKS`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Hook {
    /// The number of its hop.
    pub hop: u16,
    /// The number of the stage that begins here.
    pub stage: u8,
    /// 1: the filter selects this hop, or does not filter by hop.
    pub matched: u8,
    /// 1: the device is an edge of this machine, a NIC or a tap.
    pub is_edge: u8,
    /// 1: an unknown packet here is a new one, also if it was received through a device: nothing was to see it before.
    pub starts: u8,
    /// 1: a packet begins with an Ethernet header here; 0: with its IP header.
    pub has_ethernet: u8,
    /// 1: the same synthetic packet comes here again and again, to measure the cost.
    pub calibrates: u8,
}

impl Hook {
    /// Whether it sees packets that come in.
    #[inline(always)]
    pub const fn is_ingress(&self) -> bool {
        self.stage == TC_INGRESS
    }
}
