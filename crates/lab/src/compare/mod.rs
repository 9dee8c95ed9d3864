//! Compares labs under the same traffic.
//!
//! A [`Plan`] is data: a sequence of traffic runs. Each lab gets the plan twice. Throughput, latency and CPU time are
//! measured without a recording, the time per stage with one, because probes have overhead and only stage times can
//! be corrected for it. Each lab's result is a file of its own in the [`Folder`], so that an interrupted comparison
//! continues where it stopped.

mod check_claims;
mod cpu_time;
mod csv;
mod flame_graph;
mod json;
mod machine_limits;
mod measure;
mod page;
mod per_packet;
mod plan;
mod progress;
mod published_claims;
mod result;
mod result_folder;
mod summary;
mod text;

pub use check_claims::{CheckedClaim, Figure, Verdict, check, checked_claims_text};
pub use csv::csv;
pub use json::json;
pub use machine_limits::Machine;
pub use measure::{BuiltLab, Options, groups, measure, record};
pub use page::page;
pub use plan::{PLANS, Plan, Setting};
pub use progress::Progress;
pub use published_claims::{CLAIMS, Claim, Measure, Side};
pub use result::{Conditions, Cpu, LabResult, Measured, Outcome, Run, StageTime, Stages};
pub use result_folder::Folder;
pub use summary::{Comparison, Row};
pub use text::text;

/// The lab that all others are compared with.
pub const BASELINE: &str = "host";
