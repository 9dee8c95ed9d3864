//! A recording's parts by namespaces, as recordings of their own.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::Result;
use overlay_trace_format::{
    Checkpoint, Counters, HopName, KernelCounters, RecordView, Recording, Writer, encode_record,
};

/// What a run did.
pub struct Part {
    /// How the names of its namespaces begin.
    pub prefix: String,
    pub duration_ns: u64,
}

impl Part {
    fn has(&self, netns: &str) -> bool {
        netns.starts_with(&self.prefix)
    }

    /// The counters of its namespaces. Those of the node are all runs'.
    fn counters(&self, all: &KernelCounters) -> KernelCounters {
        let netns: Vec<_> = all.netns.iter().filter(|netns| self.has(&netns.netns)).cloned().collect();
        let is_here = |inode: &u32| netns.iter().any(|netns| netns.netns_inode == *inode);
        let throttled = all.throttled.iter().filter(|group| group.netns_inodes.iter().any(is_here)).cloned();
        KernelCounters {
            duration_ns: self.duration_ns,
            throttled: throttled.collect(),
            unread: all.unread.iter().filter(|netns| self.has(netns)).cloned().collect(),
            node: Vec::new(),
            netns,
        }
    }
}

/// Writes each part's packets to a file of its own; gives the files.
pub fn write(recording: &Recording, parts: &[Part], folder: &Path) -> Result<Vec<PathBuf>> {
    let hops: Vec<(u16, HopName)> =
        recording.hops.iter().map(|(number, hop)| (*number, hop.clone())).collect();
    let part_of = |hop: &HopName| parts.iter().position(|part| part.has(&hop.netns));
    let by_hop: HashMap<u16, usize> =
        hops.iter().filter_map(|(number, hop)| Some((*number, part_of(hop)?))).collect();
    let (mut paths, mut writers) = (Vec::new(), Vec::new());
    for part in parts {
        let path = folder.join(format!("{}part.otr", part.prefix));
        let mut writer = Writer::create(&path, true, &recording.header)?;
        writer.hops(&hops)?;
        writer.names(&recording.names)?;
        if let Some(counters) = &recording.kernel_counters {
            writer.kernel_counters(&part.counters(counters))?;
        }
        paths.push(path);
        writers.push(writer);
    }
    let mut counts = vec![0; parts.len()];
    let mut bytes = Vec::new();
    let mut outcome = Ok(());
    recording.for_each_record(|record: RecordView<'_>| {
        let part = record.spans().find_map(|step| by_hop.get(&step.hop));
        if let Some(&part) = part.filter(|_| outcome.is_ok()) {
            counts[part] += 1;
            bytes.clear();
            encode_record(&record.header, record.path, &mut bytes);
            outcome = writers[part].records(&bytes);
        }
    })?;
    outcome?;
    for ((writer, part), count) in writers.into_iter().zip(parts).zip(counts) {
        let counters = Counters { started: count, finished: count, ..Counters::default() };
        writer.finish(&Checkpoint { duration_ns: part.duration_ns, counters, ..Checkpoint::default() })?;
    }
    Ok(paths)
}
