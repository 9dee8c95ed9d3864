//! Recordings in the formats of other tools: trace viewers, profilers, packet analysers and query engines.
//!
//! Formats of single packets (Perfetto, pcapng, Parquet, JSON Lines) have every record with its own path: weighted by
//! their weight, all spans add up to the report's end-to-end sum. Formats of profiles (folded, speedscope, pprof) have the
//! rows of the report. Nothing is measured anew.

mod folded;
mod format;
mod jsonl;
mod packet;
mod parquet;
mod pcapng;
mod perfetto;
mod pprof;
mod speedscope;
#[cfg(test)]
mod tests;

use std::io::Write;

use anyhow::Result;
use overlay_trace_analysis::breakdown::{Analysis, By};
use overlay_trace_format::Recording;

pub use format::Format;

/// What was exported.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Exported {
    /// Records, or rows of a profile.
    pub items: u64,
    /// Records that the format cannot express: their headers could not be read.
    pub left_out: u64,
}

/// Writes a recording in a format.
///
/// # Errors
///
/// One sentence: the recording cannot be read, is too large for the format, or the output cannot be written.
pub fn export(recording: &Recording, format: Format, out: impl Write + Send) -> Result<Exported> {
    let profile = || Analysis::of(recording, By::Stage);
    match format {
        Format::Folded => folded::write(&mut profile()?, out),
        Format::Speedscope => speedscope::write(&profile()?, out),
        Format::Pprof => pprof::write(&profile()?, out),
        Format::Perfetto => perfetto::write(recording, out),
        Format::Pcapng => pcapng::write(recording, out),
        Format::Parquet => parquet::write(recording, out),
        Format::Jsonl => jsonl::write(recording, out),
    }
}
