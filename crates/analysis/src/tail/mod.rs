//! Why the slow packets are slow: the slow set of a recording compared with the ordinary rest.
//!
//! The recording is read twice: first for the distribution of times, from which the threshold follows, then for the time
//! that each set spent in each stage. A packet's time runs from the start of its path to its end; a packet that was made
//! of another one (segment, fragment, copy) inherits that one's path. Memory does not grow with the recording.

mod comparison;
mod cpus;
mod drop_site;
mod excess;
mod finding;
mod findings;
mod live;
mod loss;
mod pairs;
mod reading;
mod rule;
mod rules;
mod sample;
mod samples;
mod set_sums;
mod slowest;
mod tcp;
mod threshold;

pub use comparison::{SampleSet, Tail, TailRow};
pub use cpus::{CpuVisits, SingleCpu};
pub use drop_site::DropSite;
pub use finding::{Finding, Retransmitted, Severity};
pub use live::cause_of;
pub use overlay_trace_format::Threshold;
pub use rule::{Advice, Evidence, Rule};
pub use rules::rules;
pub use sample::Of;
pub use slowest::{SlowPacket, Step};
pub use tcp::{RetransmissionGroup, RetransmitTrigger, TcpView, TimeoutWaits};
