//! The recording file (`.otr`): what `record` writes and everything else reads.
//!
//! A recording describes itself: it carries the stage map that it was made with, the names of devices,
//! namespaces, drop reasons and kernel addresses, and what was lost. It can be read on any machine of
//! the same byte order, without privileges, and in constant memory.
//!
//! It is a sequence of chunks, each complete in itself ([`mod@format`]), so that what a killed recorder or a
//! full disk leaves behind can still be used.

mod extract;
pub mod format;
mod header;
mod reader;
mod records;
mod writer;

pub use extract::extract;
pub use header::{
    Checkpoint, Counters, Header, HopName, Names, ProbeCost, ProbeKind, Sampling, SeenLater, StageRow,
    UnseenStage,
};
pub use reader::Recording;
pub(crate) use records::record_of;
pub use records::{RecordView, encode_record, encode_way};
pub(crate) use writer::open_output;
pub use writer::{Writer, check_output};
