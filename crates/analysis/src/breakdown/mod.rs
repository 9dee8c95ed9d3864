//! From records to numbers: pure, in constant memory, testable without a kernel.
//!
//! Each packet's path is summed per [`Key`]; each key keeps the distribution of these sums, so a count is a number of
//! packets, not of visits. The keys' sums add up to the end-to-end sum exactly.

mod collect;
mod completions;
mod diff;
mod direction;
mod dist;
mod drops;
mod finish;
mod fold;
mod hop_keys;
mod key;
mod lineage;
mod order;
mod over_time;
mod packet_times;
mod parallel;
mod path_cost;
mod plan;
mod plan_of_path;
mod probe_cost;
mod record_rows;
mod rows;
mod shares;
mod stages;
mod sums;
mod traced_packet;

use std::collections::BTreeMap;

use anyhow::Result;

pub use collect::Collector;
pub use completions::Completion;
pub use diff::{Diff, DiffRow, Per, Side};
pub use direction::Direction;
pub use dist::Dist;
pub(crate) use dist::SUPPORT;
pub use key::{By, Key, Part};
pub use over_time::OverTime;
pub use record_rows::RecordRows;
pub(crate) use rows::{Between, Rows};
pub(crate) use stages::Facts;
pub(crate) use traced_packet::{PathAssembler, TracedPacket};

use overlay_trace_format::{
    Balance, Checkpoint, Header, HopName, KernelCounters, Names, NicCount, Recording, printable_bytes,
};

/// The breakdown of a recording: what its packets did, and where their time went.
pub struct Analysis {
    /// Name of the recording's file, without its folder.
    pub file: String,
    pub header: Header,
    pub names: Names,
    /// Counters and duration of the recording.
    pub last: Checkpoint,
    /// Whether the recorder finished; if not, the recording ended abruptly.
    pub complete: bool,
    /// Whether the records that were read are those that the recorder counted.
    pub balance: Balance,
    /// Results of traffic that ran during the recording.
    pub traffic: Vec<serde_json::Value>,
    /// What passed the NICs, and their names.
    pub nics: Vec<(HopName, NicCount)>,
    /// What the kernel's own counters grew by, if the recording says so.
    pub kernel_counters: Option<KernelCounters>,
    /// NICs of which an early version may have missed packets, as [`Header::reads_fragments`] says.
    pub doubtful_nics: Vec<HopName>,
    pub by: By,
    /// Records that were read, one for each packet whose path ended, or for several where
    /// [`Header::sampling`] says so.
    pub records: u64,
    /// How the paths ended, of the records that were read.
    pub outcomes: Outcomes,
    /// Records whose spans did not add up to their time. The missing part is in `other`, so that the
    /// totals hold; there should be none.
    pub inconsistent: u64,
    /// Paths with more spans than a record holds: the rest is in `other`.
    pub cut_paths: u64,
    /// Segments, fragments and clones whose parent is not known: its path is missing before theirs, and they have no share
    /// of its time.
    pub orphans: u64,
    /// Packets that were cut of which not every part was seen: those that were share its time.
    pub incomplete: u64,
    /// The time from the start to the end of each path, in ns. A packet that was cut has no path of its own here: its parts
    /// share its time by their lengths, so that no nanosecond is counted twice.
    pub end_to_end: Dist,
    /// The same net of probe overhead; its sum is that of all rows. `None` when the overhead was not measured.
    pub net: Option<Dist>,
    /// The lengths of these packets together.
    pub bytes: u64,
    /// Each packet's latency in ns: since the start of the packet that it was cut or cloned from, if there is one. Unlike in
    /// `end_to_end`, each part counts all of that time, not its share.
    pub latency: Dist,
    /// The part of the end-to-end sum that no stage claims, in ns.
    pub unclaimed: u128,
    /// Where the time went, in the order of the packets' path.
    pub rows: Vec<Row>,
    pub drops: Vec<Drop>,
    /// By device: how long its driver kept packets that it had sent. No part of `end_to_end`.
    pub completions: Vec<Completion>,
    /// Stages whose rows were taken out, and their part of the end-to-end sum.
    pub left_out: Vec<(String, f64)>,
    /// The course of time, where it was asked for: [`OverTime::of`].
    pub over_time: Option<OverTime>,
}

/// How many paths ended how.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcomes {
    pub delivered: u64,
    pub dropped: u64,
    /// Left the sight of the capture: sent out of the machine, or handed to what is not traced.
    pub forwarded: u64,
    /// Became a part of another packet (GRO, TCP coalescing).
    pub merged: u64,
    /// Was cut into segments or fragments.
    pub split: u64,
}

/// The packets' time at one key.
#[derive(Clone, Debug)]
pub struct Row {
    pub key: Key,
    /// How many packets on the wire the packets stand for.
    pub segments: u64,
    pub bytes: u64,
    /// The part of the end-to-end sum that is this row's, 0 to 1.
    pub share: f64,
    /// ns per packet that was here, as recorded.
    pub raw: Dist,
    /// The same net of probe overhead; `None` when the overhead was not measured. See [`Analysis::net`].
    pub net: Option<Dist>,
}

/// Packets that were dropped at one place for one reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drop {
    pub packets: u64,
    pub bytes: u64,
    /// The kernel's name of the reason, or its number; empty for "none given".
    pub reason: String,
    /// `function+offset`, or an address; empty for "none given".
    pub location: String,
    /// The stage that the packet was in.
    pub key: Key,
}

