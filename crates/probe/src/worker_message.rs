//! What the privileged thread and others tell each other.

use std::{collections::HashMap, sync::mpsc::Sender};

use overlay_trace_format::{HopName, KernelCounters, Names, SeenLater, Translation};

use crate::sys::driver_counts::{Device, NamedCount};

/// What the privileged thread is asked for.
pub enum Request {
    /// The names of addresses in the kernel.
    AddressNames(Vec<u64>),
    /// What the drivers of these hops have counted; the answer goes there.
    DriverCounts(Vec<u16>, Sender<HashMap<Device, NamedCount>>),
}

/// Something to be written beside the packets' records.
pub enum WorkerMessage {
    /// Stages that are probed from now on.
    Stages(Vec<SeenLater>),
    /// Names of addresses in the kernel, or of drop reasons.
    Names(Names),
    /// Hops that are new, or known ones whose namespace has a better name now.
    Hops(Vec<(u16, HopName)>),
    /// Clients whose address is translated, which are new.
    Translations(Vec<Translation>),
    /// Sentences about what the filter names.
    Notes(Vec<String>),
    /// What the kernel's own counters grew by.
    KernelCounters(KernelCounters),
}
