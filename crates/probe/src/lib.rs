//! The kernel side's loader: from the stage map and the running kernel to attached programs, and from
//! the ring buffer to a recording.

pub mod calibrate;
pub mod detection;
mod drops;
pub mod filter;
mod helper;
mod hops;
mod invented;
pub mod load;
mod manners;
pub mod modules;
mod news;
pub mod patch;
pub mod plan;
mod reader;
mod reasons;
pub mod session;
mod slow;
mod stub;
pub mod sys;
mod tunnels;
mod unprobed;

pub use drops::DropCount;
pub use filter::FilterOptions;
pub use overlay_trace_format::ProbeSet;
pub use plan::{Attachment, Plan, ProbeKind};
pub use reader::Summary;
pub use session::{Session, SessionOptions};
pub use slow::{Slow, SlowOptions};
pub use stub::Stub;
pub use unprobed::Unprobed;
