//! The kernel side's loader: from the stage map and the running kernel to attached programs, and from
//! the ring buffer to a recording.

pub mod calibrate;
pub mod filter;
pub mod load;
pub mod modules;
pub mod patch;
pub mod plan;
pub mod session;
mod tunnels;

pub use filter::FilterOptions;
pub use plan::{Attachment, Plan, ProbeKind, ProbeSet};
pub use session::{Session, SessionOptions, Summary};
