//! The running system as distributions. A recording in progress is followed ([`Follower`]) and summed into an
//! [`Aggregation`], which `overlay-trace monitor` exposes as metrics ([`metrics`], [`http`]) and `overlay-trace top` shows.

mod aggregation;
mod follow;
mod histogram;
pub mod http;
mod labels;
pub mod metrics;

pub use aggregation::{Aggregation, Devices, DropCount, Retired};
pub use follow::{Follower, Replay, Tick};
pub use histogram::{BOUNDS_PER_OCTAVE, Histogram};
pub use labels::{DropLabels, Labels, OTHER};
