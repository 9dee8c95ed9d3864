//! Why a point of the stage map is not probed.

use thiserror::Error;

/// Why a point of the stage map cannot be probed on this kernel.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Unprobed {
    /// The function belongs to a module that is not loaded.
    #[error("needs module {0}")]
    ModuleNotLoaded(&'static str),
    /// The function should be in the kernel itself, and is not.
    #[error("no function {0} in this kernel")]
    NoFunction(&'static str),
    #[error("this kernel has no tracepoint {0}")]
    NoTracepoint(&'static str),
    /// The probe set attaches to tracepoints only.
    #[error("kernel functions are not probed by the device set")]
    TracepointsOnly,
    /// No program reads an argument at this position.
    #[error("{function} has the packet at argument {argument}")]
    ArgumentTooFar { function: &'static str, argument: u8 },
    /// Only fexit sees a function's exit with its arguments.
    #[error("the exit of {0} is needed, which only fexit sees")]
    NeedsFexit(&'static str),
    /// The kernel refused each alternative, with its own words.
    #[error("{0}")]
    Refused(String),
}

impl Unprobed {
    /// The module that would have to be loaded.
    pub fn module(&self) -> Option<&'static str> {
        match self {
            Unprobed::ModuleNotLoaded(module) => Some(module),
            _ => None,
        }
    }
}
