//! What the worker threads tell the thread that writes the recording.

use overlay_trace_format::{HopName, Names, SeenLater};

/// Something to be written beside the packets' records.
pub enum WorkerMessage {
    /// Stages that are probed from now on.
    Stages(Vec<SeenLater>),
    /// Names of addresses in the kernel, or of drop reasons.
    Names(Names),
    /// Hops that are new, or known ones whose namespace has a better name now.
    Hops(Vec<(u16, HopName)>),
}
