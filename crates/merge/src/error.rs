//! What keeps recordings from being merged.

use std::fmt;

/// Why recordings cannot be merged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MergeError {
    /// Fewer than two recordings.
    TooFew,
    /// Two recordings of one start of one machine.
    SameBoot { first: String, second: String },
    /// A recording in which not every packet has its record.
    Sampled { file: String },
    /// There is no such node.
    NoNode { name: String, known: String },
    /// By the wall clocks no two machines recorded at the same time; these two are the nearest.
    NoOverlap { earlier: String, later: String, ns: u64 },
    /// No packet was found that left one machine and entered another.
    NoCrossing { edges: String },
    /// The merged recording would have more hops than a record can name.
    TooManyHops,
    /// It would have more stages than a record can name.
    TooManyStages,
    /// A packet would have been between two machines, or in one stage, for longer than a record can say.
    TooLong,
}

impl fmt::Display for MergeError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MergeError::TooFew => out.write_str("give recordings of at least two machines"),
            MergeError::SameBoot { first, second } => write!(
                out,
                "{first} and {second} are recordings of one machine: give one recording of each machine"
            ),
            MergeError::Sampled { file } => write!(
                out,
                "{file} has records of some packets only (tail sampling): record without it to merge"
            ),
            MergeError::NoNode { name, known } => {
                write!(out, "there is no recording of the node {name}: there are {known}")
            }
            MergeError::NoOverlap { earlier, later, ns } => write!(
                out,
                "{earlier} ended {:.1} s before {later} began, by their wall clocks: only what machines recorded at \
                 the same time can be merged",
                *ns as f64 / 1e9
            ),
            MergeError::NoCrossing { edges } => {
                write!(out, "no packet crosses from one of the machines to another; their edges are {edges}")
            }
            MergeError::TooManyHops => {
                out.write_str("the machines have more devices than a recording can name")
            }
            MergeError::TooManyStages => {
                out.write_str("the stage maps have more stages than a recording can name")
            }
            MergeError::TooLong => out.write_str(
                "a packet would have been on its path for more than 78 hours at one place: the recordings' times \
                 are damaged",
            ),
        }
    }
}

impl std::error::Error for MergeError {}
