//! Recordings of several machines joined to one path per packet: guests, their hypervisors, and nodes.
//!
//! A *machine* is one kernel with one CLOCK_MONOTONIC, an *edge* a device whose other side is not in that kernel. The path
//! of a packet on one machine is a *leg*; a *crossing* leads from the exit of one leg to the entry of another. All of this
//! is pure: recordings in, a recording of merged paths and a summary out.
//!
//! - [`edge`]: where a record leaves and enters its machine.
//! - [`links`]: which edges are joined, and the machines' clocks in terms of one of them ([`clock`], [`polygon`]).
//! - [`mod@join`]: which exit and which entry are the same packet.
//! - [`paths`]: the merged paths; [`summary`]: what there is to say about them.

pub mod clock;
pub mod edge;
mod error;
pub mod join;
pub mod links;
mod machine;
mod merged_header;
pub mod paths;
pub mod polygon;
mod ranges;
pub mod summary;

pub use error::MergeError;
pub use machine::Machine;
pub use summary::Summary;

use std::path::Path;

use anyhow::Result;
use overlay_trace_format::Recording;

/// How to merge.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The node whose clock the others are expressed in; `None`: the one with most neighbours.
    pub reference: Option<String>,
}

/// Merges recordings of different machines, in any order, to one at `output`, and says what was joined.
///
/// # Errors
///
/// One sentence: a recording cannot be read or merged, nothing crosses between the machines, or the output cannot be
/// written.
pub fn merge(recordings: Vec<Recording>, options: &Options, output: &Path, force: bool) -> Result<Summary> {
    let machines = machine::load(recordings)?;
    let reference = match &options.reference {
        None => None,
        Some(name) => Some(machine::named(&machines, name)?),
    };
    let (exits, entries) = machine::passages(&machines);
    let recorded: Vec<_> = machines.iter().map(Machine::recorded).collect();
    let start = |exit: &edge::Passage| {
        machines[usize::from(exit.device.machine)].records[exit.record as usize].header.start_ns
    };
    let joined = join::join(&recorded, &exits, &entries, &start, reference);
    if joined.joins.is_empty() {
        return Err(MergeError::NoCrossing { edges: machine::describe_edges(&machines) }.into());
    }
    let paths = paths::Paths::new(&machines, &joined, &exits, &entries)?;
    let sums = paths.write(output, force)?;
    Ok(summary::summary(&machines, &joined, &exits, &entries, sums))
}
