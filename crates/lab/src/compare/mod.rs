//! The same traffic through several labs, and one comparison of them.
//!
//! A [`Plan`] is data: which traffic, in which order. Each lab gets it twice. What users would see,
//! throughput, latency and CPU time, is measured without a recording; where the packets' time goes, with one:
//! the probes cost something, and what they cost is taken off the stage times alone. A lab's result is a file of
//! its own in the [`Folder`], so a comparison that was interrupted goes on where it stopped.

mod claims;
mod cpu;
mod csv;
mod flame;
mod folder;
mod json;
mod layers;
mod machine;
mod measure;
mod page;
mod plan;
mod progress;
mod reproduce;
mod result;
mod summary;
mod text;

pub use claims::{CLAIMS, Claim, Measure, Side};
pub use csv::csv;
pub use folder::Folder;
pub use json::json;
pub use machine::Machine;
pub use measure::{Options, Standing, groups, measure, record};
pub use page::page;
pub use plan::{PLANS, Plan, Setting};
pub use progress::Progress;
pub use reproduce::{Checked, Figure, Verdict, check, reproduced};
pub use result::{Conditions, Cpu, LabResult, Measured, Outcome, Run, StageTime, Stages};
pub use summary::{Comparison, Row};
pub use text::text;

/// The lab that the others are compared with.
pub const BASELINE: &str = "host";
