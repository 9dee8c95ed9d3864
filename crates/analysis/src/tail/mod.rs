//! Why the slow packets are slow: the slow set of a recording compared with the ordinary rest.
//!
//! The recording is read twice: first for the distribution of times, from which the threshold follows, then for the time
//! that each set spent in each stage. A packet's time runs from the start of its path to its end; a packet that was made
//! of another one (segment, fragment, copy) inherits that one's path. Memory does not grow with the recording.

mod clients;
mod comparison;
mod counted;
mod counter_table;
mod cpus;
mod drop_evidence;
mod drop_site;
mod drop_table;
mod excess;
mod exchange;
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
mod tcp_waits;
mod threshold;
mod typical;

pub use comparison::{SampleSet, Tail, TailRow};
pub use counted::CountedAt;
pub(crate) use counted::agreeing;
pub use counter_table::{CounterRow, counter_row};
pub use cpus::{CpuVisits, SingleCpu};
pub use drop_site::DropSite;
pub use drop_table::{DropRow, Effect, Known, drop_row, drop_rows};
pub use finding::{Confidence, Finding, LossyFlows, Retransmitted, Severity};
pub use live::cause_of;
pub use overlay_trace_format::Threshold;
pub use rule::{Advice, Counters, Evidence, Rule, Sign};
pub use rules::rules;
pub use sample::Of;
pub use slowest::{SlowPacket, Step};
pub use tcp::{RetransmissionGroup, RetransmitTrigger, TcpView, TimeoutWaits};
