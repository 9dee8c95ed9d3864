//! A recording's windows as recordings of their own, as if each had been made alone.

use std::path::{Path, PathBuf};

use anyhow::Result;
use overlay_trace_format::{Checkpoint, HopName, Recording, Writer, encode_record};

use crate::truth::fixture::Window;

/// Writes the packets that began in each window to a file of its own, whose name begins so; gives the files.
pub fn cut(recording: &Recording, windows: &[Window], (folder, name): (&Path, &str)) -> Result<Vec<PathBuf>> {
    let hops: Vec<(u16, HopName)> =
        recording.hops.iter().map(|(number, hop)| (*number, hop.clone())).collect();
    let mut files = Vec::new();
    for (number, window) in windows.iter().enumerate() {
        let path = folder.join(format!("{name}-{number}.otr"));
        let mut writer = Writer::create(&path, true, &recording.header)?;
        writer.hops(&hops)?;
        writer.names(&recording.names)?;
        files.push((path, writer, window, Vec::new()));
    }
    recording.for_each_record(|record| {
        let start_ns = record.header.start_ns;
        // Windows follow each other.
        let at = files.partition_point(|(_, _, window, _)| window.begin_ns <= start_ns);
        if let Some((_, _, window, bytes)) = at.checked_sub(1).map(|at| &mut files[at])
            && start_ns < window.end_ns
        {
            encode_record(&record.header, record.path, bytes);
        }
    })?;
    let mut paths = Vec::new();
    for (path, mut writer, window, bytes) in files {
        writer.records(&bytes)?;
        let duration_ns = window.end_ns - window.begin_ns;
        writer.finish(&Checkpoint { duration_ns, ..Checkpoint::default() })?;
        paths.push(path);
    }
    Ok(paths)
}