/// The name of a recording's file, without its folder.
pub(crate) fn file_name(recording: &Recording) -> String {
    printable_bytes(recording.path().file_name().unwrap_or_default().as_encoded_bytes())
}

/// What passed the NICs, with their names.
fn nics(recording: &Recording) -> Vec<(HopName, NicCount)> {
    let name = |hop: u16| recording.hops.get(&hop).cloned().unwrap_or_default();
    recording.nics.iter().map(|count| (name(count.hop), count.clone())).collect()
}

/// The NICs in a recording of an early version, which may have missed packets that came in through them.
fn doubtful_nics(recording: &Recording) -> Vec<HopName> {
    if recording.header.reads_fragments {
        return Vec::new();
    }
    let is_nic = |hop: &&HopName| hop.kind.is_empty() && !hop.device.is_empty() && hop.device != "lo";
    recording.hops.values().filter(is_nic).cloned().collect()
}

impl Analysis {
    /// Reads a recording to its end.
    ///
    /// # Errors
    ///
    /// One sentence: the recording cannot be read or is damaged.
    pub fn of(recording: &Recording, by: By) -> Result<Analysis> {
        let mut analysis = parallel::collect(recording, by)?.finish(&recording.names);
        analysis.file = file_name(recording);
        analysis.balance = recording.balance(analysis.records);
        let until = analysis.last.duration_ns;
        analysis.last = recording.last.clone();
        // What ended abruptly has packets after its last checkpoint, or never got to one.
        if !recording.complete {
            analysis.last.duration_ns = analysis.last.duration_ns.max(until);
        }
        analysis.complete = recording.complete;
        analysis.traffic = recording.traffic.clone();
        analysis.nics = nics(recording);
        analysis.kernel_counters = recording.kernel_counters.clone();
        analysis.doubtful_nics = doubtful_nics(recording);
        Ok(analysis)
    }

    /// Packets of the distributions: those whose record was read, without those that were cut.
    pub fn packets(&self) -> u64 {
        self.end_to_end.count()
    }

    /// Packets whose path ended: the kernel side's counter, lost records included. With sampling by packet an estimate.
    pub fn finished(&self) -> u64 {
        self.last.counters.finished.max(self.records).saturating_mul(self.sample())
    }

    /// Packets whose path started, without those that the filter rejected. With sampling by packet an estimate.
    pub fn started(&self) -> u64 {
        let counters = &self.last.counters;
        let followed = counters.started.saturating_sub(counters.without_record());
        followed.saturating_mul(self.sample()).max(self.finished())
    }

    /// Of how many packets one was followed.
    fn sample(&self) -> u64 {
        self.header.sample.map_or(1, u64::from)
    }

    /// Packets that were still in flight at the end of the recording, or whose end was missed.
    pub fn unfinished(&self) -> u64 {
        self.started() - self.finished()
    }

    /// The part of the end-to-end sum that no stage claims, 0 to 1.
    pub fn other_share(&self) -> f64 {
        self.unclaimed as f64 / self.end_to_end.sum().max(1) as f64
    }

    /// Takes the rows of these stages out, to give a picture room for the others. The shares and the
    /// totals of what stays do not change.
    pub fn leave_out(&mut self, stages: &[String]) {
        for stage in stages {
            let is_left_out = |row: &Row| row.key.stage.as_ref() == Some(stage);
            let share = self.rows.iter().filter(|row| is_left_out(row)).map(|row| row.share).sum();
            self.rows.retain(|row| !is_left_out(row));
            self.left_out.push((stage.clone(), share));
        }
    }

    /// The parts of the end-to-end sum by what `name` says of a row, in order of first appearance.
    pub fn shares(&self, name: impl Fn(&Key) -> String) -> Vec<(String, f64)> {
        let mut index = BTreeMap::new();
        let mut shares: Vec<(String, f64)> = Vec::new();
        for row in &self.rows {
            let name = name(&row.key);
            let at = *index.entry(name.clone()).or_insert_with(|| {
                shares.push((name, 0.0));
                shares.len() - 1
            });
            shares[at].1 += row.share;
        }
        shares
    }

    /// The common prefix of all namespaces, up to a hyphen. Outputs show it once at most, because it would take the room of
    /// what tells them apart.
    pub fn netns_prefix(&self) -> String {
        let mut names: Vec<&str> = self.rows.iter().filter_map(|row| row.key.netns.as_deref()).collect();
        names.retain(|name| !name.is_empty());
        names.sort_unstable();
        names.dedup();
        let [first, .., last] = names[..] else { return String::new() };
        let same = first.bytes().zip(last.bytes()).take_while(|(a, b)| a == b).count();
        first
            .get(..same)
            .and_then(|same| same.rfind('-'))
            .map_or(String::new(), |hyphen| first[..=hyphen].into())
    }

    /// Takes [`netns_prefix`](Analysis::netns_prefix) from the namespaces of all rows.
    pub fn strip_netns_prefix(&mut self) {
        let prefix = self.netns_prefix();
        for netns in self.rows.iter_mut().filter_map(|row| row.key.netns.as_mut()) {
            *netns = netns.strip_prefix(&*prefix).unwrap_or(netns).to_owned();
        }
    }

    /// The mean end-to-end time net of probe overhead, in ns; `None` when the overhead was not measured.
    pub fn net_mean(&self) -> Option<f64> {
        self.net.as_ref().filter(|net| net.count() > 0).map(Dist::mean)
    }
}
