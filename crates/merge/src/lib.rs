//! Recordings of several machines joined to one path per packet: guests, their hypervisors, and nodes.
//!
//! A *machine* is one kernel with one CLOCK_MONOTONIC, an *edge* a device whose other side is not in that kernel. The path
//! of a packet on one machine is a *leg*; a *crossing* leads from the exit of one leg to the entry of another. All of this
//! is pure: recordings in, a recording of merged paths and a summary out.
//!
//! - [`edge`]: where a record leaves and enters its machine.
//! - [`scan`]: all of these, on disk ([`spill`]), and a sample of them.
//! - [`mod@join`]: which exit and which entry of the sample are the same packet; from these follows which edges are joined,
//!   and the machines' clocks in terms of one of them ([`links`], [`clock`], [`polygon`]).
//! - [`stream`]: the same of all exits and entries.
//! - [`paths`]: the merged paths; [`summary`]: what there is to say about them.

pub mod clock;
pub mod edge;
mod error;
mod fetch;
pub mod join;
pub mod links;
mod machine;
mod merged_header;
mod no_join;
pub mod paths;
pub mod polygon;
mod ranges;
pub mod scan;
mod search;
pub mod spill;
mod store;
pub mod stream;
pub mod summary;
pub mod wall;

pub use error::MergeError;
pub use machine::Machine;
pub use summary::Summary;

use std::path::Path;

use anyhow::Result;
use overlay_trace_format::Recording;

use edge::Passage;
use join::How;
use paths::Paths;
use scan::Scanned;
use store::Store;
use stream::Sink;
use summary::Found;

/// How to merge.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The node whose clock the others are expressed in; `None`: the one with most neighbours.
    pub reference: Option<String>,
}

/// Merges recordings of different machines, in any order, to one at `output`, and says what was joined. What memory has no
/// room for meanwhile goes to files without names in the output's folder.
///
/// # Errors
///
/// One sentence: a recording cannot be read or merged, nothing crosses between the machines, or the output cannot be
/// written.
pub fn merge(recordings: Vec<Recording>, options: &Options, output: &Path, force: bool) -> Result<Summary> {
    let mut machines = machine::of(recordings)?;
    let reference = match &options.reference {
        None => None,
        Some(name) => Some(machine::named(&machines, name)?),
    };
    let folder = match output.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let Scanned { mut spill, sample, counts: passages } = scan::scan(&mut machines, folder)?;
    let exits = passages.values().map(|(exits, _)| exits).sum();
    let recorded: Vec<_> = machines.iter().map(Machine::recorded).collect();
    let known = {
        let (exits, entries) = sample.passages();
        join::join(&recorded, &exits, &entries, reference)
    };
    let mut joins = Joins { store: Store::new(&machines, exits), found: Found::new(&known.clocks) };
    let counts = stream::join_spilled(&known, &recorded, &mut spill, folder, &mut joins)?;
    let Joins { store, found } = joins;
    if store.is_empty() {
        return Err(no_join::reason(&machines, &passages).into());
    }
    let sums = Paths::new(&machines, (&known.links, &known.clocks), &store)?.write(output, force)?;
    let crossings = found.crossings(&machines);
    let left_by = |device| passages.get(&device).map_or(0, |(exits, _)| *exits);
    let lost = found.lost(&machines, &known.links, left_by);
    Ok(summary::summary(&machines, &known.clocks, counts, (crossings, lost), sums))
}

/// What is kept of joins as they are found.
struct Joins<'a> {
    store: Store,
    found: Found<'a>,
}

impl Sink for Joins<'_> {
    fn joined(&mut self, exit: &Passage, entry: &Passage, how: How, ns: u64) {
        self.store.add(exit, entry, how, ns);
        self.found.add_crossing(exit, entry, ns);
    }

    fn lost(&mut self, exit: &Passage, left_ns: i128) {
        self.found.add_lost(exit, left_ns);
    }
}
