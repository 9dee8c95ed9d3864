//! From the stage map and the running kernel to attached programs, and from the ring buffer to a recording.
//!
//! [`Session`] is a recording in progress. It reads the [`Kernel`](sys::kernel::Kernel), makes a [`Plan`], attaches it
//! with the [`Loader`](load::Loader), and moves records to the file. [`detection`] finds container networks on this
//! machine. [`sys`] is the running system: the `bpf` system call, BTF, kallsyms, namespaces.

mod alternatives;
mod attachment;
mod baseline_program;
pub mod calibrate;
pub mod detection;
mod drop_reasons;
mod drops;
mod error;
pub mod filter;
mod filter_watch;
mod functions;
mod hop_names;
mod kernel_counters;
mod kernel_log;
mod kernel_object;
mod late_probes;
mod latency_threshold;
pub mod load;
pub mod modules;
mod nic_counts;
mod parallel;
pub mod patch;
pub mod plan;
pub mod pods;
mod privileged;
mod probe_choice;
mod probe_kind;
mod probes;
mod program;
mod reader;
mod recording_header;
mod sampling;
mod sched_policy;
pub mod session;
mod start_gate;
mod start_progress;
mod summary;
mod synthetic_skb_cost;
pub mod sys;
pub mod tc;
mod tracking_phase;
mod translations;
mod tunnels;
mod unprobed;
mod worker;
mod worker_message;

pub use attachment::Attachment;
pub use baseline_program::BaselineProgram;
pub use drop_reasons::{drop_reasons, is_given};
pub use drops::DropCount;
pub use error::StartError;
pub use filter::{FilterOptions, protocol};
pub use functions::wanted_functions;
pub use overlay_trace_format::ProbeSet;
pub use plan::Plan;
pub use probe_kind::ProbeKind;
pub use program::{Context, Program};
pub use sampling::{PacketSampling, SamplingOptions, TailSampling};
pub use session::{Session, SessionOptions};
pub use start_gate::StartGate;
pub use start_progress::StartProgress;
pub use summary::Summary;
pub use unprobed::Unprobed;
