//! Why a recording cannot start.

use overlay_trace_format::ProbeSet;
use thiserror::Error;

use crate::sys::privilege::MissingPrivileges;

/// Why a recording cannot start. The variants are what a caller can act upon.
#[derive(Debug, Error)]
pub enum StartError {
    /// The output file exists already, or cannot be written there.
    #[error(transparent)]
    Output(anyhow::Error),
    #[error(transparent)]
    MissingPrivileges(#[from] MissingPrivileges),
    /// The kernel does not allow the probes of the wanted set.
    #[error("the probe set {} is not possible: {reason}; use --probes device", set.name())]
    SetNotPossible { set: ProbeSet, reason: String },
    /// The kernel refused every probe of the set at which a packet's path begins: nothing would be recorded.
    #[error("no probe of the set {} that sees packets' paths begin could be attached: `overlay-trace doctor` says why", set.name())]
    NothingAttached { set: ProbeSet },
    /// The kernel side relies on the order of memory accesses and on the registers of x86-64.
    #[error(
        "only x86-64 can be recorded so far: on {} packets would be missed without a word; the recordings of other machines \
         can be read here",
        std::env::consts::ARCH
    )]
    Architecture,
    /// The kernel lacks something else that is needed, or the system is out of something.
    #[error(transparent)]
    Other(#[from] anyhow::Error),
}
