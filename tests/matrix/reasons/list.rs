//! The table of faults: what is done, and why and where packets are dropped then.

use anyhow::Result;

use super::bench::Bench;

/// A way to have packets dropped.
pub struct Fault {
    /// The drop reason that the kernel must give, or the function that frees the packet where it gives none.
    pub name: &'static str,
    /// Short name of the namespace where they are dropped.
    pub at: &'static str,
    /// Commands before and after, each with the namespace.
    pub make: Commands,
    pub undo: Commands,
    pub send: fn(&Bench) -> Result<()>,
    /// Not the traffic of programs: multicast, or the discovery of neighbours. It is no cause.
    pub is_background: bool,
}

type Commands = &'static [(&'static str, &'static str)];

pub const fn fault(name: &'static str, at: &'static str, send: fn(&Bench) -> Result<()>) -> Fault {
    Fault { name, at, make: &[], undo: &[], send, is_background: false }
}

impl Fault {
    pub const fn with(self, make: Commands, undo: Commands) -> Fault {
        Fault { make, undo, ..self }
    }

    pub const fn background(self) -> Fault {
        Fault { is_background: true, ..self }
    }
}

/// Every fault.
pub fn faults() -> impl Iterator<Item = &'static Fault> {
    [super::link::FAULTS, super::ip::FAULTS, super::ipv6::FAULTS, super::socket::FAULTS, super::tcp::FAULTS]
        .into_iter()
        .flatten()
}
