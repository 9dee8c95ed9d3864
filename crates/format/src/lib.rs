//! The recording file (`.otr`): what `record` writes and everything else reads.
//!
//! A recording describes itself: it carries the stage map that it was made with, the names of devices,
//! namespaces, drop reasons and kernel addresses, and what was lost. It can be read on any machine of
//! the same byte order, without privileges, and in constant memory.
//!
//! It is a sequence of chunks, each complete in itself ([`mod@format`]), so that what a killed recorder or a
//! full disk leaves behind can still be used.

mod anonymise;
mod balance;
mod cut;
pub mod detection;
mod dump;
mod error;
mod existing;
mod extract;
mod flow_addresses;
pub mod format;
mod header;
mod join;
mod kernel_counters;
mod legacy;
mod machine;
mod nic_counts;
mod output_file;
mod place;
mod pod;
mod printable;
mod probe_kind;
mod probe_set;
mod reader;
mod records;
mod records_chunk;
mod ring;
mod selection;
mod stage_row;
mod threshold;
mod translation;
mod writer;

pub use anonymise::Anonymiser;
pub use balance::Balance;
pub use cut::{Cut, Selection, cut};
pub use detection::Detection;
pub use dump::dump;
pub use error::ReadError;
pub use extract::extract;
pub use flow_addresses::flow_addresses;
pub use header::{
    Checkpoint, Counters, Header, HopName, MACHINE_SEPARATOR, Names, ProbeCost, Sampling, SeenLater,
    UnseenStage,
};
pub use join::{Joined, join};
pub use kernel_counters::{
    COUNTED_MAX, GROUP_MEMBERS_MAX, GROWTHS_MAX, Growth, KernelCounters, NetnsCounters, ThrottledCgroup,
};
pub use machine::{ClockReading, Interface, Machine};
pub use nic_counts::{NicCount, NicDirection, NicUnit};
pub use output_file::{OutputFile, Readers, ReservedOutput};
pub use place::{check_folder, is_trusted};
pub use pod::{Pod, PodFilter};
pub use printable::{printable, printable_bytes};
pub use probe_kind::ProbeKind;
pub use probe_set::ProbeSet;
pub use reader::Recording;
pub use records::{RecordView, encode_path, encode_record, is_whole_record, record_of};
pub use ring::{RING_MIN, RingFolder, segments};
pub use stage_row::{Behaviour, StageRow, outcome_name, protocol_name};
pub use threshold::Threshold;
pub use translation::Translation;
pub use writer::{Writer, check_output, reserve_output};
